"""Figures: they show what they are given, need no display, and are written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from colgraph.sheet import Sheet
from colgraph.viz import (
    central_column,
    draw_attention_by_distance,
    draw_column,
    draw_curves,
    draw_sheet,
    save_figure,
)
from colgraph.viz.planes import flat_axes
from colgraph.viz.style import new_figure


def lattice(widths: tuple[int, ...] = (4, 4), flat: bool = False) -> Sheet:
    points = [(x, y, 0.0 if flat else 2.0 * z) for z, w in enumerate(widths) for x in range(w) for y in range(w)]
    layer = [z for z, w in enumerate(widths) for _ in range(w * w)]
    pos = torch.tensor(points, dtype=torch.float32)
    distance = torch.cdist(pos, pos)
    target, source = torch.nonzero(distance <= 2.3, as_tuple=True)
    edges = torch.stack([source, target])
    first = list(range(widths[0] ** 2))
    last = list(range(len(points) - widths[-1] ** 2, len(points)))
    return Sheet.from_edges(
        edges, len(points), edge_distance=distance[source, target], pos=pos, inputs=first, outputs=last, layer=layer
    )


def surface() -> Sheet:
    pos = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float32)
    face = torch.tensor([[0, 0, 0, 1], [1, 2, 1, 2], [2, 3, 3, 3]])
    edges = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    return Sheet.from_edges(edges, 4, pos=pos, face=face, inputs=[0], outputs=[3])


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "sheet",
    [lattice(), lattice((4,), flat=True), surface(), Sheet.from_edges(torch.zeros(2, 0, dtype=torch.int64), 3)],
    ids=["layers", "flat", "surface", "no edges, no positions"],
)
def test_sheets_of_every_kind_are_drawn(sheet: Sheet, tmp_path: Path) -> None:
    figure = draw_sheet(sheet)
    words = texts(figure)
    assert f"{sheet.num_columns:,} columns" in words
    assert f"input ({sheet.inputs.numel()})" in words or not sheet.inputs.numel()
    assert "geometry's units" in words
    path = save_figure(figure, tmp_path / "s.png")
    assert path.stat().st_size > 5000


def test_only_so_many_edges_are_drawn_and_the_legend_says_so() -> None:
    sheet = lattice()
    others = int((sheet.edge_index[0] != sheet.edge_index[1]).sum())
    assert f"edge (50 of {others} drawn)" in texts(draw_sheet(sheet, max_edges=50))
    assert "edge (all drawn)" in texts(draw_sheet(sheet, max_edges=10_000))
    words = texts(draw_sheet(sheet))
    assert "what one column of each layer listens to" in words
    assert "edge (" not in words, "of a stack, all edges hide the layers"


def test_on_a_torus_no_edge_is_drawn_across_the_sheet() -> None:
    import colgraph as cg

    sheet = cg.build_sheet("torus", shape=(8, 8), neighbors="complete", num_inputs=4)
    lines = draw_sheet(sheet, max_edges=10_000).axes[0].collections[0].get_segments()  # type: ignore[attr-defined]
    lengths = np.array([np.linalg.norm(np.diff(line, axis=0)) for line in lines])
    assert lengths.max() <= float(sheet.edge_distance.max()) * 1.001
    # Those that go around the border are left out, whatever their length.
    inside = (sheet.pos[sheet.edge_index[0]] - sheet.pos[sheet.edge_index[1]]).abs().amax(1) <= 4
    assert len(lines) == int(inside.sum()) - 64


def test_large_surfaces_are_drawn_in_seconds(tmp_path: Path) -> None:
    side = 200
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    pos = torch.tensor(np.stack([x, y, 5 * np.sin(x / 20)], -1).reshape(-1, 3), dtype=torch.float32)
    i = torch.arange(side * side).view(side, side)
    a, b, c, d = (t.flatten() for t in (i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]))
    face = torch.cat([torch.stack([a, b, c]), torch.stack([b, d, c])], 1)
    sheet = Sheet.from_edges(torch.stack([a, b]), side * side, pos=pos, face=face, inputs=[0, 1])
    assert save_figure(draw_sheet(sheet), tmp_path / "s.png").is_file()


def test_flat_arrangements_are_recognized() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3))
    assert flat_axes(points) is None
    assert flat_axes(points * [1, 0, 1]) == (0, 2)
    assert flat_axes(points * [0, 0, 1]) == (0, 2)
    assert flat_axes(np.zeros((3, 3))) == (0, 1)


def test_shares_of_attention_add_up_and_means_are_means() -> None:
    sheet = lattice()
    distance = sheet.edge_distance.numpy()
    degree = np.bincount(sheet.edge_index[1].numpy(), minlength=sheet.num_columns)
    uniform = 1 / degree[sheet.edge_index[1].numpy()]
    figure = draw_attention_by_distance(distance, uniform, uniform**2, spacing=2.0)
    weight, share = figure.axes
    bars = {container.get_label(): [bar.get_height() for bar in container] for container in share.containers}
    assert sum(bars["after training"]) == pytest.approx(100)
    assert sum(bars["before training"]) == pytest.approx(100)
    edges = next(line for line in share.get_lines() if line.get_label() == "share of edges")
    assert sum(edges.get_ydata()) == pytest.approx(100)
    after = next(line for line in weight.get_lines() if line.get_label() == "after training")
    own = distance == 0
    assert after.get_xdata()[0] == 0
    assert after.get_ydata()[0] == pytest.approx(uniform[own].mean())
    assert max(after.get_xdata()) == pytest.approx(distance.max() / 2.0, rel=0.05)


@pytest.mark.parametrize("distance", [np.zeros(4), np.ones(4), np.array([0.0, 1, 1, 2])])
def test_distances_without_spread_can_be_drawn(distance: np.ndarray) -> None:
    figure = draw_attention_by_distance(distance, np.full(4, 0.25))
    assert len(figure.axes) == 2


def test_a_column_shows_every_column_it_hears() -> None:
    sheet = lattice((4, 4, 4))
    column = central_column(sheet)
    assert bool(sheet.output_mask[column])
    edges = sheet.edge_index.numpy()
    heard = int((edges[1] == column).sum())
    attention = np.random.default_rng(0).random((3, edges.shape[1]))
    figure = draw_column(sheet, attention)
    assert f"What column {column} listens to ({heard} columns)" in texts(figure)
    images = [image for axes in figure.findobj() for image in getattr(axes, "images", [])]
    mine = attention[:, edges[1] == column]
    assert images[0].get_array().shape == (3, heard)
    assert np.sort(np.asarray(images[0].get_array()).ravel()) == pytest.approx(np.sort(mine.ravel()))


def test_many_steps_are_not_all_named() -> None:
    sheet = surface()
    figure = draw_column(sheet, np.full((40, sheet.edge_index.size(1)), 0.25), 2)
    (steps,) = [axes for axes in figure.axes if axes.get_ylabel() == "step"]
    assert [label.get_text() for label in steps.get_yticklabels()] == [str(t) for t in range(1, 41, 3)]


def test_curves_say_what_accuracy_and_loss_are() -> None:
    rows = [{"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}]
    plain, other = draw_curves(rows), draw_curves(rows, accuracy_is="share of columns", loss_is="loss of task mine")
    assert {"Accuracy", "correct (%)", "cross-entropy (nats)"} <= {*texts(plain).split("\n")}
    assert {"Accuracy: share of columns", "accuracy (%)", "loss of task mine"} <= {*texts(other).split("\n")}


def test_columns_on_surfaces_and_without_ears_can_be_drawn() -> None:
    sheet = surface()
    draw_column(sheet, np.full(sheet.edge_index.size(1), 0.25), 2)
    deaf = Sheet.from_edges(torch.tensor([[0], [1]]), 2)
    assert "listens to nobody" in texts(draw_column(deaf, np.ones(1), 0))
    assert central_column(deaf) == 1


@pytest.mark.parametrize(
    ("attention", "column", "words"), [(np.ones(3), None, "edges, got 3"), (np.ones(16), 9, "column must be 0 to 3")]
)
def test_what_does_not_fit_is_refused(attention: np.ndarray, column: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw_column(surface(), attention, column)


def test_curves_show_the_rows() -> None:
    rows = [
        {
            "epoch": e,
            "train_accuracy": 0.1 * e,
            "val_accuracy": 0.08 * e,
            "train_loss": 2 / e,
            "val_loss": "",
            "wiring_cost": 1.0,
        }
        for e in (1, 2, 3)
    ]
    accuracy, loss, wiring = draw_curves(rows).axes
    assert accuracy.get_lines()[0].get_ydata() == pytest.approx([10, 20, 30])
    assert np.isnan(loss.get_lines()[1].get_ydata()).all()
    assert [axes.get_xlabel() for axes in (accuracy, loss, wiring)] == ["epoch"] * 3
    draw_curves([])
    unwired = [{name: value for name, value in row.items() if name != "wiring_cost"} for row in rows]
    assert [axes.get_title() for axes in draw_curves(unwired).axes] == ["Accuracy", "Loss"]


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = draw_curves([])
    target = tmp_path / "c.png"
    target.write_bytes(b"earlier")
    with monkeypatch.context() as patch:
        patch.setattr(figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            save_figure(figure, target)
    assert target.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ValueError, match="suffix must be one of"):
        save_figure(figure, tmp_path / "c.doc")
    with pytest.raises(ValueError, match="no folder"):
        save_figure(figure, tmp_path / "nowhere" / "c.png")


def test_figures_belong_to_no_window() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    draw_sheet(lattice())
    draw_curves([])
    assert pyplot.get_fignums() == before


def test_figures_are_drawn_where_nothing_else_has_imported_matplotlib() -> None:
    code = "from colgraph.viz import picture_suffixes; assert '.png' in picture_suffixes()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure = new_figure(3.0, 2.0, "a title")
    shown = figure._repr_png_()
    assert shown.startswith(b"\x89PNG")
    width, height = (int.from_bytes(shown[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (round(3 * figure.dpi), round(2 * figure.dpi))


def test_a_long_title_stays_within_its_figure() -> None:
    figure = new_figure(5.0, 3.0, "mazes:size=16,train=960,val=100,test=100,harder=50: 59.4% on 100 of " + "x" * 90)
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_epochs_are_whole_numbers() -> None:
    rows = [{"epoch": epoch, "train_accuracy": 0.5, "val_accuracy": 0.4, "train_loss": 1.0} for epoch in (1, 2)]
    for axes in draw_curves(rows).axes:
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_the_least_loss_of_smoothed_labels_is_what_training_can_reach() -> None:
    rows = [{"epoch": 1, "train_loss": 0.52, "val_loss": 0.13}]
    words = texts(draw_curves(rows, smoothing=0.1, classes=10))
    target = torch.full((1, 10), 0.01)
    target[0, 3] += 0.9
    least = float(torch.nn.functional.cross_entropy(target.log(), torch.tensor([3]), label_smoothing=0.1))
    assert f"least with smoothed labels: {least:.2f}" in words
    assert "labels\nsmoothed by 0.1" in words
    assert "smoothed" not in texts(draw_curves(rows))
    assert "augmented" in texts(draw_curves(rows))
    assert "augmented" not in texts(draw_curves(rows, smoothing=0.1, classes=10, augmented=False))
