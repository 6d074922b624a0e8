"""A cortex with areas: parcellations and connectomes from files, joined by name and code, and the edges they make."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import colgraph as cg
from colgraph.geometry.connectome import falls_with_distance
from colgraph.geometry.controls import build_control
from colgraph.geometry.tracts import draw_tracts

pytest.importorskip("nilearn")

BOTH = {"hemisphere": "both", "mesh": "fsaverage3"}
AREAS = 8  # per hemisphere


@pytest.fixture(scope="module")
def brain():
    """Codes ``[1284]``, 1 to 8 in the octants of the left hemisphere and 9 to 16 in those of the right, some 0; names
    of the areas; and a symmetric matrix of strengths that fall with distance.
    """
    shape = cg.geometry("cortex", **BOTH)
    code = np.zeros(shape.num_columns, dtype=int)
    for side in (0, 1):
        here = shape.layer == side
        high = shape.positions[here] > np.median(shape.positions[here], axis=0)
        code[here] = 1 + high @ [1, 2, 4] + AREAS * side
    code[:20] = 0
    centers = np.stack([shape.positions[code == k].mean(0) for k in range(1, 2 * AREAS + 1)])
    far = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    strength = np.exp(-far / 30) * np.random.default_rng(0).uniform(0.5, 1.5, far.shape)
    strength = (strength + strength.T) * (far > 0)
    names = [f"Net_{side}H_area{k}" for side in "LR" for k in range(AREAS)]
    return code, names, strength


@pytest.fixture
def files(brain, tmp_path):
    code, names, strength = brain
    np.savetxt(tmp_path / "parcels.csv", code, fmt="%d")
    (tmp_path / "names.csv").write_text(",".join(names))
    np.savetxt(tmp_path / "plain.csv", strength, delimiter=",")
    header = "," + ",".join(names)
    rows = [f"{name}," + ",".join(map(str, row)) for name, row in zip(names, strength, strict=True)]
    (tmp_path / "named.csv").write_text("\n".join([header, *rows]))
    return tmp_path


def in_folder(files, name):
    return files / name if isinstance(name, str) and "/" not in name else name


def sheet_of(files, connectome="named.csv", parcellation="parcels.csv", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cg.build_sheet(
            "cortex",
            **{
                **BOTH,
                "parcellation": in_folder(files, parcellation),
                "connectome": in_folder(files, connectome),
                **options,
            },
        )


def between_areas(sheet):
    """``[A,A]`` numbers of long-range edges from the area of the row to that of the column."""
    area = sheet.area.numpy()
    source, target = area[sheet.tract_index.numpy()]
    count = np.zeros((len(sheet.area_names),) * 2, dtype=int)
    np.add.at(count, (source, target), 1)
    return count


def test_edges_are_drawn_in_proportion_to_strength(files, brain):
    _, names, strength = brain
    sheet = sheet_of(files, long_range=8)
    assert sheet.area_names == names
    count = between_areas(sheet)
    assert count.sum() == round(8 * (sheet.area >= 0).sum().item())
    assert np.diag(count).sum() == 0
    expected = strength / strength.sum() * count.sum()
    assert np.abs(count - expected).max() < 5 * np.sqrt(expected.max())
    assert np.corrcoef(count.ravel(), expected.ravel())[0, 1] > 0.95
    # No pair twice, and the mesh's own edges with their self-loops beside them.
    assert len({*map(tuple, sheet.tract_index.T.tolist())}) == count.sum()
    local = cg.build_sheet("cortex", **BOTH, parcellation=files / "parcels.csv")
    assert set(map(tuple, local.edge_index.T.tolist())) <= set(map(tuple, sheet.edge_index.T.tolist()))
    assert int(sheet.is_tract.sum()) == count.sum()
    length = (sheet.pos[sheet.edge_index[0]] - sheet.pos[sheet.edge_index[1]]).norm(dim=1)
    assert np.allclose(sheet.edge_distance[sheet.is_tract], length[sheet.is_tract], atol=1e-3)


def test_the_draw_has_a_seed_and_the_rewired_control_another_map(files, brain):
    _, _, strength = brain
    one, same, other = (sheet_of(files, connectome_seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    rewired = sheet_of(files, rewire_areas=0)
    assert rewired.edge_index.size(1) == pytest.approx(one.edge_index.size(1), rel=0.01)
    of = np.corrcoef(between_areas(rewired).ravel(), strength.ravel())[0, 1]
    assert of < 0.7 < np.corrcoef(between_areas(one).ravel(), strength.ravel())[0, 1]
    assert sheet_of(files, rewire_areas=1).fingerprint != rewired.fingerprint


def test_logarithms_are_strengths_again(files, brain):
    _, _, strength = brain
    np.savetxt(files / "log.csv", np.where(strength > 0, np.log(np.maximum(strength, 1e-9)), 0), delimiter=",")
    (files / "log.csv").write_text((files / "names.csv").read_text() + "\n" + (files / "log.csv").read_text())
    with pytest.raises(ValueError, match=r"strength -\S+: a strength must be finite and positive .*strength='log'"):
        sheet_of(files, "log.csv")
    assert np.array_equal(between_areas(sheet_of(files, "log.csv", strength="log")), between_areas(sheet_of(files)))


def test_rows_are_joined_by_name_in_any_order_and_spelling(files, brain):
    import nibabel.freesurfer as freesurfer

    code, names, strength = brain
    order = np.random.default_rng(1).permutation(len(names))
    spelled = [f"ctx-{names[k][4:6].lower()}-net-{names[k][7:]}" for k in order]
    np.savez(files / "other.npz", adjacency=strength[np.ix_(order, order)], names=spelled)
    colors = np.array([[k, 2 * k, 3 * k, 0, 0] for k in range(len(names) // 2 + 1)])
    for side, half in enumerate(("lh", "rh")):
        own = [f"Net_{name[7:]}" for name in names[side * AREAS : (side + 1) * AREAS]]
        label = np.maximum(code[side * 642 : (side + 1) * 642] - AREAS * side, 0)
        freesurfer.write_annot(files / f"{half}.net.annot", label, colors, ["unknown", *own], fill_ctab=True)
    pair = f"{files / 'lh.net.annot'},{files / 'rh.net.annot'}"
    found = sheet_of(files, "other.npz", parcellation=pair)
    plain = sheet_of(files)
    names_of = [found.area_names[k] if k >= 0 else None for k in found.area.tolist()]
    assert names_of == [None if k == 0 else spelled[list(order).index(k - 1)] for k in code]
    back = np.argsort(order)
    assert np.abs(between_areas(found)[np.ix_(back, back)] - between_areas(plain)).max() < 60
    with pytest.raises(ValueError, match=r"'.*rh.net.annot' is called after the right hemisphere"):
        sheet_of(files, "other.npz", parcellation=[files / "rh.net.annot", files / "lh.net.annot"])
    with pytest.raises(ValueError, match="is two files, and the geometry is one hemisphere"):
        sheet_of(files, "other.npz", parcellation=pair, hemisphere="left")


def test_label_gifti_codes_and_tables_with_codes(files, brain):
    import nibabel as nib

    code, names, _ = brain
    moved = np.where(code > 0, code + 1000, 0).astype(np.int32)
    gifti = nib.gifti
    table = gifti.GiftiLabelTable()
    for key, name in enumerate(["???", *names]):
        table.labels.append(label := gifti.GiftiLabel(key=key + 1000 * (key > 0)))
        label.label = name
    data = gifti.GiftiDataArray(moved, intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
    nib.save(gifti.GiftiImage(darrays=[data], labeltable=table), files / "both.label.gii")
    wanted = sheet_of(files)
    assert sheet_of(files, parcellation="both.label.gii").fingerprint == wanted.fingerprint
    # The same codes without names: no row 1001 is known, until a table says so.
    np.save(files / "moved.npy", moved)
    with pytest.raises(ValueError, match=r"codes up to 1016 .* has 16 rows without codes: give connectome_labels"):
        sheet_of(files, parcellation="moved.npy")
    lines = ["code,name,hemisphere", *(f"{1001 + k},{name},x" for k, name in enumerate(names))]
    (files / "table.csv").write_text("\n".join(lines))
    sheet = sheet_of(files, parcellation="moved.npy", connectome_labels=files / "table.csv")
    assert sheet.fingerprint == wanted.fingerprint
    coded = "\n".join([",".join(map(str, range(1001, 1017))), (files / "plain.csv").read_text()])
    (files / "coded.csv").write_text(coded)
    assert sheet_of(files, "coded.csv?header=true", "moved.npy").fingerprint == wanted.fingerprint


def test_codes_without_names_are_rows_in_words(files, brain):
    _, names, strength = brain
    options = {**BOTH, "parcellation": files / "parcels.csv", "connectome": files / "plain.csv"}
    with pytest.raises(ValueError, match=r"plain.csv' has 16 rows without names: give connectome_labels=FILE"):
        cg.build_sheet("cortex", **options)
    said = r"code k is taken for row k of .*code 1 is 'Net_LH_area0'\), and all hemispheres agree; strength falls"
    with pytest.warns(UserWarning, match=said):
        sheet = cg.build_sheet("cortex", **options, connectome_labels=files / "names.csv")
    assert sheet.fingerprint == sheet_of(files).fingerprint
    np.save(files / "lh.npy", np.loadtxt(files / "parcels.csv", dtype=int)[:642])
    one = {"parcellation": files / "lh.npy", "hemisphere": "left"}
    left = sheet_of(files, "plain.csv", connectome_labels=files / "names.csv", **one)
    assert left.area_names == names[:AREAS]
    with pytest.raises(ValueError, match=r"codes up to 8 .* has 16 rows without codes"):
        sheet_of(files, "plain.csv", connectome_labels=list("abcdefghijklmnop"), **one)
    swapped = [*names[AREAS:], *names[:AREAS]]
    with pytest.raises(ValueError, match=r"area 1 of .* lies in the left hemisphere and is row 'Net_RH_area0'"):
        cg.build_sheet("cortex", **options, connectome_labels=swapped)
    order = np.random.default_rng(3).permutation(len(names))
    with pytest.warns(UserWarning, match="strength does not fall with distance"):
        cg.build_sheet(
            "cortex",
            **{**options, "connectome": strength[np.ix_(order, order)]},
            connectome_labels=list("abcdefghijklmnop"),
        )


def test_rows_that_count_from_zero_are_no_codes(files, brain):
    """As pandas numbers rows, and programs the nodes of edge lists: code 1 is not the second row."""
    _, _, strength = brain
    numbered = [f"{k}," + ",".join(map(str, row)) for k, row in enumerate(strength)]
    (files / "pandas.csv").write_text("\n".join(["," + ",".join(map(str, range(16))), *numbered]))
    pairs = [(i, j) for i in range(16) for j in range(i) if strength[i, j]]
    for name, kept in (("edges.csv", range(16)), ("gap.csv", [0, *range(2, 16)])):
        lines = [f"{i},{j},{strength[i, j]}" for i, j in pairs if i in kept and j in kept]
        (files / name).write_text("\n".join(["source,target,weight", *lines]))
    for name in ("pandas.csv", "edges.csv", "gap.csv"):
        with pytest.raises(
            ValueError, match=r"numbers its 1\d rows from 0, and .*has codes from 1 and no names"
        ) as caught:
            sheet_of(files, name)
        assert "\n" not in str(caught.value)
    wanted = sheet_of(files)
    labels = {"connectome_labels": files / "names.csv"}
    assert sheet_of(files, "pandas.csv", **labels).fingerprint == wanted.fingerprint
    assert sheet_of(files, "edges.csv", **labels).fingerprint == wanted.fingerprint
    # From 1 they are codes, which is said.
    from_one = [f"{k + 1}," + ",".join(map(str, row)) for k, row in enumerate(strength)]
    (files / "one.csv").write_text("\n".join(["," + ",".join(map(str, range(1, 17))), *from_one]))
    with pytest.warns(UserWarning, match=r"code k is taken for row k of .*code 1 is '1'"):
        sheet = cg.build_sheet("cortex", **BOTH, parcellation=files / "parcels.csv", connectome=files / "one.csv")
    assert sheet.edge_index.tolist() == wanted.edge_index.tolist()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"parcellation": np.ones(1000, int)}, r"parcellation 'parcellation' has 1,000 vertices, and the geometry 642"),
        ({"parcellation": np.ones(642, int)}, "has 642 vertices, and the geometry 642 columns in each hemisphere"),
        ({"mesh": "fsaverage4"}, r"has 1,284 vertices, and the geometry 2,562 columns in each hemisphere.*fsaverage4"),
        ({"parcellation": np.full(1284, 0.5)}, "parcellation must be integers"),
        ({"parcellation": np.full(1284, 17)}, "codes up to 17 .* has 16 rows without codes"),
        ({"parcellation": np.repeat(np.arange(1, 13), 107)}, "codes up to 12 .* has 16 rows without codes"),
        ({"connectome_labels": ["a", "b"]}, "connectome_labels has 2 names, and connectome .* has 16 rows"),
        ({"connectome_labels": list("abcdefghijklmnop")}, "name different areas: 'a' is not in both"),
        ({"connectome": None}, None),
        ({"connectome": None, "strength": "log"}, "strength needs connectome=FILE"),
        ({"parcellation": None}, "connectome needs parcellation=FILE"),
        ({"long_range": -1.0}, "long_range must be a number of edges per column"),
        ({"long_range": 1e5}, "asks for 126,400,000 edges"),
        ({"strength": "logs"}, "unknown strength 'logs'"),
        ({"tract_lengths": np.ones((5, 5))}, "have 5 and 16 rows"),
        ({"connectome": np.zeros((16, 16)), "connectome_labels": list("abcdefghijklmnop")}, "connectome: has 16 nodes"),
        ({"connectome": "named.csv?weight_is=distance"}, "is said by strength="),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(files, change, says):
    if isinstance(change.get("connectome"), str):
        change = {"connectome": f"{files}/{change['connectome']}"}
    options = {**BOTH, "parcellation": files / "parcels.csv", "connectome": files / "named.csv", **change}
    options = {name: value for name, value in options.items() if value is not None}
    if says is None:
        assert cg.build_sheet("cortex", **options).tract_index is None
        return
    with pytest.raises(ValueError, match=says) as caught:
        cg.build_sheet("cortex", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({(2, 5): "nan"}, "edge 'Net_LH_area2' -> 'Net_LH_area5' has"),
        ({(2, 5): "-1"}, "edge 'Net_LH_area2' -> 'Net_LH_area5' has strength -1"),
        ({(3, 3): "nan"}, None),
    ],
)
def test_cells_that_are_no_strengths_are_named(files, brain, cells, says):
    _, names, strength = brain
    table = [[str(value) for value in row] for row in strength]
    for (i, j), cell in cells.items():
        table[i][j] = cell
    (files / "odd.csv").write_text("\n".join([",".join(names), *map(",".join, table)]))
    if says is None:
        assert sheet_of(files, "odd.csv").fingerprint == sheet_of(files).fingerprint
        return
    with pytest.raises(ValueError, match=says):
        sheet_of(files, "odd.csv")


def test_areas_and_rows_that_the_other_side_lacks(files, brain):
    _, names, strength = brain
    short = {"connectome": strength[:-1, :-1], "connectome_labels": names[:-1]}
    words = np.array(["none", *names])[np.loadtxt(files / "parcels.csv", dtype=int)]
    np.save(files / "words.npy", words)
    with pytest.raises(
        ValueError,
        match=r"1 of 16 areas of parcellation .*words.npy' have no row in connectome .* of the right hemisphere",
    ):
        cg.build_sheet("cortex", **BOTH, parcellation=files / "words.npy", **short)
    twice = {"connectome": strength, "connectome_labels": [*names[:-1], names[0]]}
    with pytest.raises(ValueError, match=f"connectome_labels has the name '{names[0]}' twice"):
        cg.build_sheet("cortex", **BOTH, parcellation=files / "words.npy", **twice)
    more = np.pad(strength, (0, 1), constant_values=0.1)
    with pytest.warns(UserWarning, match="1 of 17 rows have no column here: left out 'L-thalamus'"):
        sheet = cg.build_sheet(
            "cortex",
            **BOTH,
            parcellation=files / "words.npy",
            connectome=more,
            connectome_labels=[*names, "L-thalamus"],
        )
    assert sheet.area_names == names
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left = cg.build_sheet(
            "cortex", mesh="fsaverage3", parcellation=files / "words.npy", connectome=files / "named.csv"
        )
    assert left.area_names == names[:AREAS]


def test_a_directed_matrix_speaks_from_row_to_column(files, brain):
    _, names, _ = brain
    one_way = np.zeros((16, 16))
    one_way[0, 3] = one_way[9, 2] = 2.0
    options = {"connectome": one_way, "connectome_labels": names, "long_range": 1}
    count = between_areas(sheet_of(files, **options))
    assert set(zip(*np.nonzero(count))) == {(0, 3), (9, 2)}


def test_lengths_of_tracts_come_from_their_file(files):
    lengths = np.full((16, 16), 77.0)
    lengths[0] = lengths[:, 0] = 0
    np.savetxt(files / "lengths.csv", lengths, delimiter=",")
    options = {**BOTH, "parcellation": files / "parcels.csv", "connectome": files / "named.csv"}
    with pytest.warns(UserWarning, match="long-range edges have no length in tract_lengths: straight lines"):
        sheet = cg.build_sheet("cortex", **options, tract_lengths=files / "lengths.csv", surface="sphere")
    source, target = sheet.area[sheet.edge_index]
    told = sheet.is_tract & (source != 0) & (target != 0)
    short = sheet.edge_distance[told] < 77  # where a mesh edge is at the same place
    assert (sheet.edge_distance[told][~short] == 77).all()
    assert short.float().mean() < 0.05
    # Straight lines are those of the brain, though columns lie on a sphere.
    white = cg.geometry("cortex", **BOTH).positions
    untold = sheet.is_tract & ~told
    ends = sheet.edge_index[:, untold].numpy()
    straight = np.linalg.norm(white[ends[0]] - white[ends[1]], axis=1)
    assert (sheet.edge_distance[untold].numpy() <= straight + 1e-3).all()


def test_a_hub_talks_to_every_area_both_ways(files):
    sheet = sheet_of(files, hub=4, neighbors="knn:6", num_inputs=30)
    assert sheet.num_columns == 1288
    assert sheet.area_names[-1] == "hub"
    hub = np.flatnonzero(sheet.area.numpy() == 16)
    assert hub.tolist() == [1284, 1285, 1286, 1287]
    area = sheet.area.numpy()
    source, target = sheet.edge_index.numpy()
    for column in hub:
        assert set(area[source[(target == column) & (source < 1284)]]) == set(range(16))
        assert set(area[target[(source == column) & (target < 1284)]]) == set(range(16))
    heard = np.bincount(target[source >= 1284], minlength=1284)[:1284]
    assert (heard[area[:1284] >= 0] == 1).all()
    assert np.isfinite(sheet.edge_distance).all()
    assert sheet.inputs.max() < 1284
    report = sheet.describe()
    assert report.values["components"] == 1
    assert report.values["dead_edges"] == 0
    assert 0.2 < report.values["tracts"]["initial_attention"] < 0.8
    assert "start with" in str(report)


def test_long_edges_start_with_weight(files):
    sheet = sheet_of(files, neighbors="knn:16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = cg.Columnformer(sheet, dim=4, steps=2, qk_dim=2, mlp_dim=4)
    bias = dict(net.named_parameters())[next(n for n, _ in net.named_parameters() if n.endswith("edge_bias"))]
    assert bias.detach()[sheet.is_tract].median() == pytest.approx(-0.5, abs=0.01)


def test_cuts_files_and_controls_keep_tracts(files, tmp_path):
    sheet = sheet_of(files, hub=2)
    assert cg.load_sheet(sheet.save(tmp_path / "sheet.npz")).is_tract.equal(sheet.is_tract)
    keep = sheet.area >= 0
    part = sheet.subgraph(keep)
    assert int(part.is_tract.sum()) == int(sheet.is_tract.sum())
    cut = sheet_of(files, hub=2, mask=keep.numpy())
    assert cut.fingerprint == part.fingerprint
    options = {**BOTH, "parcellation": files / "parcels.csv", "connectome": files / "named.csv", "hub": 2}
    for control in ("random-graph", "shuffled-positions"):
        other = build_control("cortex", control, **options)
        assert other.edge_index.size(1) == sheet.edge_index.size(1)
        assert other.area.equal(sheet.area)
        assert np.isfinite(other.edge_distance).all()
        assert other.describe().values["dead_edges"] < 0.1 * other.edge_index.size(1)


def test_any_mesh_takes_areas_and_a_connectome(brain, tmp_path):
    shape = cg.geometry("sphere", subdivisions=2)
    code = 1 + (shape.positions > 0) @ [1, 2, 4]
    strength = np.ones((8, 8))
    sheet = cg.build_sheet(
        "sphere",
        subdivisions=2,
        parcellation=code,
        connectome=strength,
        connectome_labels=[str(k) for k in range(1, 9)],
        long_range=2,
    )
    assert sheet.area_names == [str(k) for k in range(1, 9)]
    assert sheet.tract_index.shape == (2, 2 * 162)
    with pytest.raises(ValueError, match="has 162 vertices, and 'sphere' has 42 columns"):
        cg.build_sheet("sphere", subdivisions=1, parcellation=code)
    with pytest.raises(ValueError, match="parcelation"):
        cg.build_sheet("sphere", subdivisions=1, parcelation=code)


def test_a_geometry_keeps_options_of_its_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np, colgraph as cg\n"
        "def mine(hub: int = 1, strength: float = 1.0):\n"
        "    return cg.Geometry(np.arange(hub + 3.0)[:, None] * strength)\n"
    )
    source = f"{tmp_path / 'mine.py'}:mine"
    assert cg.geometry(source, hub=5, strength=2.0).positions[-1, 0] == 14
    assert cg.geometry(source, hub=1, parcellation=[1, 1, 2, 0]).area.tolist() == [0, 0, 1, -1]
    with pytest.raises(ValueError, match="unknown option 'hub' for geometry 'sphere'"):
        cg.geometry("sphere", hub=4)


def test_pairs_are_filled_up_and_no_further():
    strength = np.array([[0, 1e9, 1.0], [0, 0, 1.0], [0, 0, 0]])
    members = [np.arange(2), np.arange(2, 4), np.arange(4, 9)]
    pairs, ends = draw_tracts(strength, members, 20, np.random.default_rng(0))
    assert len(set(map(tuple, pairs.T.tolist()))) == 20
    assert (ends == [[0], [1]]).all(0).sum() == 4
    with pytest.raises(ValueError, match="25 edges, but the connectome's areas have only 24 pairs"):
        draw_tracts(strength, members, 25, np.random.default_rng(0))


def test_strength_that_falls_with_distance_is_told_from_chance():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(12, 3))
    far = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    assert falls_with_distance(np.exp(-far), centers)[1] < 0.05
    assert falls_with_distance(np.exp(far), centers)[1] > 0.5


def test_figures_color_areas_and_draw_their_borders(files):
    from colgraph.colors import label_colors
    from colgraph.viz import draw_sheet
    from colgraph.viz.borders import area_borders

    assert len({tuple(color) for color in label_colors(100).round(3)}) == 100
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    lines = area_borders(faces, np.array([0, 0, 1, 1]), square)
    assert lines.shape == (2, 2, 2)
    assert {tuple(point) for line in lines for point in line} == {(1.0, 0.5), (0.5, 0.5), (0.0, 0.5)}
    assert area_borders(faces, np.array([0, 1, 2, 2]), square).shape == (4, 2, 2)
    assert not len(area_borders(faces, np.zeros(4, int), square))
    figure = draw_sheet(sheet_of(files, hub=2))
    drawn = {tuple(np.round(c[:3], 2)) for ax in figure.axes for coll in ax.collections for c in coll.get_facecolor()}
    assert len(drawn) > 2 * AREAS
    assert "in no area" in figure.legends[0].get_texts()[0].get_text()


def test_a_cortex_with_a_hub_is_still_seen_by_its_hemispheres(files):
    pytest.importorskip("matplotlib")
    from colgraph.viz.views import sides_of, usual_views

    sheet = sheet_of(files, hub=2)
    sides = sides_of(sheet)
    assert sides is not None
    assert sides[:-2].tolist() == sheet.layer[:-2].tolist()
    assert usual_views(sheet) == ["lateral", "medial"]
