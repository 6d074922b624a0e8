"""The images that settings name."""

from __future__ import annotations

from colgraph.data import ImageSplits, load_images
from colgraph.training.config import TrainConfig

__all__ = ["images_of"]


def images_of(config: TrainConfig, data: str | None = None) -> ImageSplits:
    """The images of a run, or others that are read in the same way.

    Args:
        config: the settings of the run.
        data: other images of its kind, as ``--data`` of training.

    Raises:
        ValueError: as :func:`colgraph.data.load_images` does.
    """
    return load_images(
        data or config.data,
        image_size=config.image_size,
        channels=config.channels,
        memory_gb=config.memory_gb,
        split_seed=config.split_seed,
        max_corrupt=config.max_corrupt,
    )
