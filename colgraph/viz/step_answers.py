"""Answers of single columns, step by step: a piece of HTML with a slider, and the same as small multiples on paper."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.extras import optional
from colgraph.viz.style import BLUE, INK, ORANGE, Figure, new_figure

_MIDDLE = "#F7F7F7"
_HOLE = 255
_INSET = 0.12  # of a cell's side: the image shows around its answer


@dataclass(frozen=True, eq=False)
class Spreading:
    """What columns answer to a few images after each step.

    Attributes:
        images: ``[M, channels, height, width]`` uint8, of one or three channels.
        share: ``[M, T, O]`` the answer from 0 to 1; NaN for columns that are not asked.
        right: ``[M, T, O]`` whether it is right.
        place: ``[O, 2]`` where a column's cell has its centre, across and down, from 0 to 1.
        cell: width and height of a cell, from 0 to 1.
        captions: ``[M][T]`` what is said of an image.
        overall: ``[T]`` what is said of many images.
        trained: the step that was trained.
        on_image: whether cells lie where they are in the image.
        low: what 0 means.
        high: what 1 means.
    """

    images: NDArray[np.uint8]
    share: NDArray[np.float32]
    right: NDArray[np.bool_]
    place: NDArray[np.float32]
    cell: tuple[float, float]
    captions: list[list[str]]
    overall: list[str]
    trained: int
    on_image: bool
    low: str
    high: str

    @property
    def steps(self) -> int:
        """How many."""
        return self.share.shape[1]

    def parts(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Its arrays, the shares as bytes, and the rest, to be written to files."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        arrays = {name: content.pop(name) for name in ("images", "share", "right", "place")}
        arrays["share"] = _as_bytes(self.share)
        return arrays, content | {"cell": list(self.cell)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], content: Mapping[str, Any]) -> Spreading:
        """From what :meth:`parts` returns.

        Raises:
            ValueError: if something is missing.
        """
        names = {item.name for item in fields(cls)}
        lacking = names - {*arrays, *content}
        if lacking:
            raise ValueError(f"the answers step by step lack {', '.join(sorted(lacking))}")
        share = np.where(arrays["share"] == _HOLE, np.nan, arrays["share"] / np.float32(254)).astype(np.float32)
        given = {name: content[name] for name in names & {*content}} | {"cell": tuple(content["cell"])}
        return cls(**{**given, **{name: arrays[name] for name in ("images", "right", "place")}, "share": share})


def _as_bytes(share: NDArray[Any]) -> NDArray[np.uint8]:
    known = np.isfinite(share)
    return np.where(known, np.round(254 * np.clip(np.where(known, share, 0), 0, 1)), _HOLE).astype(np.uint8)


def spreading_viewer(shown: Spreading) -> str:
    """HTML with a slider over steps; it needs no network and no other file."""
    arrays, content = shown.parts()
    count, channels, height, width = shown.images.shape
    pixels = shown.images if channels == 3 else np.repeat(shown.images[:, :1], 3, axis=1)
    data = content | {
        "count": count,
        "steps": shown.steps,
        "columns": len(shown.place),
        "all_right": bool(shown.right.all()),
        "size": [width, height],
        "pixels": _text(pixels.transpose(0, 2, 3, 1)),
        "share": _text(arrays["share"]),
        "right": _text(arrays["right"].astype(np.uint8)),
        "place": _text(np.round(65535 * arrays["place"]).astype("<u2")),
        "colors": [ORANGE, _MIDDLE, BLUE],
        "ink": INK,
        "inset": _INSET,
    }
    markup, script = (
        files("colgraph.viz").joinpath(f"step_answers.{end}").read_text("utf-8") for end in ("html", "js")
    )
    # A name of a class may be anything, the end of a script as well.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return f'{markup}<script type="application/json" id="spreading-data">{text}</script>\n<script>{script}</script>\n'


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def draw_spreading(shown: Spreading, *, images: int = 3, steps: int = 6, title: str | None = None) -> Figure:
    """A row for each image, a column for some of the steps: the first, the trained one and the last among them."""
    colors = optional("figures need", "matplotlib.colors", "viz")
    marks = optional("figures need", "matplotlib.collections", "viz")
    patches = optional("figures need", "matplotlib.patches", "viz")
    map_of = colors.LinearSegmentedColormap.from_list("answers", [ORANGE, _MIDDLE, BLUE])
    rows, chosen = min(images, len(shown.images)), some_steps(shown.trained, shown.steps, steps)
    figure = new_figure(1.55 * len(chosen) + 0.3, 1.75 * rows + 1.3, title)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, 0.97 if title else 1))  # the title, which squares that fill their rows would touch
    axes = figure.subplots(rows, len(chosen), squeeze=False)
    (w, h), inner = shown.cell, 1 - 2 * _INSET
    for m, row in enumerate(axes):
        for t, ax in zip(chosen, row, strict=True):
            _background(ax, shown, m)
            known = np.flatnonzero(np.isfinite(shown.share[m, t]))
            corners = shown.place[known] - np.array([w, h]) * inner / 2
            cells = [patches.Rectangle(corner, w * inner, h * inner) for corner in corners]
            tints = map_of(shown.share[m, t, known])
            ax.add_collection(marks.PatchCollection(cells, facecolor=tints, edgecolor="none"))
            wrong = known[~shown.right[m, t, known]]
            ax.scatter(*shown.place[wrong].T, s=900 * min(w, h) ** 2, color=INK, linewidth=0, zorder=3)
            ax.set_xlabel(shown.captions[m][t], fontsize=8)
            if m == 0:
                ax.set_title(f"step {t + 1}" + (" (trained)" if t + 1 == shown.trained else ""), fontsize=10)
    bar = optional("figures need", "matplotlib.cm", "viz").ScalarMappable(colors.Normalize(0, 1), map_of)
    legend = figure.colorbar(bar, ax=axes, location="bottom", shrink=0.5, aspect=30, ticks=[0, 1])
    if not shown.right.all():
        legend.set_label("dot: wrong")
    legend.ax.set_xticklabels([shown.low, shown.high])
    return figure


def _background(ax: Any, shown: Spreading, m: int) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    if shown.on_image:
        pixels = shown.images[m].transpose(1, 2, 0)
        pixels = pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)
        ax.imshow(pixels, extent=(0, 1, 1, 0), interpolation="nearest", aspect="auto", zorder=0)
    ax.set(xlim=(0, 1), ylim=(1, 0))
    ax.set_aspect(shown.images.shape[2] / shown.images.shape[3])


def some_steps(trained: int, last: int, count: int) -> list[int]:
    """Numbers of so many steps from 0 on, evenly spread up to the trained one, and the last of all."""
    few = np.linspace(0, trained - 1, max(min(count - 1, trained), 1)).round().astype(int)
    return sorted({*few.tolist(), trained - 1, last - 1})
