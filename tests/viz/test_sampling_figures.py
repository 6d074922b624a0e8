"""Figures of what a model sees of an image."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from colgraph.viz import draw_sampling

IMAGE = np.arange(16.0).reshape(4, 4)
SQUARES = np.arange(4).reshape(2, 2).repeat(2, 0).repeat(2, 1)


def test_the_image_its_borders_and_the_means_of_its_patches() -> None:
    axes = draw_sampling(IMAGE, IMAGE[::-1], SQUARES).axes
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    assert np.array_equal(shown[0], IMAGE)
    assert np.array_equal(shown[1], IMAGE[::-1])
    assert np.array_equal(shown[2], [[2.5, 2.5, 4.5, 4.5]] * 2 + [[10.5, 10.5, 12.5, 12.5]] * 2)
    lines = {tuple(np.stack([line.get_xdata(), line.get_ydata()], 1).ravel()) for line in axes[0].lines}
    # Between the second and the third row, and column, a border for each pixel.
    across = {(column - 0.5, 1.5, column + 0.5, 1.5) for column in range(4)}
    assert lines == across | {(1.5, row - 0.5, 1.5, row + 0.5) for row in range(4)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((IMAGE, IMAGE[:3], SQUARES), r"\[height, width\] alike, got \[4, 4\], \[3, 4\], \[4, 4\]"),
        ((IMAGE[None], IMAGE[None], SQUARES[None]), r"alike, got \[1, 4, 4\]"),
        ((IMAGE, IMAGE, SQUARES - 1), "patches must be whole numbers from 0 on, got int64 from -1"),
        ((IMAGE, IMAGE, SQUARES / 2), "whole numbers from 0 on, got float64"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_sampling(*given)
