"""Cortical surfaces and the masks and labels that come with them."""

import gzip
import re

import numpy as np
import pytest
import scipy.io

import colgraph as cg
from colgraph.geometry.readers import MASK_SUFFIXES, from_object, read_geometry, read_mask
from colgraph.geometry.readers.parcellations import read_parcellation

nib = pytest.importorskip("nibabel")
from nibabel import freesurfer, gifti  # noqa: E402

N = 42


@pytest.fixture(scope="module")
def ball():
    geometry = cg.geometry("sphere", subdivisions=1)
    return geometry.positions.astype(np.float32), geometry.faces.astype(np.int32)


def gifti_image(*arrays, table=None):
    image = gifti.GiftiImage(darrays=[gifti.GiftiDataArray(data, intent=f"NIFTI_INTENT_{i}") for data, i in arrays])
    if table is not None:
        image.labeltable = gifti.GiftiLabelTable()
        for key, name in table.items():
            label = gifti.GiftiLabel(key, 1, 0, 0, 1)
            label.label = name
            image.labeltable.labels.append(label)
    return image


def surface_image(ball):
    return gifti_image((ball[0], "POINTSET"), (ball[1], "TRIANGLE"))


def label_image(keys, table):
    return gifti_image((np.asarray(keys, dtype=np.int32), "LABEL"), table=table)


def pack(path, packed):
    if not packed:
        return path
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return target


# ---------------------------------------------------------------------- surfaces


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["ball.gii", "lh.ball.surf.gii"])
def test_gifti_round_trip(tmp_path, ball, name, packed):
    (tmp_path / name).write_bytes(surface_image(ball).to_bytes())
    geometry = read_geometry(pack(tmp_path / name, packed))
    np.testing.assert_array_equal(geometry.positions, ball[0])
    np.testing.assert_array_equal(geometry.faces, ball[1])
    assert geometry.metric == "geodesic"
    assert geometry.axis is None
    assert geometry.name == name


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "name", ["lh.pial", "rh.white", "lh.inflated", "lh.sphere.reg", "lh.pial.T1", "surface", "a.surf"]
)
def test_freesurfer_round_trip(tmp_path, ball, name, packed):
    freesurfer.write_geometry(tmp_path / name, *ball)
    geometry = read_geometry(pack(tmp_path / name, packed))
    np.testing.assert_array_equal(geometry.positions, ball[0])
    np.testing.assert_array_equal(geometry.faces, ball[1])
    assert geometry.name == name


def test_freesurfer_quadrangles_become_triangles(tmp_path):
    def three(number):
        return int(number).to_bytes(3, "big")

    corners = np.array([[0, 0, 0], [100, 0, 0], [100, 100, 0], [0, 100, 0]], dtype=">i2")  # hundredths
    data = b"\xff\xff\xff" + three(4) + three(1) + corners.tobytes() + b"".join(map(three, [0, 1, 2, 3]))
    (tmp_path / "lh.orig").write_bytes(data)
    geometry = read_geometry(tmp_path / "lh.orig")
    assert geometry.faces.shape == (2, 3)
    np.testing.assert_array_equal(geometry.positions[2], [1, 1, 0])


def test_all_vertices_of_a_surface_are_kept(tmp_path, ball):
    points = np.concatenate([ball[0], ball[0][:2]])  # two that no triangle uses, at the place of others
    image = gifti_image((points, "POINTSET"), (ball[1], "TRIANGLE"))
    (tmp_path / "cut.surf.gii").write_bytes(image.to_bytes())
    assert read_geometry(tmp_path / "cut.surf.gii").num_columns == N + 2


def test_surface_objects(ball):
    assert from_object(surface_image(ball)).faces.shape == (80, 3)
    surface = pytest.importorskip("nilearn.surface")
    mesh = surface.InMemoryMesh(coordinates=ball[0], faces=ball[1])
    assert from_object(mesh).num_columns == N
    both = from_object(surface.PolyMesh(left=mesh, right=mesh))
    assert both.num_columns == 2 * N
    np.testing.assert_array_equal(both.layer, np.repeat([0, 1], N))
    assert both.faces.max() == 2 * N - 1


