"""The settings of a training run: one flat list, the same for flags, YAML files and code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from colgraph.hints import did_you_mean
from colgraph.models.recurrent import MOST_CONVOLUTIONS
from colgraph.options import (
    ColumnformerOptions,
    OptionError,
    VisionOptions,
    as_fixation,
    as_now,
    checked,
    declared,
    option,
    option_again,
    patch_grid,
    plain_value,
    under_older_names,
)
from colgraph.plasticity import Budget, RewireSettings
from colgraph.plugins import is_plugin
from colgraph.tasks import find_task, parse_steps
from colgraph.training.communicability import WIRING_KINDS
from colgraph.training.effects import NEEDS
from colgraph.training.inputs import BASELINES, OWN, InputSettings
from colgraph.training.logger_names import parse_loggers
from colgraph.training.weight_similarity import KINDS

GEOMETRY_SETTINGS = ("neighbors", "metric", "mask", "axis", "num_inputs", "num_outputs", "inputs", "outputs")
"""Settings that fit one geometry: defaults and presets of them go when another geometry is chosen."""

_SIGNALS = ("normed", "evidence", "hidden", "norm")
"""What the spatial loss may be about, see :func:`colgraph.training.spatial.column_responses`."""

_PRECISIONS = {
    **dict.fromkeys(("32", "fp32", "32-true"), "32-true"),
    **dict.fromkeys(("bf16", "bf16-mixed"), "bf16-mixed"),
    **dict.fromkeys(("16", "fp16", "16-mixed"), "16-mixed"),
    **dict.fromkeys(("64", "fp64", "64-true"), "64-true"),
}


@under_older_names
@dataclass(frozen=True)
class TrainConfig(ColumnformerOptions, RewireSettings, InputSettings):
    """Everything a training run depends on; the defaults are ImageNet-100 on a stack of six 8 x 8 layers.

    Values are checked, and brought to their type, when a config is made.

    Raises:
        ValueError: for a value of the wrong type or out of range, named as ``setting: what is wrong``.
    """

    dim: int = option_again(ColumnformerOptions, "dim", 384)
    qk_dim: int = option_again(ColumnformerOptions, "qk_dim", 64)
    mlp_dim: int = option_again(ColumnformerOptions, "mlp_dim", 64)
    inject: str = option_again(ColumnformerOptions, "inject", "first", choices=("first", "every"))
    steps: int = option_again(
        ColumnformerOptions, "steps", 6, help="time steps of a forward pass; 4-10: drawn anew for each batch"
    )
    readout: str | None = option_again(VisionOptions, "readout", None)

    epochs: int = option(100, "passes over the training images", low=1)
    epoch_images: int | None = option(None, "images of an epoch, drawn anew for each (default: all)", low=1)
    batch_size: int = option(128, "images per optimizer step and device", low=1)
    lr: float = option(1e-3, "peak learning rate of AdamW", above=0)
    weight_decay: float = option(0.05, "decay of weights (not of norms, biases, embeddings, edge biases)", low=0)
    beta1: float = option(0.9, "AdamW's memory of gradients", low=0, below=1)
    beta2: float = option(0.999, "AdamW's memory of squared gradients", low=0, below=1)
    difference_lr: float = option(1.0, "factor on the learning rate of differences (shared+difference)", above=0)
    difference_decay: float | None = option(None, "decay of differences (default: weight_decay)", low=0)
    edge_bias_lr: float = option(1.0, "factor on the learning rate of edge biases", above=0)
    embedding_lr: float = option(1.0, "factor on the learning rate of position and time embeddings", above=0)
    ema: float = option(0.0, "decay of the moving average of weights that is evaluated; 0: off", low=0, below=1)
    warmup: float = option(5.0, "epochs of linear warm-up before the cosine", low=0)
    clip: float = option(1.0, "largest gradient norm; 0 switches clipping off", low=0)
    label_smoothing: float = option(0.1, "label smoothing", low=0, below=1)
    wiring: float = option(0.0, "weight of the wiring cost, in units of the sheet's spacing", low=0)
    wiring_kind: str = option(
        "length",
        "what wires cost: their length (to the wiring power), or that times communicability, of attention as it is or "
        "normalized by both directions",
        choices=WIRING_KINDS,
    )
    spatial_weight: float = option(0.0, "weight of the spatial loss: near columns respond alike", low=0)
    spatial_signal: str | None = option(
        None, "what of columns shall be alike: normed, evidence, hidden or norm (default: normed)", choices=_SIGNALS
    )
    weight_similarity: float = option(0.0, "weight of the similarity loss: near columns have like weights", low=0)
    weight_similarity_kind: str = option(
        "cosine", "of columns' weights: cosine of neighbors, or laplacian-pyramid: what smoothing takes", choices=KINDS
    )
    weight_similarity_range: float = option(1.0, "width of its Gaussian of distance, in spacings", above=0)
    seed: int = option(0, "of parameters, batches and augmentation", low=0, high=2**64 - 1)
    devices: str = option("1", "number of devices, or auto")
    sheet_parallel: int = option(1, "processes that share one sheet, each with a part of its columns", low=1)
    accelerator: str = option("auto", "where to train", choices=("auto", "cpu", "gpu", "mps"))
    precision: str = option("32", "32, bf16, 16 (mixed) or 64", choices=tuple(_PRECISIONS))
    checkpoint_every: str = option("10m", "between checkpoints in an epoch: 10m (minutes), 200 (steps), 0 (none)")
    keep_checkpoints: int = option(0, "checkpoints to keep on the way, from 1% of the steps on, geometrically", low=0)
    figure_every: int = option(10, "redraw figures every so many epochs; 0: only at the end", low=0)
    logger: str = option("tensorboard", "who is told of metrics: tensorboard, wandb, mlflow, several of them, or none")
    tensorboard: bool = option(True, "whether TensorBoard is among the loggers")

    least_steps: int | None = None
    """The smaller number of ``steps="4-10"``, of which ``steps`` is then the larger; flat among the settings again."""

    options: dict[str, Any] = field(default_factory=dict)
    """Options of the geometry, such as ``{"widths": [8, 8, 8]}``; flat among the flags and in YAML files."""

    def __post_init__(self) -> None:
        least, most = parse_steps(self.steps)
        if most is not self.steps:
            object.__setattr__(self, "steps", most)
            object.__setattr__(self, "least_steps", least)
        try:
            self._check(written=True)
            object.__setattr__(self, "fixation", as_fixation(self.fixation))
            if self.patch_size is not None and self.patch_stride is not None:
                patch_grid((self.image_size, self.image_size), self.patch_size, self.patch_stride)
        except OptionError as error:
            raise ValueError(f"{error.name}: {error.reason}") from error
        object.__setattr__(self, "options", plain_value(self.options))
        if self.model not in ("columnformer", *BASELINES, OWN) and not is_plugin(self.model):
            known = ("columnformer", *BASELINES)
            hint = did_you_mean(self.model, known, "; ")
            raise ValueError(f"model: must be {', '.join(known)}, or file.py:function, got {self.model!r}{hint}")
        if self.depth is None:
            object.__setattr__(self, "depth", 1 if self.model == "recurrent" or self.is_own else 4)
        object.__setattr__(self, "precision", _PRECISIONS[self.precision])
        if self.devices != "auto" and not (self.devices.isdecimal() and int(self.devices) > 0):
            raise ValueError(f"devices: must be a number of at least 1, or auto, got {self.devices!r}")
        if self.patch_stride is not None and self.patch_stride > self.image_size:
            raise ValueError(f"patch_stride: must be at most image_size {self.image_size}, got {self.patch_stride}")
        parse_interval(self.checkpoint_every)
        try:
            Budget.parse(self.rewire_budget)
        except ValueError as error:
            raise ValueError(f"rewire_budget: {error}") from error
        object.__setattr__(self, "logger", self.logger.replace(" ", "").lower())
        parse_loggers(self.logger, self.tensorboard)
        if self.least_steps is not None and self.least_steps >= self.steps:
            object.__setattr__(self, "least_steps", None)
        self._check_task()
        self._check_combinations()
        if self.patch_size is not None and self.patch_stride is None and self.image_size % self.patch_size:
            raise ValueError(f"patch_size: image_size {self.image_size} is not divisible by {self.patch_size}")

    @property
    def loggers(self) -> tuple[str, ...]:
        """Who is told of metrics, by name."""
        return parse_loggers(self.logger, self.tensorboard)

    def _check_task(self) -> None:
        """The readout that the task needs, where none is chosen; refuse what it cannot be combined with."""
        try:
            task = find_task(self.task)
        except ValueError as error:
            raise ValueError(f"task: {error}") from error
        if self.readout is None:
            object.__setattr__(self, "readout", task.readouts[0])
        checks = (
            (self.readout not in task.readouts, "readout", f"{self.task} takes {' or '.join(task.readouts)}"),
            (task.labels != "image" and self.mixup > 0, "mixup", f"mixes classes of images, {self.task} has none"),
            (
                task.labels == "column" and self.augment != "none",
                "augment",
                f"images would move and their targets not, {self.task} takes --augment none",
            ),
            (
                self.is_own and task.labels != "image",
                "task",
                f"{self.task} asks about patches or views, which {self.baseline} may not have: a class per image",
            ),
            (
                self.baseline is not None and (task.hides or task.head != "linear"),
                "task",
                f"{self.task} needs a sheet, {self.baseline} has none",
            ),
            (
                self.freeze and self.init is None,
                "freeze",
                "the head alone learns on what --init RUN has learned: give that",
            ),
        )
        for wrong, setting, reason in checks:
            if wrong:
                raise ValueError(f"{setting}: {reason}")

    def _check_combinations(self) -> None:
        """Refuse what cannot be meant, before any time is spent on it."""
        other, name, parts = self.baseline is not None, self.baseline, self.sheet_parallel
        checks = (
            (other and parts > 1, "sheet_parallel", f"{name} has no sheet to share, got {parts}"),
            (other and self.control != "none", "control", f"{name} has no sheet to rewire or to shuffle: leave it out"),
            (other and self.spatial_weight > 0, "spatial_weight", f"{name} has no columns in space, so no such loss"),
            (other and self.readout == "spatial", "readout", f"{name} has no columns to weigh: mean, got spatial"),
            (
                self.model == "recurrent" and (self.depth or 0) > MOST_CONVOLUTIONS,
                "depth",
                f"{name} has at most {MOST_CONVOLUTIONS} convolutions of 3 x 3 in a step, got {self.depth}",
            ),
            (
                other and self.patch_stride not in (None, self.patch_size),
                "patch_stride",
                f"{name} takes patches side by side, got {self.patch_stride}: leave it out",
            ),
            (
                other and self.sampling != "uniform",
                "sampling",
                f"{name} takes images as they are, got {self.sampling}: leave it out",
            ),
            (
                other and self.weight_similarity > 0,
                "weight_similarity",
                f"{name} has no columns in space, so no such loss",
            ),
            (
                parts > 1 and self.weight_similarity > 0,
                "weight_similarity",
                f"weights of columns on {parts} processes are not at hand: use sheet_parallel=1",
            ),
            (
                self.weight_similarity > 0 and not {"attention", "mlp"} & set(self.untied_parts),
                "weight_similarity",
                f"with untied {self.untied} all columns have the same weights: give --untied attention or mlp",
            ),
            (
                self.weight_similarity > 0 and self.value_projection and "attention" in self.untied_parts,
                "weight_similarity",
                "untied value weights make channels a column's own: no value_projection, or leave it out",
            ),
            (
                parts > 1 and self.wiring_kind != "length" and self.wiring > 0,
                "wiring_kind",
                f"{self.wiring_kind} takes the whole sheet's attention: use sheet_parallel=1, or length",
            ),
            (
                self.burn_in > 0 and not self.recurs,
                "burn_in",
                f"blocks of {name} run once each, and no steps can come before them: leave {self.burn_in} out",
            ),
            (
                self.burn_in > 0 and self.time_embedding,
                "burn_in",
                f"a time embedding has no vectors for steps beyond those that learn: leave {self.burn_in} or it out",
            ),
            (
                self.burn_in > 0 and self.inject != "every",
                "burn_in",
                "no gradient would reach the image, which enters at the first step alone: give inject every, or leave "
                f"{self.burn_in} out",
            ),
            (self.augment == "kornia" and self.channels != 3, "augment", "kornia takes 3 channels: use natural"),
            (
                self.time_embedding and self.steps == 1,
                "time_embedding",
                "one step has no time to tell: give more steps",
            ),
            (
                self.rewire > 0 and parts > 1,
                "rewire",
                f"the edges of a sheet in {parts} parts cannot change: use sheet_parallel=1 (several devices may each "
                "have the whole sheet)",
            ),
            (self.rewire > 0 and other, "rewire", f"{name} has no sheet whose edges could change: leave it out"),
            (
                self.rewire > 0 and self.speed is not None,
                "rewire",
                "an edge with a delay cannot come and go: leave speed or rewire out",
            ),
            (self.rewire > 0 and self.freeze, "rewire", "with freeze the sheet stays as it is: leave one of them out"),
            (parts > 1 and self.ema > 0, "ema", "weights of a sheet in parts cannot be averaged: use sheet_parallel=1"),
        )
        for wrong, setting, reason in checks:
            if wrong:
                raise ValueError(f"{setting}: {reason}")

    @property
    def baseline(self) -> str | None:
        """The model as words, where it is one without a sheet: "a vit"."""
        return "a network of your own" if self.is_own else BASELINES.get(self.model)

    @property
    def is_own(self) -> bool:
        """Whether the model is neither a columnformer nor one of the baselines."""
        return self.model == OWN or is_plugin(self.model)

    @property
    def has_heads(self) -> bool:
        """Whether states are split among heads."""
        return self.model in ("columnformer", "vit")

    @property
    def recurs(self) -> bool:
        """Whether the same weights run in all steps, as many as ``steps`` says; else there are ``depth`` blocks."""
        return self.model in ("columnformer", "recurrent") or (self.model == "vit" and self.tied_blocks)

    @property
    def num_blocks(self) -> int:
        """How many steps, or blocks of their own weights, run one after another."""
        return self.steps if self.recurs else self.depth or 0

    def lacks(self, name: str) -> str | None:
        """What a setting would need to have an effect with the others, as a flag; None where it has one."""
        return next((flag for names, fits, flag in NEEDS if name in names and not fits(self)), None)

    def flat(self) -> dict[str, Any]:
        """All settings as one mapping of plain values, the geometry's options among them: what a YAML file holds."""
        settings = asdict(self)
        least = settings.pop("least_steps")
        if least is not None:
            settings["steps"] = f"{least}-{self.steps}"
        return settings | settings.pop("options")

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """Back from :meth:`flat`, of this version or an older one; what is no setting is an option of the geometry.

        Raises:
            ValueError: as for the class, and for a setting under two names.
        """
        settings = as_now(settings)
        options = {name: value for name, value in settings.items() if name not in _FIELDS}
        return cls(**{name: value for name, value in settings.items() if name in _FIELDS}, options=options)


