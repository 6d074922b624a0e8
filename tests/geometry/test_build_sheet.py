"""build_sheet: sources, masks, inputs and outputs."""

import numpy as np
import pytest
import torch

import colgraph as cg


def test_what_a_sheet_carries_over():
    g = cg.Geometry(np.eye(3), faces=[[0, 1, 2]], layer=[0, 1, 1], names=["a", "b", "c"], name="mine")
    sheet = cg.build_sheet(g)
    assert sheet.geometry == "mine"
    assert sheet.metric == "euclidean"
    assert sheet.face.tolist() == [[0], [1], [2]]
    assert sheet.layer.tolist() == [0, 1, 1]
    assert sheet["names"] == ["a", "b", "c"]
    assert sheet.pos.dtype == sheet.edge_distance.dtype == torch.float32
    assert sheet.num_edges == 9


def test_default_neighborhood():
    # Edges as they are; faces with self-loops; 16 neighbors; all on few columns.
    assert cg.build_sheet(cg.Geometry(np.eye(3), edges=[[0], [1]])).num_edges == 1
    assert cg.build_sheet(cg.Geometry(np.eye(3), edges=np.zeros((2, 0), int))).num_edges == 0
    assert cg.build_sheet("sphere", subdivisions=0).num_edges == 12 * 6
    assert cg.build_sheet("grid", shape=(5, 5)).num_edges == 25 * 17
    assert cg.build_sheet("grid", shape=(4, 4)).num_edges == 16 * 16
    assert cg.build_sheet("grid", shape=(1, 1)).num_edges == 1


def test_metric_may_be_another():
    assert cg.build_sheet("sphere", metric="euclidean").metric == "euclidean"
    arc = cg.build_sheet("sphere", neighbors="knn:6").distance
    chord = cg.build_sheet("sphere", neighbors="knn:6", metric="euclidean").distance
    torch.testing.assert_close(chord, 2 * torch.sin(arc / 2))
    with pytest.raises(ValueError, match="did you mean 'geodesic'"):
        cg.build_sheet("sphere", metric="geodesics")


def test_no_inputs_and_all_outputs_unless_somebody_says_so():
    sheet = cg.build_sheet("grid", shape=(5, 5))
    assert len(sheet.inputs) == 0
    assert len(sheet.outputs) == 25
    stack = cg.build_sheet("stack", widths=[3, 2])
    assert stack.inputs.tolist() == list(range(9))
    assert stack.outputs.tolist() == list(range(9, 13))


def test_inputs_lie_lowest_and_outputs_highest_on_the_axis():
    sheet = cg.build_sheet("sphere", subdivisions=2, num_inputs=30, num_outputs=20)
    z = sheet.pos[:, 2]
    assert z[sheet.inputs].max() <= z[sheet.input_rank < 0].min()
    assert z[sheet.outputs].min() >= z[~sheet.output_mask].max()
    assert len(sheet.inputs) == 30
    assert len(sheet.outputs) == 20
    flipped = cg.build_sheet("sphere", subdivisions=2, num_inputs=30, axis="-z")
    assert flipped.pos[flipped.inputs, 2].min() > 0


def test_widest_axis_with_ties_x_before_y_before_z():
    def inputs(shape, n):
        return cg.build_sheet("grid", shape=shape, neighbors="knn:2", num_inputs=n).inputs.tolist()

    assert inputs((3, 5), 3) == [0, 5, 10]
    assert inputs((5, 3), 3) == [0, 1, 2]
    assert inputs((4, 4), 4) == [0, 4, 8, 12]
    # Ties go to the lower index, also where rounding would tell equal heights apart.
    assert inputs((4, 4), 6) == [0, 1, 4, 5, 8, 12]
    nearly = cg.Geometry(cg.geometry("grid", shape=(4, 4)).positions * [1, 1 + 1e-9, 1])
    assert cg.build_sheet(nearly, neighbors="knn:2", num_inputs=4).inputs.tolist() == [0, 4, 8, 12]
    tilted = cg.Geometry(cg.geometry("grid", shape=(4, 4)).positions, axis=[0.1, 0.1, 0])
    assert cg.build_sheet(tilted, neighbors="knn:2", num_inputs=2).inputs.tolist() == [0, 1]


