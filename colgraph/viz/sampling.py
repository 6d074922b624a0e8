"""What a model sees of an image: its patches, what they are cut from, and how finely they tell places apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from colgraph.viz.style import ORANGE, Figure, new_figure


def draw_sampling(image: Any, sampled: Any, patches: Any, *, title: str | None = None) -> Figure:
    """Draw an image with the borders of its patches, what the patches are cut from, and the mean of each patch.

    Args:
        image: ``[height,width]``.
        sampled: ``[height,width]``, from :meth:`colgraph.VisionColumnformer.sampled`.
        patches: ``[height,width]`` the patch of each pixel, :meth:`colgraph.VisionColumnformer.pixel_patches`.
        title: above the figure.

    Returns:
        A matplotlib ``Figure``.

    Raises:
        ValueError: if shapes differ, or patches are no whole numbers from 0 on.
    """
    image, sampled, patches = (np.asarray(each) for each in (image, sampled, patches))
    if not image.shape == sampled.shape == patches.shape or image.ndim != 2:
        shapes = ", ".join(str(list(each.shape)) for each in (image, sampled, patches))
        raise ValueError(f"image, sampled and patches must be [height, width] alike, got {shapes}")
    if not np.issubdtype(patches.dtype, np.integer) or patches.min() < 0:
        raise ValueError(f"patches must be whole numbers from 0 on, got {patches.dtype} from {patches.min()}")
    figure = new_figure(11.0, 4.1, title)
    axes = figure.subplots(1, 3)
    count = np.bincount(patches.ravel())
    mean = np.bincount(patches.ravel(), image.ravel()) / np.maximum(count, 1)
    names = ("image, and its patches", "what patches are cut from", "the mean of each patch")
    for ax, shown, name in zip(axes, (image, sampled, mean[patches]), names):
        ax.imshow(shown, cmap="gray", vmin=image.min(), vmax=image.max())
        ax.set_title(name)
        ax.set_axis_off()
    rows, columns = patches.shape
    for down, across in ((1, 0), (0, 1)):
        row, column = np.nonzero(patches[: rows - down, : columns - across] != patches[down:, across:])
        ends = (np.array([-0.5, 0.5]), np.full(2, 0.5))
        x = column[:, None] + ends[across]
        y = row[:, None] + ends[down]
        axes[0].plot(x.T, y.T, color=ORANGE, linewidth=0.7)
    return figure