def test_files_without_a_surface_are_errors(tmp_path, ball):
    cases = {
        "a.label.gii": (label_image(np.zeros(N), {0: "???"}), "0 and 0.*it holds label.*give the .surf.gii"),
        "a.func.gii": (gifti_image((np.zeros(N, np.float32), "SHAPE")), "it holds shape"),
        "two.surf.gii": (gifti_image(*[(ball[0], "POINTSET")] * 2, (ball[1], "TRIANGLE")), "has 2 and 1"),
        "points.surf.gii": (gifti_image((ball[0], "POINTSET")), "has 1 and 0"),
        "empty.surf.gii": (gifti_image(), "it holds nothing"),
    }
    for name, (image, expected) in cases.items():
        (tmp_path / name).write_bytes(image.to_bytes())
        with pytest.raises(ValueError, match=expected) as caught:
            read_geometry(tmp_path / name)
        assert name in str(caught.value)
    freesurfer.write_morph_data(tmp_path / "lh.thickness", np.ones(N))
    with pytest.raises(ValueError, match=r"lh.thickness.*one value per vertex"):
        read_geometry(tmp_path / "lh.thickness")
    (tmp_path / "lh.white").write_text("this is text")
    with pytest.raises(ValueError, match=r"lh.white.*not a FreeSurfer surface"):
        read_geometry(tmp_path / "lh.white")


def test_bad_vertices_and_faces_are_named(tmp_path, ball):
    points, faces = ball[0].copy(), ball[1].copy()
    points[5, 1] = np.nan
    freesurfer.write_geometry(tmp_path / "lh.pial", points, faces)
    with pytest.raises(ValueError, match=r"lh.pial.*column 5"):
        read_geometry(tmp_path / "lh.pial")
    faces[3, 2] = 99
    freesurfer.write_geometry(tmp_path / "lh.pial", ball[0], faces)
    with pytest.raises(ValueError, match="vertex 99, but there are 42"):
        read_geometry(tmp_path / "lh.pial")


