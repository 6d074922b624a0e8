"""The answer spreading over a sheet, as a picture that moves: for pages that run no script."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from colgraph.colors import BLUE, INK, ORANGE
from colgraph.extras import optional
from colgraph.output import replacing
from colgraph.viz.step_answers import Spreading

_MIDDLE = "#F7F7F7"
_GAP, _LINE = 14, 18  # pixels between images, and of a line of text
_INSET = 0.12  # of a cell's side: the image shows around its answer


def animate_spreading(
    shown: Spreading, path: str | Path, *, images: int = 3, side: int = 220, milliseconds: int = 220
) -> Path:
    """Write an animated GIF: a frame for each step from the first to the trained one, images beside each other.

    Cells have the color of their answer, as in the figure of the same name: dark dots are wrong answers. The last frame
    stays for a while.

    Args:
        shown: the answers.
        path: ``.gif``; written whole or not at all.
        images: how many at most.
        side: of an image, in pixels.
        milliseconds: how long a frame is shown.

    Raises:
        ValueError: for a path that does not end in .gif.
        ImportError: if Pillow is missing, with the line that installs it.
    """
    target = Path(path)
    if target.suffix.lower() != ".gif":
        raise ValueError(f"a picture that moves is a .gif, got {target.name}")
    pictures = [_frame(shown, t, min(images, len(shown.images)), side) for t in range(shown.trained)]
    stay = [milliseconds] * (len(pictures) - 1) + [8 * milliseconds]
    written = io.BytesIO()
    pictures[0].save(written, "GIF", save_all=True, append_images=pictures[1:], duration=stay, loop=0, optimize=True)
    with replacing(target) as file:
        file.write_bytes(written.getvalue())
    return target


def _frame(shown: Spreading, t: int, images: int, side: int) -> Any:
    image = optional("pictures that move need", "PIL.Image", "viz")
    draw_on = optional("pictures that move need", "PIL.ImageDraw", "viz")
    tall = round(side * shown.images.shape[2] / shown.images.shape[3])
    frame = image.new("RGB", (images * (side + _GAP) + _GAP, tall + 2 * _GAP + 2 * _LINE), "white")
    draw = draw_on.Draw(frame)
    draw.text((_GAP, _GAP // 2), f"step {t + 1} of {shown.trained}", fill=INK, font_size=13)
    key = (("dot: wrong", INK), (shown.high, BLUE), (shown.low, ORANGE))
    right = frame.width - _GAP
    for words, color in key:
        right -= round(draw.textlength(words, font_size=12))
        draw.text((right, _GAP // 2), words, fill=color, font_size=12)
        right -= _GAP
    for m in range(images):
        left, top = _GAP + m * (side + _GAP), _GAP + _LINE
        if shown.on_image:
            pixels = shown.images[m].transpose(1, 2, 0)
            pixels = pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)
            seen = image.fromarray(np.ascontiguousarray(pixels)).resize((side, tall), image.Resampling.NEAREST)
            frame.paste(seen, (left, top))
        _cells(draw, shown, m, t, (left, top), (side, tall))
        draw.text((left, top + tall + 4), shown.captions[m][t], fill=INK, font_size=11)
    return frame


def _cells(draw: Any, shown: Spreading, m: int, t: int, corner: tuple[int, int], size: tuple[int, int]) -> None:
    colors = optional("pictures that move need", "matplotlib.colors", "viz")
    tint = colors.LinearSegmentedColormap.from_list("answers", [ORANGE, _MIDDLE, BLUE], N=33)
    half = np.array(shown.cell) * (1 - 2 * _INSET) / 2
    for o in np.flatnonzero(np.isfinite(shown.share[m, t])):
        low, high = (corner + (shown.place[o] + sign * half) * size for sign in (-1, 1))
        draw.rectangle([*low.round(), *(high.round() - 1)], fill=colors.to_hex(tint(float(shown.share[m, t, o]))))
        if not shown.right[m, t, o]:
            middle, radius = (low + high) / 2, (high - low).min() / 6
            draw.ellipse([*(middle - radius), *(middle + radius)], fill=INK)