def test_numbers_override_the_geometry_and_indices_give_the_rank():
    sheet = cg.build_sheet("stack", widths=[3, 3], num_inputs=4, outputs=[0, 17])
    assert sheet.inputs.tolist() == [0, 1, 2, 3]
    assert sheet.outputs.tolist() == [0, 17]
    sheet = cg.build_sheet("grid", shape=(3, 3), inputs=[7, 2, 5])
    assert sheet.inputs.tolist() == [7, 2, 5]
    assert cg.build_sheet("grid", shape=(3, 3), inputs=torch.arange(9) > 6).inputs.tolist() == [7, 8]
    assert len(cg.build_sheet("stack", num_inputs=0).inputs) == 0
    everything = cg.build_sheet("grid", shape=(3, 3), num_inputs=9, num_outputs=9)
    assert len(everything.inputs) == len(everything.outputs) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inputs": 10}, "num_inputs must be 0 to 9, .* 'grid', got 10"),
        ({"num_inputs": -1}, "got -1"),
        ({"num_inputs": 2.5}, "got 2.5"),
        ({"num_inputs": True}, "got True"),
        ({"num_inputs": "four"}, "got four"),
        ({"num_outputs": 0}, "num_outputs must be 1 to 9"),
        ({"num_inputs": 2, "inputs": [1, 2]}, "inputs or num_inputs, not both"),
        ({"inputs": [9]}, "inputs must lie in 0..8"),
        ({"inputs": [1, 1]}, "more than once"),
        ({"outputs": [-1]}, "outputs must lie in 0..8"),
        ({"axis": "up", "num_inputs": 2}, "axis must be x, y, z"),
        ({"mask": [True] * 8}, "mask must have 9 entries"),
        ({"mask": [11]}, "mask must lie in 0..8"),
        ({"mask": np.zeros(9)}, "keeps none"),
        ({"mask": []}, "keeps none"),
        ({"mask": [1, 2], "inputs": [0, 1]}, "mask removes column 0, which inputs names"),
        ({"metric": "geodesic"}, "needs a surface"),
        ({"neighbor": "knn:3"}, "did you mean 'neighbors'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message) as error:
        cg.build_sheet("grid", shape=(3, 3), **options)
    assert "\n" not in str(error.value)


def test_mask_keeps_columns_and_relabels_everything():
    g = cg.Geometry(
        np.arange(12.0).reshape(4, 3) ** 2,
        faces=[[0, 1, 2], [1, 2, 3]],
        edges=[[0, 1, 2], [1, 2, 3]],
        edge_distance=[5, 6, 7],
        metric="given",
        layer=[0, 1, 2, 3],
        inputs=[3, 0, 1],
        outputs=[2],
        names=list("abcd"),
    )
    for mask in ([False, True, True, True], [3, 1, 2], torch.tensor([0, 1, 1, 1]), np.array([0.0, 1, 1, 1])):
        sheet = cg.build_sheet(g, mask=mask)
        assert sheet.edge_index.tolist() == [[0, 1], [1, 2]]
        assert sheet.distance.tolist() == [6, 7]
        assert sheet.face.T.tolist() == [[0, 1, 2]]
        assert sheet.layer.tolist() == [1, 2, 3]
        assert sheet.inputs.tolist() == [2, 0]
        assert sheet.outputs.tolist() == [1]
        assert sheet["names"] == ["b", "c", "d"]
        assert sheet.pos[0].tolist() == [9, 16, 25]


def test_mask_that_leaves_no_inputs_no_faces():
    with pytest.raises(ValueError, match="removes all 9 inputs"):
        cg.build_sheet("stack", widths=[3, 3], mask=np.arange(9, 18))
    assert cg.build_sheet("stack", widths=[3, 3], mask=np.arange(9, 18), num_inputs=2).num_columns == 9
    triangle = cg.Geometry(np.eye(3), faces=[[0, 1, 2]], metric="geodesic")
    with pytest.raises(ValueError, match="no whole face"):
        cg.build_sheet(triangle, mask=[0, 1])
    assert cg.build_sheet(cg.Geometry(np.eye(3), faces=[[0, 1, 2]]), mask=[0, 1]).num_edges == 4


def test_the_metric_that_is_asked_for_decides_what_a_mask_may_leave():
    triangle = cg.Geometry(np.eye(3), faces=[[0, 1, 2]], metric="geodesic")
    assert cg.build_sheet(triangle, mask=[0, 1], metric="euclidean").num_edges == 4


def test_a_mask_that_keeps_everything_says_so(tmp_path):
    np.save(tmp_path / "mask.npy", np.ones(25, bool))
    for mask in (np.ones(25, bool), tmp_path / "mask.npy", "all", "0-24"):
        with pytest.warns(UserWarning, match="the mask keeps all 25 columns: nothing is cut away"):
            assert cg.build_sheet("grid", shape=(5, 5), mask=mask).num_columns == 25


def test_columns_as_text_or_from_label_files(tmp_path):
    grid = {"source": "grid", "shape": (5, 5)}
    (tmp_path / "v1.label").write_text("#!ascii label\n3\n7  0 0 0 0\n2  0 0 0 0\n4  0 0 0 0\n")
    np.save(tmp_path / "out.npy", np.arange(25) > 20)
    sheet = cg.build_sheet(**grid, inputs=str(tmp_path / "v1.label"), outputs=tmp_path / "out.npy")
    assert sheet.inputs.tolist() == [2, 4, 7]
    assert sheet.outputs.tolist() == [21, 22, 23, 24]
    sheet = cg.build_sheet(**grid, inputs=" 9, 3-5 ,0", outputs="all")
    assert sheet.inputs.tolist() == [9, 3, 4, 5, 0]  # the order is the rank
    assert sheet.outputs.numel() == 25
    for text, message in [
        ("25", r"inputs must lie in 0\.\.24 .*got '25'"),
        ("0-99999999999999", r"inputs must lie in 0\.\.24"),
        ("5-3", "ranges in order"),
        ("3,3", "column 3 more than once"),
        ("nowhere.label", "there is no file"),
        ("1;2", "unknown suffix|no file"),
    ]:
        with pytest.raises(ValueError, match=message):
            cg.build_sheet(**grid, inputs=text)


def test_mask_before_num_inputs():
    sheet = cg.build_sheet("grid", shape=(3, 3), mask=np.arange(9) % 3 > 0, num_inputs=3, neighbors="knn:2", axis="x")
    assert sheet.pos[sheet.inputs, 0].tolist() == [1, 1, 1]


def test_sphere_that_was_cut_keeps_its_distances():
    whole = cg.build_sheet("sphere", subdivisions=3, neighbors="knn:6")
    upper = whole.pos[:, 2] > 0
    cut = cg.build_sheet("sphere", subdivisions=3, neighbors="knn:6", mask=upper)
    assert cut.num_columns == int(upper.sum())
    assert cut.spacing == pytest.approx(whole.spacing, rel=0.02)


def test_objects_and_files_reach_their_readers(tmp_path):
    nx = pytest.importorskip("networkx")
    graph = nx.DiGraph([(0, 1), (1, 2)])
    assert cg.build_sheet(graph).edge_index.tolist() == [[0, 1], [1, 2]]
    nx.write_graphml(graph, tmp_path / "g.graphml")
    assert cg.build_sheet(tmp_path / "g.graphml").num_edges == 2
    assert cg.build_sheet(str(tmp_path / "g.graphml")).num_edges == 2
    with pytest.raises(ValueError, match=r"missing\.ply"):
        cg.build_sheet("missing.ply")
    with pytest.raises(ValueError, match="int"):
        cg.build_sheet(3)
    np.save(tmp_path / "mask.npy", np.arange(25) < 20)
    assert cg.build_sheet("grid", shape=(5, 5), mask=tmp_path / "mask.npy").num_columns == 20


def test_a_sheet_made_of_a_sheet_is_the_same():
    for loops in (True, False):
        sheet = cg.build_sheet("stack", widths=[3, 2], neighbors=cg.KNN(4, self_loops=loops))
        again = cg.build_sheet(sheet.to_networkx())
        assert again.fingerprint == sheet.fingerprint
        assert again.inputs.tolist() == sheet.inputs.tolist()
        torch.testing.assert_close(again.distance, sheet.distance)