@pytest.mark.parametrize("kind", ["gifti", "freesurfer"])
def test_surfaces_cut_short_are_errors(tmp_path, ball, kind):
    path = tmp_path / {"gifti": "ball.gii", "freesurfer": "lh.pial"}[kind]
    if kind == "gifti":
        path.write_bytes(surface_image(ball).to_bytes())
    else:
        freesurfer.write_geometry(path, *ball)
    data = path.read_bytes()
    for size in [2, len(data) // 3, len(data) - 9]:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=path.name):
            read_geometry(path)


def external(ball, name="ball.dat"):
    """A surface whose numbers are in a file of their own, and that file."""
    text = surface_image(ball).to_bytes().decode()
    parts = [ball[0].astype("<f4").tobytes(), ball[1].astype("<i4").tobytes()]
    text = re.sub("<Data>.*?</Data>", "<Data></Data>", text, flags=re.DOTALL)
    text = re.sub('Encoding="[^"]*"', 'Encoding="ExternalFileBinary"', text)
    for offset in (0, len(parts[0])):
        empty, beside = (
            'ExternalFileName="{}" ExternalFileOffset="{}"'.format(*pair) for pair in (("", 0), (name, offset))
        )
        text = text.replace(empty, beside, 1)
    return text, b"".join(parts)


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_beside_a_gifti_file(tmp_path, ball, packed, monkeypatch):
    text, numbers = external(ball)
    (tmp_path / "lh.central.gii").write_text(text)
    (tmp_path / "ball.dat").write_bytes(numbers)
    path = pack(tmp_path / "lh.central.gii", packed)
    monkeypatch.chdir(tmp_path.parent)  # they are looked for beside the file, not where the process is
    geometry = read_geometry(path)
    np.testing.assert_array_equal(geometry.positions, ball[0])
    np.testing.assert_array_equal(geometry.faces, ball[1])
    (tmp_path / "ball.dat").write_bytes(numbers[:-5])
    with pytest.raises(ValueError, match="not readable as GIFTI"):
        read_geometry(path)
    (tmp_path / "ball.dat").unlink()
    with pytest.raises(ValueError, match=r"its numbers are in 'ball.dat', which is not there"):
        read_geometry(path)


# ---------------------------------------------------------------------- masks

KEEP = np.arange(N) % 3 > 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["npy", "npz", "mat", "txt", "csv", "tsv", "shape.gii", "label.gii", "annot", "label"])
def test_masks_of_every_format(tmp_path, form, packed):
    path = tmp_path / f"mask.{form}"
    keys = KEEP.astype(np.int32)
    if form == "npy":
        np.save(path, KEEP)
    elif form == "npz":
        np.savez(path, mask=KEEP, other=np.zeros(3))
    elif form == "mat":
        scipy.io.savemat(path, {"mask": KEEP[:, None]})
    elif form == "txt":
        np.savetxt(path, keys, fmt="%d")
    elif form == "csv":
        path.write_text("keep\n" + "\n".join("true" if k else "false" for k in KEEP))
    elif form == "tsv":
        path.write_text("\t".join(str(float(k)) for k in keys))
    elif form == "shape.gii":
        values = np.where(KEEP, 2.5, 0).astype(np.float32)
        values[0] = np.nan
        path.write_bytes(gifti_image((values, "SHAPE")).to_bytes())
    elif form == "label.gii":
        path.write_bytes(label_image(keys, {0: "???", 1: "cortex"}).to_bytes())
    elif form == "annot":
        freesurfer.write_annot(path, keys, np.array([[9, 9, 9, 0], [1, 2, 3, 0]]), ["unknown", "cortex"])
    else:
        rows = "".join(f"{i} 0.0 0.0 0.0 0.0\n" for i in np.flatnonzero(KEEP))
        path.write_text(f"#!ascii label\n{KEEP.sum()}\n{rows}")
    mask = read_mask(pack(path, packed), N)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, KEEP)
    assert form.rpartition(".")[2] in MASK_SUFFIXES


ROWS = [(i, int(k)) for i, k in enumerate(KEEP)]
SPELLINGS = {
    "numpy.txt": "".join(f"{k:.18e}\n" for _, k in ROWS),
    "words.txt": "".join("TF"[1 - k] + "\n" for _, k in ROWS),
    "matlab.txt": "".join(f"   {k:.7e}\n" for _, k in ROWS),
    "decimal.csv": "keep\n" + "".join(f'"{k},0"\n' for _, k in ROWS),
    "r.csv": '"","x"\n' + "".join(f'"{i + 1}",{str(k == 1).upper()}\n' for i, k in ROWS),
    "r.txt": '"x"\n' + "".join(f'"{i + 1}" {str(k == 1).upper()}\n' for i, k in ROWS),
    "pandas.csv": ",0\n" + "".join(f"{i},{k == 1}\n" for i, k in ROWS),
    "sorted.tsv": "vertex\tmask\n" + "".join(f"{i}\t{k}\n" for i, k in sorted(ROWS, key=lambda row: row[1])),
    "behind.csv": "keep,vertex\n" + "".join(f"{k},{i}\n" for i, k in ROWS[::-1]),
    "float.tsv": "v\tk\n" + "".join(f"{i}.0\t{k}.0\n" for i, k in ROWS[::-1]),
    "savetxt.txt": "".join(f"{i + 1:.6e} {k:.6e}\n" for i, k in ROWS[::-1]),
    "mac.csv": "mask;\r" + "".join(f"{k};\r" for _, k in ROWS),
    "excel.txt": ("keep\n" + "".join(f"{k}\n" for _, k in ROWS)).encode("utf-16"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_masks_as_programs_write_them(tmp_path, name):
    text = SPELLINGS[name]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    np.testing.assert_array_equal(read_mask(tmp_path / name, N), KEEP)


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        ({0: "???", 1: "V1", 2: "V2"}, [1, 2]),
        ({0: "A", 1: "V1", 2: "V2"}, [1, 2]),  # no telling name: key 0 goes
        ({0: "V1", 1: "???", 2: "V2"}, [0, 2]),  # a telling name: it alone goes
        ({0: "???", 1: "medial_wall", 2: "V2"}, [2]),
        ({0: "???", 1: "medial_wall", 2: "Medial wall"}, [0]),  # nothing but the wall is marked
        ({0: "V0", 1: "MEDIAL-WALL", 2: "L_???"}, [0]),
        ({0: "Background", 1: "V1", 2: "mwall"}, [1, 2]),
        ({1: "V1"}, [1]),  # what has no label
        ({0: "V0", 1: "Medial Wall", 2: "V2"}, [0, 2]),
        ({0: "Unknown", 1: "V1", 2: "corpuscallosum"}, [1]),
        ({0: "V0", 1: "Background+FreeSurfer_Defined_Medial_Wall", 2: "ctx-lh-unknown"}, [0]),
        ({0: "V0", 1: "not cortex", 2: "V2"}, [0, 2]),
        ({0: "", 1: "V1", 2: "V2"}, [1, 2]),
        ({}, [1, 2]),
    ],
)
def test_which_labels_are_no_cortex(tmp_path, table, kept):
    keys = np.arange(N) % 3
    path = tmp_path / "areas.label.gii"
    path.write_bytes(label_image(keys, table).to_bytes())
    np.testing.assert_array_equal(read_mask(path, N), np.isin(keys, kept))


