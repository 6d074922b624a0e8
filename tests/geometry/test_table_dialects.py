"""Tables of other programs that look like something else: names of areas like ends of edges, counts like edges."""

import numpy as np
import pandas
import pytest

import colgraph as cg
from colgraph.geometry.readers import read_geometry
from colgraph.geometry.readers.area_names import read_area_names

LENGTHS = np.array([[0, 1.5, 2, 0], [3, 0, 0, 4], [0, 5, 0, 0], [6, 0, 7, 0]])
QUIET = pytest.mark.filterwarnings("ignore:.*(read as the length|names are those of)")


def edges(geometry):
    names = geometry.names or range(geometry.num_columns)
    ends = geometry.edges.T.tolist()
    return {(names[i], names[j]): d for (i, j), d in zip(ends, geometry.edge_distance.tolist(), strict=True)}


def expected(names):
    return {(names[i], names[j]): LENGTHS[i, j] for i, j in zip(*LENGTHS.nonzero(), strict=True)}


# ---------------------------------------------------------------------- areas that are called like ends of edges

GYRI = [
    ["precentral", "postcentral", "insula", "cuneus"],
    ["Precentral_L", "Postcentral_L", "Insula_L", "Cuneus_L"],
    ["insula", "lh.precentral", "lh.postcentral", "cuneus"],
]
LIKE_ENDS = [
    ["pre-central", "post-central", "insula", "cuneus"],
    ["CAU-head", "CAU-body", "CAU-tail", "PUT"],
    ["head", "body", "tail", "PUT"],
    ["PreSMA", "PostSMA", "M1", "S1"],
]


def write(frame, path):
    frame.to_csv(path, sep="," if path.suffix == ".csv" else "\t", index=path.stem != "across")
    return path