def parse_interval(text: str) -> tuple[int, float]:
    """Steps, and seconds, of which one is zero: ``200`` is steps, ``10m`` minutes, ``0`` neither.

    Raises:
        ValueError: for anything else.
    """
    number = text[:-1] if text.endswith("m") else text
    try:
        value = float(number) if number != text else int(number)
        if not 0 <= value < math.inf:
            raise ValueError
    except ValueError:
        raise ValueError(f"checkpoint_every: must be steps such as 200, or minutes such as 10m, got {text!r}") from None
    return (0, 60.0 * value) if number != text else (int(value), 0.0)


_FIELDS = declared(TrainConfig)


def describe_settings() -> dict[str, tuple[Any, bool, str]]:
    """For each setting its default, whether it is a switch (a bare flag), and its help text."""
    return {
        name: (each.field.default, each.kind is bool, each.field.metadata["help"]) for name, each in _FIELDS.items()
    }


def coerce(name: str, value: Any) -> Any:
    """Bring a value from a flag, a YAML file or code to the type of a setting, and check its limits.

    Raises:
        OptionError: naming the setting and what is wrong.
    """
    try:
        least, _ = parse_steps(value) if name == "steps" else (None, value)
    except ValueError as error:
        raise OptionError(name, str(error).partition(": ")[2]) from None
    return value if least is not None else checked(TrainConfig, name, value, written=True)
