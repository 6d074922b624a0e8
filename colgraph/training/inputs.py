"""The settings in front of a model's own: what it learns from, and on which sheet."""

from __future__ import annotations

from dataclasses import dataclass

from colgraph.data import AUGMENTATIONS
from colgraph.geometry import CONTROLS, NEIGHBORHOODS
from colgraph.options import CENTER, VisionOptions, option, option_again
from colgraph.tasks import STEP_LOSSES

VISION_SETTINGS = ("columns_per_patch", "patch_stride", "sampling", "fixation")
"""How a sheet sees images, beside the size of patches: options of a :class:`colgraph.VisionColumnformer`."""

BASELINES = {
    "vit": "a vit",
    "cnn": "a cnn",
    "local": "a locally connected network",
    "recurrent": "a recurrent convolution",
}
"""Models without a sheet, as errors call them."""


OWN = "own"
"""The setting of a model that came from Python, and that no file makes."""


@dataclass(frozen=True)
class InputSettings:
    """What a model learns from, and on which sheet: settings in front of the model's own."""

    data: str = option(
        "clane9/imagenet-100", "digits, mazes, pathfinder, clutter, a folder, a parquet file or folder, or a Hub id"
    )
    image_size: int = option(128, "side of the images in pixels", low=1)
    channels: int = option(3, "color channels, 1 or 3; images are converted", choices=(1, 3))
    augment: str = option("natural", "augmentation of training images", choices=AUGMENTATIONS)
    crop: float = option(0.4, "natural, kornia: smallest share of the image's area in a crop", above=0, high=1)
    flip: bool = option(True, "all but affine: mirror half of the images")
    color: float = option(
        0.2, "natural, kornia: strength of brightness, contrast and saturation changes", low=0, below=1
    )
    mixup: float = option(0.0, "mix pairs of images, by shares from Beta(a, a); 0: off", low=0)
    split_seed: int = option(0, "chooses the held-out fifth of data that has no held-out split", low=0)
    train_share: float = option(
        1.0,
        "share of the training images to learn from, of each class in proportion; --split-seed chooses them",
        above=0,
        high=1,
    )
    memory_gb: float = option(2.0, "decode all images up front if they fit in this many GB", low=0)
    max_corrupt: int = option(10, "leave out up to so many images that cannot be read", low=0)
    workers: int | None = option(
        None, "processes that read images not held in memory (default: as many as cores, at most 8)", low=0
    )

    task: str = option(
        "classify",
        "what is learned: classify (a class per image), columns (one per patch or output column), reconstruct (hidden "
        "patches), contrast (which views belong together), or file.py:Class",
    )
    step_loss: str = option("last", "after which steps answers count: last, every or rising", choices=STEP_LOSSES)
    burn_in: int = option(
        0,
        "in the second half of the epochs 0 to so many steps without gradient come first, drawn anew for each batch: "
        "for a model that is to stay right when it runs longer",
        low=0,
    )
    class_weights: str = option(
        "none", "balanced: classes weigh by the inverse of their number of labels", choices=("none", "balanced")
    )
    mask_ratio: float = option(0.6, "reconstruct: share of patches that are hidden", above=0, below=1)
    temperature: float = option(0.2, "contrast: of the softmax over views", above=0)
    projection_dim: int = option(64, "contrast: numbers by which views are compared", low=1)
    init: str | None = option(None, "a run whose sheet and patch embedding to begin with; the head is new")
    freeze: bool = option(False, "train the head alone, on what --init has learned (a linear probe)")

    model: str = option(
        "columnformer",
        "columnformer, or a baseline without a sheet: vit, cnn, local (untied), or recurrent (convolutions), or "
        "file.py:function, which makes a network of your own",
    )
    depth: int | None = option(
        None, "blocks of a vit, cnn or local (default: 4); 3 x 3 convolutions in a step of a recurrent (1)", low=1
    )
    tied_blocks: bool = option(False, "a vit of one block, which runs as often as --steps says")
    control: str = option("none", "another sheet of as many columns and edges, to compare with", choices=CONTROLS)

    geometry: str = option("stack", "a name from `colgraph list`, a file, or file.py:function")
    neighbors: str | None = option("knn:32", f"{NEIGHBORHOODS}, or several joined by |")
    metric: str | None = option(None, "what distance means (default: the geometry's own)")
    mask: str | None = option(None, "label file (or indices: 0-99,120) that says which columns to keep")
    axis: str | None = option(None, "x, y, z, -x (write --axis=-x), ...: from inputs to outputs")
    num_inputs: int | None = option(None, "input columns (default: one per patch)", low=1)
    num_outputs: int | None = option(
        None, "columns read out, highest on the axis (default: the geometry's, or all that can hear the input)", low=1
    )
    inputs: str | None = option(None, "the input columns: indices such as 0-15,20, or a label file")
    outputs: str | None = option(None, "the columns read out: indices, or a label file; all: every column")
    patch_size: int | None = option(
        None, "side of a patch in pixels (default: what fits the geometry's inputs, or an eighth of the image)", low=1
    )
    columns_per_patch: int = option_again(VisionOptions, "columns_per_patch", 1)
    patch_stride: int | None = option_again(VisionOptions, "patch_stride", None)
    sampling: str = option_again(VisionOptions, "sampling", "uniform")
    fixation: str = option_again(VisionOptions, "fixation", CENTER)
