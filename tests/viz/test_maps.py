"""``draw_map``: each value lands on its column, on every kind of sheet, and what does not fit is refused."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

import colgraph as cg
from colgraph.colors import PALE, color_map, label_colors
from colgraph.sheet import Sheet
from colgraph.viz import draw_map, draw_sheet, save_figure
from colgraph.viz.flat import flatten
from colgraph.viz.views import sides_of, unit_of, views_of


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]


def hemisphere(side: int, name: str = "cortex", subdivisions: int = 3) -> Sheet:
    """Half a brain in little: longer from front to back, and its middle towards the other half."""
    ball = cg.geometry("sphere", subdivisions=subdivisions)
    points = np.asarray(ball.positions) * [30, 80, 50] + [(-1, 1)[side] * 33, 0, 0]
    faces = torch.as_tensor(np.asarray(ball.faces).T.copy())
    n = len(points)
    edges = torch.stack([faces[0], faces[1]])
    return Sheet.from_edges(edges, n, pos=torch.tensor(points), face=faces, layer=np.full(n, side), geometry=name)


def squares(figure: object) -> list[PolyCollection]:
    return [one for one in figure.findobj(PolyCollection) if len(one.get_paths()) > 1]  # type: ignore[attr-defined]


def test_every_column_of_a_grid_is_a_square_that_ends_where_the_axes_end() -> None:
    sheet = cg.build_sheet("grid", shape=(5, 3))
    values = np.arange(15.0)
    figure = draw_map(sheet, values, label="a number (mV)")
    (drawn,) = squares(figure)
    corners = np.array([path.vertices[:4] for path in drawn.get_paths()])
    assert np.allclose(corners.mean(1), sheet.pos[:, :2].numpy())
    assert np.allclose(drawn.get_facecolor()[:, :3], color_map("sequential")(values / 14)[:, :3])
    axes = figure.axes[0]
    assert axes.get_xlim() == pytest.approx((corners[..., 0].min(), corners[..., 0].max()))
    assert "a number (mV)" in texts(figure)


def test_layers_of_a_stack_lie_beside_each_other() -> None:
    sheet = cg.build_sheet("stack", widths=[4, 2])
    figure = draw_map(sheet, np.arange(20.0))
    assert [len(one.get_paths()) for one in squares(figure)] == [16, 4]
    assert "layer 0 (16 columns)" in texts(figure)


def test_columns_without_a_value_are_pale_and_look_like_no_orientation() -> None:
    sheet = cg.build_sheet("grid", shape=(4, 4))
    angles = np.linspace(0, np.pi, 16, endpoint=False)
    angles[3] = np.nan
    (drawn,) = squares(draw_map(sheet, angles, kind="cyclic"))
    colors = drawn.get_facecolor()[:, :3]
    assert np.allclose(colors[3], to_rgb(PALE))
    apart = np.linalg.norm(np.delete(colors, 3, 0) - to_rgb(PALE), axis=1)
    assert apart.min() > 0.4, "an orientation looks like none"


def test_orientations_of_0_and_180_degrees_look_alike_and_45_degrees_apart_do_not() -> None:
    colors = color_map("cyclic")(np.arange(9) / 8)[:, :3]
    assert np.allclose(colors[0], colors[8])
    assert min(np.linalg.norm(colors[i] - colors[i + 2]) for i in range(7)) > 0.4


def test_labels_have_a_field_each_and_texts_are_labels() -> None:
    sheet = cg.build_sheet("grid", shape=(2, 2))
    figure = draw_map(sheet, ["V1", "V2", "V1", "V4"], label="area")
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["V1", "V2", "V4"]
    (drawn,) = squares(figure)
    assert np.allclose(drawn.get_facecolor()[:, :3], label_colors(3)[[0, 1, 0, 2]])
    figure = draw_map(sheet, np.array([-1, 0, 1, 1]), kind="labels", names=["a", "b"])
    assert np.allclose(squares(figure)[0].get_facecolor()[0, :3], to_rgb(PALE))


@pytest.mark.parametrize("side", [0, 1])
def test_hemispheres_are_seen_as_textbooks_show_them(side: int) -> None:
    sheet = hemisphere(side)
    seen = {view.name.split()[-1]: view for view in views_of(sheet, ["lateral", "medial", "ventral", "dorsal"])}
    position = sheet.pos.numpy()
    front, top, right = position[:, 1].argmax(), position[:, 2].argmax(), position[:, 0].argmax()
    lateral, medial = seen["lateral"].points, seen["medial"].points
    # The front of a left hemisphere points to the left on its lateral side, and to the right on its medial one.
    sign = (-1, 1)[side]
    assert lateral[front, 0] * sign == pytest.approx(np.abs(lateral[:, 0]).max())
    assert medial[front, 0] * sign == pytest.approx(-np.abs(medial[:, 0]).max())
    assert lateral[top, 1] == pytest.approx(lateral[:, 1].max())
    outside = position[:, 0].argmax() if side else position[:, 0].argmin()
    assert seen["lateral"].depth[outside] == pytest.approx(seen["lateral"].depth.max())
    assert seen["dorsal"].points[right, 0] > 0 > seen["ventral"].points[right, 0]
    words = texts(draw_map(sheet, position[:, 0]))
    assert f"{('left', 'right')[side]} lateral" in words
    assert "medial" in words


def test_a_flat_hemisphere_lies_as_its_lateral_side_does_and_no_face_over_another() -> None:
    sheet = hemisphere(0)
    (flat,) = views_of(sheet, ["flat"])
    position, faces = sheet.pos.numpy(), sheet.face.numpy().T
    kept = np.isfinite(flat.points).all(1)
    assert 0.8 < kept.mean() < 0.95
    assert position[~kept, 0].min() > position[:, 0].mean(), "what is cut away is the medial side"
    assert np.corrcoef(flat.points[kept, 1], position[kept, 2])[0, 1] > 0.8
    assert np.corrcoef(flat.points[kept, 0], position[kept, 1])[0, 1] < -0.8
    a, b, c = (flat.points[faces[kept[faces].all(1)]][:, i] for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert min((area > 0).mean(), (area < 0).mean()) < 0.01


def test_spheres_keep_areas_when_they_are_laid_flat() -> None:
    sheet = cg.build_sheet("sphere", subdivisions=3)
    (flat,) = views_of(sheet, ["flat"])
    assert np.ptp(flat.points[:, 0]) == pytest.approx(2 * np.pi, rel=0.05)
    assert np.ptp(flat.points[:, 1]) == pytest.approx(np.pi, rel=0.05)
    sheet = cg.build_sheet("sphere", subdivisions=3, num_inputs=9)
    assert "from where inputs are" in texts(draw_map(sheet, sheet.pos[:, 0]))


def test_surfaces_with_handles_cannot_be_laid_flat() -> None:
    i, j = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    at = lambda a, b: (a % 8) * 8 + b % 8  # noqa: E731
    faces = np.concatenate(
        [
            np.stack([at(i, j), at(i + 1, j), at(i, j + 1)], -1).reshape(-1, 3),
            np.stack([at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)], -1).reshape(-1, 3),
        ]
    )
    u, v = i.ravel() * np.pi / 4, j.ravel() * np.pi / 4
    ring = np.stack([(3 + np.cos(v)) * np.cos(u), (3 + np.cos(v)) * np.sin(u), np.sin(v)], 1)
    with pytest.raises(ValueError, match="without handles"):
        flatten(ring, faces, np.ones(64, dtype=bool))


def test_names_of_networks_do_not_cover_each_other() -> None:
    graph = nx.gaussian_random_partition_graph(40, 8, 8, 0.5, 0.05, seed=1)
    sheet = cg.build_sheet(nx.relabel_nodes(graph, {i: f"region {i}" for i in graph}))
    figure = draw_map(sheet, np.arange(40.0), label="degree")
    figure.canvas.draw()
    named = [one for one in figure.axes[0].texts if one.get_text().startswith("region")]
    boxes = [one.get_window_extent() for one in named]
    assert len(boxes) > 15
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_strong_edges_are_thicker() -> None:
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 1.0), ("b", "c", 4.0), ("c", "d", 2.0), ("a", "d", 8.0)])
    sheet = cg.build_sheet(graph, weight_is="distance")
    edges = draw_sheet(sheet).axes[0].collections[0]
    widths = {round(width, 6) for width in edges.get_linewidths()}
    assert len(widths) == 4
    assert edges.get_linewidths()[-1] == max(widths), "the strongest over the others"


@pytest.mark.parametrize(
    ("name", "unit"), [("cortex", "mm"), ("lh.pial", "mm"), ("a.surf.gii", "mm"), ("ball.obj", "geometry's units")]
)
def test_millimeters_are_said_where_they_are_known(name: str, unit: str) -> None:
    sheet = hemisphere(0, name, subdivisions=1)
    assert unit_of(sheet) == unit
    assert f"({unit})" in texts(draw_sheet(sheet))


def test_sides_are_known_or_given() -> None:
    assert sides_of(hemisphere(1, "rh.white", 1)) is not None
    plain = hemisphere(1, "mine", 1)
    assert sides_of(plain) is None
    assert "right lateral" in texts(draw_map(plain, plain.pos[:, 0], hemisphere="right"))
    with pytest.raises(ValueError, match="the sheet is right: leave it out"):
        draw_map(hemisphere(1, subdivisions=1), np.zeros(42), hemisphere="left")


@pytest.mark.parametrize(
    ("values", "given", "words"),
    [
        (np.zeros(15), {}, r"a value for each of the sheet's 16 columns, got \[15\]"),
        (np.zeros((2, 16)), {}, r"got \[2, 16\]"),
        (np.full(16, np.inf), {}, "column 0 is inf"),
        (np.zeros(16, dtype=complex), {}, "must hold numbers, got complex128"),
        (np.full(16, 0.5), {"kind": "labels"}, "whole numbers: got 0.5"),
        (np.arange(16), {"kind": "labels", "names": ["a"]}, "label 15, and there are 1 names"),
        (np.zeros(16), {"kind": "cyclical"}, "did you mean 'cyclic'"),
        (np.zeros(16), {"limits": (1, 1)}, "must ascend, got 1 to 1"),
        (np.zeros(16), {"views": ["lateral"]}, "views are of surfaces in space"),
    ],
)
def test_maps_that_do_not_fit_are_refused_in_one_line(values: object, given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        draw_map(cg.build_sheet("grid", shape=(4, 4)), values, **given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_views_that_a_surface_does_not_have_are_refused_by_name() -> None:
    sheet = cg.build_sheet("sphere", subdivisions=1)
    for view, words in (("lateral", "needs a hemisphere"), ("lateraal", "did you mean 'lateral'")):
        with pytest.raises(ValueError, match=words):
            draw_map(sheet, np.zeros(sheet.num_columns), views=[view])


def test_maps_are_written_as_vector_graphics(tmp_path) -> None:
    sheet = hemisphere(0)
    path = save_figure(draw_map(sheet, sheet.pos[:, 1], views=["lateral", "flat"]), tmp_path / "map.pdf")
    assert path.read_bytes().startswith(b"%PDF")
