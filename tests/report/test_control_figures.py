"""Figures beside controls: all of them are drawn, named and within the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import itertools

from colgraph.analysis import Result
from colgraph.analysis.plotting import draw_map
from colgraph.analysis.topography import CurveResult
from colgraph.report import figures
from colgraph.viz.style import new_figure

NAMES = [f"control {i}, whose name is long" for i in range(9)]


def curve(seed: int = 0) -> CurveResult:
    rng = np.random.default_rng(seed)
    return CurveResult(
        name="correlation",
        value=0.5,
        null=rng.normal(size=20),
        interval=np.array([0.4, 0.6]),
        distance=np.arange(1.0, 5),
        curve=rng.normal(size=4),
        curve_null=rng.normal(size=(20, 4)),
        curve_interval=np.stack([np.zeros(4), np.ones(4)]),
        pairs_per_bin=np.full(4, 9),
        spacing=1.0,
        axis_label="r",
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that are saved, by the names of their files."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(figures, "save_for_papers", lambda figure, path: found.update({path.name: figure}))
    return found


def test_every_control_has_its_curve_and_its_row(drawn: dict[str, Any]) -> None:
    controls = {name: curve(i + 1) for i, name in enumerate(NAMES)}
    figures.draw_with_controls("A title", curve(), controls, None, Path("figures"), "key")
    (axes,) = drawn["key.png"].axes
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert set(NAMES) < set(looks)
    assert len({looks[name] for name in NAMES}) == len(NAMES)
    named = [text.get_text() for text in drawn["key.png"].legends[0].get_texts()]
    assert set(NAMES) < set(named)
    figure = drawn["key-controls.png"]
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == len(NAMES) + 1
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))


def test_a_long_title_stays_within_the_figure(drawn: dict[str, Any]) -> None:
    title = "Response correlation against distance, given the input and some more"
    figures.draw_with_controls(title, curve(), {}, None, Path("figures"), "key")
    figure = drawn["key.png"]
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_results_without_curves_have_no_legend_of_controls(drawn: dict[str, Any]) -> None:
    plain = Result(name="number", value=1.0, null=np.arange(9.0), interval=np.array([0.5, 1.5]))
    figures.draw_with_controls("A title", plain, {"control": plain}, None, Path("figures"), "key")
    assert not drawn["key.png"].legends


def test_a_map_shows_its_columns_whole_and_counts_in_whole_numbers() -> None:
    x, y = np.meshgrid(np.arange(12.0), np.arange(3.0))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(36)], 1)
    values = np.where(np.arange(36) < 20, np.arange(36) % 3, np.nan)
    figure = new_figure(5, 3)
    axes = draw_map(figure.subplots(), points, values, label="patch", title="")
    assert axes.get_xlim() == (-0.5, 11.5)
    assert axes.get_ylim() == (-0.5, 2.5)
    assert axes.get_xlabel() == "x (units of distance)"
    figure.canvas.draw()
    ticks = figure.axes[1].get_xticks()
    assert np.array_equal(ticks, np.round(ticks))
    alone = draw_map(new_figure(3, 3).subplots(), np.zeros((1, 3)), np.ones(1), label="", title="")
    assert np.isfinite([*alone.get_xlim(), *alone.get_ylim()]).all()


@pytest.mark.parametrize("down", [False, True])
def test_a_map_whose_rows_run_down_is_drawn_as_high(drawn: dict[str, Any], down: bool) -> None:
    class Map(CurveResult):
        def plot(self, axes: Any = None) -> Any:
            axes.imshow(np.zeros((2, 8)), origin="upper" if down else "lower")
            return axes

    figures.draw_with_controls("A title", Map(**vars(curve())), {}, None, Path("figures"), "key")
    figure = drawn["key.png"]
    figure.canvas.draw()
    (axes,) = figure.axes
    box, title = axes.get_tightbbox(), figure.texts[0].get_window_extent()
    assert 0 <= title.y0 - box.y1 < 0.2 * figure.dpi, "a gap under the title"
    assert 0 <= box.y0 < 0.2 * figure.dpi