@QUIET
@pytest.mark.parametrize("names", GYRI + LIKE_ENDS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt"])
def test_areas_that_are_called_like_ends_of_edges(tmp_path, names, suffix):
    both = pandas.DataFrame(LENGTHS, index=names, columns=names)
    assert edges(read_geometry(write(both, tmp_path / f"both.{suffix}"))) == expected(names)
    assert edges(cg.geometry(both)) == expected(names)
    np.savetxt(tmp_path / f"comment.{suffix}", LENGTHS, header="\t".join(names), delimiter="\t")
    assert edges(read_geometry(tmp_path / f"comment.{suffix}")) == expected(names)
    across = pandas.DataFrame(LENGTHS, columns=names)
    for path in (write(across, tmp_path / f"across.{suffix}"), write(across, tmp_path / f"numbered.{suffix}")):
        if names in LIKE_ENDS:
            with pytest.raises(ValueError, match="may be edges or a matrix: call the columns of edges"):
                read_geometry(path)
        assert edges(read_geometry(path, header=True if names in LIKE_ENDS else None)) == expected(names)


def test_frames_whose_columns_may_be_areas_or_ends_of_edges():
    for names in GYRI:
        assert edges(cg.geometry(pandas.DataFrame(LENGTHS, columns=names))) == expected(names)
    for names in LIKE_ENDS:
        with pytest.raises(ValueError, match=r"may be edges or a matrix: .*, or give the rows of"):
            cg.geometry(pandas.DataFrame(LENGTHS, columns=names))


@pytest.mark.filterwarnings("ignore:.*edges from")
@pytest.mark.parametrize(
    "heads",
    ["pre_root_id,post_root_id", "sourceid,targetid", "FromNode,ToNode", "idPre,idPost", "pre,post", "tail,head"],
)
def test_ends_of_edges_between_numbered_nodes_are_found(tmp_path, heads):
    (tmp_path / "edges.csv").write_text(f"{heads},length\n1,2,5\n2,3,4\n3,1,7\n")
    found = read_geometry(tmp_path / "edges.csv", directed=True)
    assert edges(found) == {("1", "2"): 5, ("2", "3"): 4, ("3", "1"): 7}


@QUIET
@pytest.mark.parametrize("corner", ["0", "NaN", "0.0"])
def test_a_border_of_numbers_may_be_names(tmp_path, corner):
    """``writematrix([0 k; k' W])``, where the corner is a number, too."""
    names = ["1001", "1002", "2001", "2002"]
    rows = [[corner, *names], *([n, *map("{:g}".format, row)] for n, row in zip(names, LENGTHS, strict=True))]
    for suffix in ("csv", "tsv", "txt"):
        path = tmp_path / f"matrix.{suffix}"
        path.write_text("\n".join(("," if suffix == "csv" else "\t").join(row) for row in rows))
        with pytest.raises(ValueError, match=r"'1001' and so on, beside a corner of .*: say header=True or"):
            read_geometry(path)
        assert edges(read_geometry(path, header=True)) == expected(names)
        assert read_geometry(path, header=False, directed=True).num_columns == 5
    (tmp_path / "line.csv").write_text("0,1,2,3\n1,0,1,2\n2,1,0,1\n3,2,1,0\n")  # distances of four nodes in a row
    assert read_geometry(tmp_path / "line.csv").num_columns == 4


@QUIET
def test_numbers_as_names_that_were_written_as_doubles(tmp_path):
    names = ["1001", "1002", "2001", "2002"]
    for across, down in ((names, [f"{n}.0" for n in names]), ([f"{n}.0" for n in names], [f"{n}.0" for n in names])):
        rows = [["", *across], *([n, *map("{:g}".format, row)] for n, row in zip(down, LENGTHS, strict=True))]
        (tmp_path / "matrix.csv").write_text("\n".join(map(",".join, rows)))
        assert edges(read_geometry(tmp_path / "matrix.csv")) == expected(names)
        (tmp_path / "matrix.txt").write_text("\n".join(map(" ".join, [across, *rows[1:]])))  # as R does
        assert edges(read_geometry(tmp_path / "matrix.txt")) == expected(names)
        frame = pandas.DataFrame(LENGTHS, index=[*map(float, down)], columns=[*map(float, across)])
        assert edges(cg.geometry(frame)) == expected(names)


@QUIET
def test_decimal_commas_in_what_blanks_separate(tmp_path):
    text = "\n".join(" ".join(f"{x:g}".replace(".", ",") for x in row) for row in LENGTHS + 0.5)
    for suffix in ("csv", "txt"):
        (tmp_path / f"matrix.{suffix}").write_text(text)
        found = read_geometry(tmp_path / f"matrix.{suffix}")
        assert found.edge_distance.reshape(4, 4).T.tolist() == (LENGTHS + 0.5).tolist()
    (tmp_path / "list.edgelist").write_text("0 1 1,5\n1 2 2,5\n")
    found = read_geometry(tmp_path / "list.edgelist", directed=True)
    assert edges(found) == {("0", "1"): 1.5, ("1", "2"): 2.5}


@pytest.mark.parametrize("text", ["3 2\n0 1\n1 2\n", "4 5\n1 2\n2 3\n3 4\n4 1\n1 3\n", "3 2\n0 1 0.5\n1 2 0.5\n"])
def test_a_first_line_with_the_numbers_of_nodes_and_edges_is_no_edge(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"the first line .* says how many nodes and edges the others have"):
        read_geometry(path)
    if "." not in text:
        count = int(text[0])
        assert read_geometry(path, header=False).num_columns == count + 1
    path.write_text(text.partition("\n")[2])
    assert read_geometry(path, weight=None).num_columns == int(text[0])


@pytest.mark.parametrize("text", ["3 2\n2 1\n1 0\n", "4 3\n3 2\n2 1\n1 4\n", "0 2\n2 3\n3 1\n", "2 1\n0 1\n"])
def test_a_first_edge_that_may_look_like_counts(tmp_path, text):
    (tmp_path / "list.edgelist").write_text(text)
    found = read_geometry(tmp_path / "list.edgelist", directed=True)
    assert found.edges.shape[1] == text.count("\n")


def test_an_edge_of_two_gyri_is_no_header(tmp_path):
    (tmp_path / "list.edgelist").write_text("precentral postcentral 0.5\ninsula cuneus 0.3\n")
    assert edges(read_geometry(tmp_path / "list.edgelist", directed=True, weight_is="distance")) == {
        ("precentral", "postcentral"): 0.5,
        ("insula", "cuneus"): 0.3,
    }


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("R,G,B,name,id\n10,20,30,V1,1\n11,20,30,V2,2\n", [1, 2]),
        ("name,x,y,z\nV1,-12,3,4\nV2,10,3,4\n", None),
        ("network,index,region\nVisual,7,V1\nVisual,9,V2\n", [7, 9]),
        ("x\ty\tz\tlabel\tname\n1\t2\t3\t4\tV1\n2\t2\t3\t5\tV2\n", [4, 5]),
        ("nr,hemi,area,volume\n3,L,V1,120\n4,L,V2,90\n", [3, 4]),
        ("index label\n1 V1\n2 V2\n", [1, 2]),
        ("1 V1 10 20 30 0\n2 V2 10 20 30 0\n", [1, 2]),
    ],
)
def test_names_and_codes_of_areas_are_the_columns_that_a_header_calls_so(tmp_path, text, codes):
    (tmp_path / "names.csv").write_text(text)
    assert read_area_names(tmp_path / "names.csv") == (["V1", "V2"], codes)
