"""What all figures share: colors that color-blind readers can tell apart, quiet axes, whole-or-nothing files."""

from __future__ import annotations

import io
import os
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colgraph.colors import BLUE as BLUE
from colgraph.colors import GREEN as GREEN
from colgraph.colors import GREY as GREY
from colgraph.colors import INK as INK
from colgraph.colors import ORANGE as ORANGE
from colgraph.colors import PALE as PALE
from colgraph.extras import optional
from colgraph.output import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    Axes = Figure = Any

SEQUENTIAL = "viridis"
UNIT = "geometry's units"
"""In which positions and lengths are given."""

_RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 150,
    # Letters stay letters, that can be searched and edited.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


_LETTERS = 8  # of a bold title of 13 points, to an inch


def new_figure(width: float, height: float, title: str | None = None) -> Figure:
    """A figure of ``width`` x ``height`` inches that belongs to no window, with the shared style.

    The title takes as many lines as the width leaves it. At the end of a notebook's cell the figure shows itself.

    Raises:
        ImportError: if matplotlib is missing, with the line that installs it.
    """
    backend = optional("figures need", "matplotlib.backends.backend_agg", "viz")
    mpl = optional("figures need", "matplotlib", "viz")
    figures = optional("figures need", "matplotlib.figure", "viz")
    mpl.rcParams.update(_RC)
    figure: Figure = figures.Figure(figsize=(width, height), layout="constrained", facecolor="white")
    backend.FigureCanvasAgg(figure)
    # IPython asks for this at the end of a cell; figures of no window are shown by nobody else.
    figure._repr_png_ = partial(_as_png, figure)  # type: ignore[attr-defined]
    if title:
        lines = [part for line in title.splitlines() for part in textwrap.wrap(line, int(_LETTERS * width)) or [""]]
        figure.suptitle("\n".join(lines), fontsize=13, fontweight="bold", color=INK)
    return figure


def _as_png(figure: Figure) -> bytes:
    """The figure in its own resolution, for notebooks."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=figure.dpi)
        return file.getvalue()


def quiet(axes: Axes, **labels: Any) -> None:
    """Take away the upper and right frame, add a faint grid, and set ``title``, ``xlabel``, ``ylabel``."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.set(**labels)


def few_ticks(whole: bool = False) -> Any:
    """A locator of at most four ticks, or of ``whole`` numbers, where nothing lies between."""
    ticker = optional("figures need", "matplotlib.ticker", "viz")
    return ticker.MaxNLocator(8, integer=True, min_n_ticks=1) if whole else ticker.MaxNLocator(4)


def color_bar(image: Any, axes: Any, label: str) -> None:
    """A bar below one or several axes that says what an image's colors mean."""
    figure = image.axes.figure
    figure.colorbar(image, ax=axes, location="bottom", shrink=0.7, label=label, ticks=few_ticks())


def without_gaps(figure: Figure, least: float = 1.5) -> None:
    """Make a figure no higher than what it shows: axes of equal scales leave room above and below them."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [box for axes in figure.axes if (box := axes.get_tightbbox(renderer)) is not None]
    bottom, top = min(box.y0 for box in boxes), max(box.y1 for box in boxes)
    above = min([text.get_window_extent(renderer).y0 for text in figure.texts], default=figure.bbox.height)
    gap = (above - top + bottom) / figure.dpi - 0.16
    if gap > 0:
        figure.set_figheight(max(figure.get_figheight() - gap, least))


def picture_suffixes() -> list[str]:
    """What a picture's name may end in: ``.png``, ``.svg``, ``.pdf``, ...

    Raises:
        ImportError: if matplotlib is missing, with the line that installs it.
    """
    return [f".{kind}" for kind in sorted(new_figure(1, 1).canvas.get_supported_filetypes())]


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure to a file, whole or not at all; the suffix says the format.

    Raises:
        ValueError: for a suffix matplotlib cannot write, or a folder that does not exist.
    """
    path = Path(path)
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lstrip(".").lower()
    if kind not in kinds:
        raise ValueError(f"cannot draw {str(path)!r}: the suffix must be one of {', '.join(sorted(kinds))}")
    if not path.parent.is_dir():
        raise ValueError(f"cannot draw {str(path)!r}: there is no folder {str(path.parent)!r}")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind)
    return path


def save_for_papers(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """As :func:`save_figure`, and beside the picture the same as a PDF."""
    save_figure(figure, Path(path).with_suffix(".pdf"))
    return save_figure(figure, path)
