"""Geometry: what it accepts, what it keeps, what it refuses."""

import numpy as np
import pytest
import torch

from colgraph.geometry import Geometry
from colgraph.geometry.base import parse_axis
from colgraph.hints import closest
from colgraph.space import METRICS

TRIANGLE = np.eye(3)


def test_arrays_lists_and_tensors_are_normalised():
    for positions in ([[0, 0], [1, 0], [0, 1]], torch.tensor([[0.0, 0], [1, 0], [0, 1]], requires_grad=True)):
        g = Geometry(positions, faces=torch.tensor([[0, 1, 2]]), edges=[[0], [1]], edge_distance=[2], layer=[0, 0, 1])
        assert g.positions.shape == (3, 3)
        assert g.positions.dtype == np.float64
        np.testing.assert_array_equal(g.positions[:, 2], 0)
        assert g.faces.dtype == g.edges.dtype == g.layer.dtype == np.int64
        assert g.edge_distance.dtype == np.float64
        assert g.num_columns == 3


def test_inputs_may_be_a_mask_and_arrays_are_copies():
    positions = np.eye(3)
    g = Geometry(positions, inputs=[True, False, True], outputs=torch.tensor([2, 0]), names=["a", "b", "c"])
    positions[:] = 7
    assert g.positions.max() == 1
    assert g.inputs.tolist() == [0, 2]
    assert g.outputs.tolist() == [2, 0]
    assert g.names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": [[0, 0], [1, float("nan")]]}, r"column 1 is at \[1.0, nan\]"),
        ({"positions": [[0, 0], [1, float("inf")]]}, "finite"),
        ({"positions": [[0, 1e30]]}, "below 1e19"),
        ({"positions": np.zeros((0, 3))}, "at least one column"),
        ({"positions": [1, 2, 3]}, r"shape \[N, 3\]"),
        ({"positions": np.zeros((3, 4))}, r"got \[3, 4\]"),
        ({"positions": [["a", "b"]]}, "real numbers"),
        ({"positions": [[0, 1], [2]]}, "equal length"),
        ({"faces": [[0, 1, 3]]}, r"faces must lie in 0..2 \(3 columns\), got 3"),
        ({"faces": [[0, 1, -1]]}, "got -1"),
        ({"faces": [[0, 1, 1]]}, r"face 0: \[0, 1, 1\]"),
        ({"faces": [[0, 1]]}, r"shape \[F, 3\]"),
        ({"faces": np.zeros((0, 3), int)}, "empty"),
        ({"faces": [[0, 1, 1.5]]}, "integers"),
        ({"faces": [[0, 1, float("inf")]]}, "integers"),
        ({"positions": np.zeros((3, 3)), "faces": [[0, 1, 2]]}, "no area"),
        ({"edges": [[0], [5]]}, "edges must lie in 0..2"),
        ({"edges": np.array([[0, 1], [1, 2], [2, 0]])}, "transpose"),
        (
            {"edges": [(0, 1), (2, 1)]},
            r"may be 0 to 1 and 2 to 1, or 0 to 2 and 1 to 1: .* np.array\(\[\[0, 2\], \[1, 1\]\]\)",
        ),
        ({"edges": [[0], [1]], "edge_distance": [-1]}, r"edge 0 \(0 to 1\) is -1"),
        ({"edges": [[0], [1]], "edge_distance": [float("nan")]}, "is nan"),
        ({"edges": [[0], [1]], "edge_distance": [1, 2]}, "one per edge"),
        ({"edge_distance": [1]}, "needs edges"),
        ({"layer": [0, 1]}, r"layer must have shape \[3\]"),
        ({"metric": "euclidian"}, "did you mean 'euclidean'"),
        ({"metric": "geodesic"}, "needs a surface with faces"),
        ({"metric": "hops"}, "needs edges or faces"),
        ({"metric": "periodic"}, "needs period"),
        ({"metric": "periodic", "period": (0, 0)}, "not all zero"),
        ({"metric": "periodic", "period": (-1, 2)}, "not negative"),
        ({"metric": "periodic", "period": (1, 2, 3, 4)}, "1 to 3"),
        ({"direction": "foward", "layer": [0, 0, 1]}, "did you mean 'forward'"),
        ({"direction": "forward"}, "needs layer"),
        ({"axis": "w"}, "got 'w'"),
        ({"axis": [0, 0, 0]}, "not zero"),
        ({"axis": [0, 1]}, r"shape \[2\]"),
        ({"inputs": [0, 0]}, "column 0 more than once"),
        ({"inputs": [3]}, "inputs must lie in 0..2"),
        ({"outputs": [True, False]}, "mask must have 3 entries"),
        ({"outputs": [0.5]}, "integers"),
        ({"names": ["a"]}, "3 entries"),
        ({"names": "abc"}, "3 entries"),
        ({"spatial": False}, "layout for plotting"),
    ],
)
def test_what_makes_no_geometry_is_refused_in_one_line(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        Geometry(**{"positions": TRIANGLE, **fields})
    assert "\n" not in str(error.value)


def test_without_positions_only_distances_along_edges():
    g = Geometry(TRIANGLE, edges=[[0], [1]], metric="given", spatial=False)
    g.check_metric("hops")
    for metric in set(METRICS) - {"given", "hops"}:
        with pytest.raises(ValueError, match=metric):
            g.check_metric(metric)


def test_period_is_padded_and_axis_normalised():
    g = Geometry(TRIANGLE, metric="periodic", period=(4,), axis=[0, 3, 4])
    assert g.period == (4.0, 0.0, 0.0)
    np.testing.assert_allclose(g.axis, [0, 0.6, 0.8])
    np.testing.assert_array_equal(parse_axis("-Y"), [0, -1, 0])


def test_closest_lists_all_and_hints_only_at_what_is_close():
    assert closest("gird", ["grid", "ring"]) == ": did you mean 'grid'?; known are grid, ring"
    assert closest("qqq", ["grid", "ring"]) == "; known are grid, ring"