@pytest.mark.parametrize(
    ("table", "codes"),
    [
        ({0: "V0", 1: "V1", 2: "???"}, [0, 1, -1]),
        ({0: "V0", 1: "V1", 2: "V2"}, [-1, 1, 2]),  # nothing says which is none: 0 is, by convention
        ({0: "Medial wall", 1: "V1", 2: "V2"}, [-1, 1, 2]),
    ],
)
def test_labels_with_the_key_0_are_areas_where_another_one_says_that_there_is_none(tmp_path, table, codes):
    path = tmp_path / "areas.label.gii"
    path.write_bytes(label_image(np.arange(N) % 3, table).to_bytes())
    np.testing.assert_array_equal(read_parcellation(path).code, np.array(codes)[np.arange(N) % 3])
    path.write_bytes(label_image(np.arange(N) % 3 - 1, {-1: "V0", 0: "V1", 1: "???"}).to_bytes())
    with pytest.raises(ValueError, match="the label 'V0' has the key -1, which means no area"):
        read_parcellation(path)


def test_labels_of_one_color_are_not_told_apart(tmp_path):
    table = np.array([[9, 9, 9, 0], [1, 2, 3, 0], [1, 2, 3, 0]])
    path = tmp_path / "lh.aparc.annot"
    freesurfer.write_annot(path, np.arange(N) % 3, table, ["V1", "V2", "V3"])
    assert read_mask(path, N).all()
    with pytest.raises(ValueError, match="its labels 'V2' and 'V3' have one color"):
        read_parcellation(path)
    freesurfer.write_annot(path, np.arange(N) % 3, table, ["V1", "V2", "Medial_wall"])
    with pytest.raises(ValueError, match="its labels 'V2' and 'Medial_wall' have one color"):
        read_mask(path, N)


def test_vertices_without_annotation_are_dropped_always(tmp_path):
    labels = np.arange(N) % 3 - 1  # -1: no annotation
    table = np.array([[9, 9, 9, 0], [1, 2, 3, 0]])
    freesurfer.write_annot(tmp_path / "lh.aparc.annot", labels, table, ["V1", "V2"])
    np.testing.assert_array_equal(read_mask(tmp_path / "lh.aparc.annot", N), labels >= 0)
    named = ("Medial_wall", "???", "Unknown", "background", "ctx_lh_unknown")
    for nothing in (*named, "Not assigned", "CLEAR LABEL", "unclassified"):
        freesurfer.write_annot(tmp_path / "lh.aparc.annot", labels, table, ["V1", nothing])
        np.testing.assert_array_equal(read_mask(tmp_path / "lh.aparc.annot", N), labels == 0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{0},{0},{1}", "rows have 3 cells: a mask has one value per column, or"),
        ("{0}5,{1}", "neither of its two columns has each of the numbers 0 to"),
    ],
)
def test_rows_that_no_number_joins_are_refused(tmp_path, row, words):
    (tmp_path / "mask.csv").write_text("".join(row.format(i, k) + "\n" for i, k in ROWS))
    with pytest.raises(ValueError, match=words):
        read_mask(tmp_path / "mask.csv", N)


