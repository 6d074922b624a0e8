"""What a setting needs to have an effect: of settings that have none a run is told, before it begins."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from colgraph.data import MADE, ImageSplits
from colgraph.options import ColumnformerOptions, declared
from colgraph.plasticity import RewireSettings
from colgraph.tasks import find_task, make_task
from colgraph.training.inputs import BASELINES, VISION_SETTINGS

if TYPE_CHECKING:
    from colgraph.training.config import TrainConfig

_OF_BASELINES = (
    *("dim", "num_heads", "mlp_dim", "parametrization"),
    *("steps", "inject", "position_embedding", "leak"),
)
"""Options of a columnformer that some baseline has, too."""

NEEDS: tuple[tuple[tuple[str, ...], Callable[[TrainConfig], bool], str], ...] = (
    (
        ("dim", "readout", "inject", "patch_size", "geometry", "num_inputs", "inputs"),
        lambda c: not c.is_own,
        "--model columnformer, or a baseline",
    ),
    (("class_weights",), lambda c: find_task(c.task).labels != "none", "--task classify or columns"),
    (
        ("label_smoothing",),
        lambda c: not c.label_smoothing or find_task(c.task).smooths is not False,
        "--task classify or columns",
    ),
    (("mask_ratio",), lambda c: find_task(c.task).hides, "--task reconstruct"),
    (("temperature", "projection_dim"), lambda c: find_task(c.task).views > 1, "--task contrast"),
    (("step_loss",), lambda c: c.step_loss == "last" or c.num_blocks > 1, "--steps 2 or more"),
    (("tied_blocks",), lambda c: c.model == "vit", "--model vit"),
    (
        ("depth",),
        lambda c: c.model in BASELINES and not c.tied_blocks,
        "--model vit, cnn, local or recurrent (a vit of tied blocks has --steps)",
    ),
    (
        ("steps", "leak", "burn_in"),
        lambda c: c.recurs,
        "--model columnformer or recurrent, or --model vit --tied-blocks",
    ),
    (("mlp_dim",), lambda c: c.has_heads or c.model == "recurrent", "--model columnformer, vit or recurrent"),
    (("num_heads", "embedding_lr", "position_embedding"), lambda c: c.has_heads, "--model columnformer or vit"),
    (
        ("parametrization", "difference_lr", "difference_decay"),
        lambda c: c.model in ("columnformer", "local"),
        "--model columnformer or local",
    ),
    (
        (
            *("control", "neighbors", "metric", "mask", "axis", "num_outputs", "outputs", "wiring", "wiring_kind"),
            *("weight_similarity", "weight_similarity_kind", "weight_similarity_range"),
            *("spatial_weight", "spatial_signal", "sheet_parallel", "edge_bias_lr", *VISION_SETTINGS),
            *declared(RewireSettings),
            *(name for name in declared(ColumnformerOptions) if name not in _OF_BASELINES),
        ),
        lambda c: c.model == "columnformer",
        "--model columnformer",
    ),
    # A geometry says how large the patches of a baseline are, unless they are given.
    (
        ("geometry", "num_inputs", "inputs"),
        lambda c: c.model == "columnformer" or c.patch_size is None,
        "--model columnformer",
    ),
    (("fixation",), lambda c: c.sampling == "log-polar", "--sampling log-polar"),
    (("crop", "color"), lambda c: c.augment in ("natural", "kornia"), "--augment natural or kornia"),
    (("flip",), lambda c: c.augment in ("natural", "kornia", "shift"), "--augment natural, kornia or shift"),
    (
        ("parametrization",),
        lambda c: c.parametrization == "plain" or c.model == "local" or c.untied != "none",
        "untied parts (--untied all)",
    ),
    (
        ("difference_lr", "difference_decay"),
        lambda c: c.parametrization != "plain" and (c.model == "local" or c.untied != "none"),
        "--parametrization shared+difference",
    ),
    ((*(name for name in declared(RewireSettings) if name != "rewire"),), lambda c: c.rewire > 0, "--rewire"),
    (("rewire_length",), lambda c: c.rewire_grow == "distance", "--rewire-grow distance"),
    (("spatial_signal",), lambda c: c.spatial_weight > 0, "--spatial-weight"),
    (
        ("weight_similarity_kind", "weight_similarity_range"),
        lambda c: c.weight_similarity > 0,
        "--weight-similarity",
    ),
    (("wiring_kind",), lambda c: c.wiring > 0, "--wiring"),
    (
        (
            *("wiring", "spatial_weight", "weight_similarity"),
            *("edge_bias_lr", "embedding_lr", "difference_lr", "difference_decay"),
        ),
        lambda c: not c.freeze,
        "more than the head to learn: --init without --freeze",
    ),
    (("edge_bias_lr",), lambda c: c.edge_bias == "learned", "--edge-bias learned"),
    (("locality_sigma",), lambda c: c.edge_bias is not None, "--edge-bias learned or fixed"),
    (
        ("embedding_lr",),
        lambda c: c.position_embedding or (c.time_embedding and c.model == "columnformer"),
        "--position-embedding or --time-embedding",
    ),
    (
        ("inject",),
        lambda c: c.inject == "first" or c.num_blocks > 1,
        "--steps (of vit, cnn and local: --depth) 2 or more",
    ),
    (("max_corrupt", "memory_gb"), lambda c: c.data.partition(":")[0] not in MADE, "--data of image files"),
)
"""Settings, when they have an effect, and what they need for it."""


def check_on_data(config: TrainConfig, given: Collection[str], images: ImageSplits) -> None:
    """Refuse a flag that plays no part with these images: smoothing, where labels are vectors.

    Args:
        config: the settings.
        given: names of those that the command line says, and not as they are by default.
        images: what is learned from.

    Raises:
        ValueError: naming the flag.
    """
    task, vectors = make_task(config), images.train.labels.is_floating_point()
    if "label_smoothing" in given and task.smoothing(False) and not task.smoothing(vectors):
        raise ValueError(
            f"--label-smoothing has no effect here: it needs labels that are classes, those of {images.source!r} are "
            "vectors; leave it out"
        )