def bad_masks(tmp_path):
    np.save(tmp_path / "short.npy", np.ones(N - 1, dtype=bool))
    np.save(tmp_path / "square.npy", np.ones((N, N), dtype=bool))
    np.save(tmp_path / "none.npy", np.zeros(N, dtype=bool))
    np.save(tmp_path / "two.npy", np.full(N, 2))
    np.save(tmp_path / "nan.npy", np.full(N, np.nan))
    np.save(tmp_path / "words.npy", np.array(["a"] * N))
    np.save(tmp_path / "objects.npy", np.array([{}] * N, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", a=KEEP, b=KEEP)
    (tmp_path / "words.txt").write_text("on off " * (N // 2))
    (tmp_path / "a.label").write_text("#!ascii label\n2\n3 0 0 0 0\n")
    (tmp_path / "b.label").write_text("#!ascii label\n1\n99 0 0 0 0\n")
    (tmp_path / "c.label").write_text("#!ascii label\n0\n")
    (tmp_path / "broken.annot").write_bytes(b"\x00\x00\x00\x09abc")
    (tmp_path / "broken.label.gii").write_text("<GIFTI>")
    (tmp_path / "mask.mat").write_text("?")
    (tmp_path / "a.dlabel.nii").write_text("?")
    ball = cg.geometry("sphere", subdivisions=1)
    pair = (ball.positions.astype(np.float32), ball.faces.astype(np.int32))
    (tmp_path / "ball.surf.gii").write_bytes(surface_image(pair).to_bytes())
    two = [(np.ones(N, np.float32), "SHAPE")] * 2
    (tmp_path / "two.func.gii").write_bytes(gifti_image(*two).to_bytes())
    return {
        "short.npy": "is for 41 columns, but there are 42",
        "square.npy": "shape \\[42, 42\\]",
        "none.npy": "keeps none of the 42",
        "two.npy": "entry 0 is 2",
        "nan.npy": "entry 0 is nan",
        "words.npy": "booleans or zeros and ones",
        "objects.npy": "not readable",
        "many.npz": "'mask'.*a, b",
        "words.txt": "entry 0 is 'on'",
        "a.label": "promises 2 vertices and lists 1",
        "b.label": "vertex 99, but there are 42",
        "c.label": "no vertex",
        "broken.annot": "not readable as a FreeSurfer annotation",
        "broken.label.gii": "not readable as GIFTI",
        "a.dlabel.nii": "cifti-separate",
        "mask.mat": "not readable as a MATLAB file",
        "ball.surf.gii": "holds a surface, not a mask",
        "two.func.gii": "holds 2 maps",
        "missing.npy": "there is no file",
    }


def test_bad_masks_are_errors_of_one_line_that_name_the_file(tmp_path):
    for name, expected in bad_masks(tmp_path).items():
        with pytest.raises(ValueError, match=expected) as caught:
            read_mask(tmp_path / name, N)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_sheet_without_its_medial_wall(tmp_path, ball):
    (tmp_path / "ball.surf.gii").write_bytes(surface_image(ball).to_bytes())
    wall = (ball[0][:, 2] < -0.5).astype(np.int32)
    (tmp_path / "wall.label.gii").write_bytes(label_image(wall, {0: "???", 1: "medial wall"}).to_bytes())
    sheet = cg.build_sheet(
        tmp_path / "ball.surf.gii", neighbors="knn:4", metric="geodesic", mask=str(tmp_path / "wall.label.gii")
    )
    assert sheet.num_columns == N - wall.sum()
    assert float(sheet.pos[:, 2].min()) > -0.5
