"""The options of models: declared once, checked once, and what older files call them.

A model holds its options, a training run's settings contain them (:class:`colgraph.training.TrainConfig`), and files
keep them under the same names.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar

import numpy as np

from colgraph.hints import did_you_mean

_Class = TypeVar("_Class")

PARTS = ("norm", "attention", "mlp")
PARAMETRIZATIONS = ("plain", "shared+difference")

OPTIONS_FORMAT = 2
"""The version of the names and values of options, in checkpoints and shared models."""

_RENAMED = {"heads": "num_heads", "colour": "color"}
"""Names that format 1 used, and settings files may go on using; "none" in place of None is read everywhere."""


class OptionError(ValueError):
    """An option with a value that it cannot have.

    Attributes:
        name: of the option.
        reason: what is wrong, to be read after the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


def as_now(options: Mapping[str, Any], written: object = OPTIONS_FORMAT) -> dict[str, Any]:
    """Options of any format by the names they have now.

    Args:
        options: by name; other names are left alone.
        written: the format of the file they come from.

    Raises:
        ValueError: for a format of a later version, and for an option under two names.
    """
    if not isinstance(written, int) or not 1 <= written <= OPTIONS_FORMAT:
        raise ValueError(f"format {written!r} of options; this version of colgraph reads up to {OPTIONS_FORMAT}")
    for old, new in _RENAMED.items():
        if old in options and new in options:
            raise OptionError(new, f"is what {old} means: give one of the two")
    return {_RENAMED.get(name, name): value for name, value in options.items()}


def other_names(name: str) -> list[str]:
    """Older names of an option."""
    return [old for old, new in _RENAMED.items() if new == name]


def under_older_names(owner: type[_Class]) -> type[_Class]:
    """A class of options that is made with older names as well, and answers to them."""
    build = owner.__init__

    @functools.wraps(build)
    def construct(self: _Class, *args: Any, **named: Any) -> None:
        build(self, *args, **as_now(named))

    owner.__init__ = construct  # type: ignore[method-assign, assignment]
    for old, new in _RENAMED.items():
        setattr(owner, old, property(operator.attrgetter(new)))
    return owner


# ---------------------------------------------------------------------- declaring and checking


def option(default: Any, text: str, **limits: Any) -> Any:
    """A field with its help text and limits: ``low``, ``high``, ``above`` and ``below`` (exclusive), ``choices``."""
    return field(default=default, metadata={"help": text, **limits})


class Declared(NamedTuple):
    """What a class says of one of its options: the field, the type of its values, and whether None is one of them."""

    field: dataclasses.Field[Any]
    kind: type
    optional: bool


@functools.cache
def declared(owner: Any) -> dict[str, Declared]:
    """The options of a class by name, in its order."""
    items, hints = (item for item in fields(owner) if "help" in item.metadata), typing.get_type_hints(owner)
    kinds = {item: typing.get_args(hints[item.name]) or (hints[item.name],) for item in items}
    return {item.name: Declared(item, found[0], type(None) in found) for item, found in kinds.items()}


def option_again(owner: type, name: str, default: Any, **changed: Any) -> Any:
    """An option of another class with another default, and other help or limits where they are given."""
    return field(default=default, metadata={**declared(owner)[name].field.metadata, **changed})


def plain_value(value: Any) -> Any:
    """Numbers, texts and lists as Python's own, whatever library they come from: what checks and files know."""
    if isinstance(value, np.floating):
        # The shortest decimal that is this number: 0.001 rather than 0.0010000000474974513.
        return float(str(value)) if value.itemsize < 8 else float(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return value.tolist() if hasattr(type(value), "tolist") else value


def check_choice(name: str, value: object, choices: Collection[object], show: Callable[[Any], str] = repr) -> None:
    """Raise :class:`OptionError` unless a value is one of the choices; ``show`` writes them."""
    if value not in list(choices):  # which, unlike a set, takes any value
        hint = did_you_mean(value, choices, "; ", show)
        raise OptionError(name, f"must be one of {', '.join(map(show, choices))}, got {value!r}{hint}")


def check_sizes(**sizes: object) -> None:
    """Raise :class:`OptionError` unless all are integers of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(name, f"must be an integer of at least 1, got {size!r}")


def checked(owner: type, name: str, value: Any, *, written: bool = False) -> Any:
    """The value of an option as its class declares it: a plain one, of its type, within its limits.

    Args:
        owner: the class.
        name: the option.
        value: what is given.
        written: whether it may come from a flag or a file, where numbers can be texts, and None is "none".

    Raises:
        OptionError: saying what would be right.
    """
    (item, kind, optional), value = declared(owner)[name], plain_value(value)
    limits, none = item.metadata, "none" if written else None
    if optional and value in (None, none):
        return None
    try:
        value = _as_kind(kind, value, written)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(name, f"must be {_KINDS[kind]}, got {value!r}") from None
    if "choices" in limits:
        choices = (*limits["choices"], none) if optional else limits["choices"]
        check_choice(name, value, choices, str if written else repr)
    for limit, bad, words in _LIMITS:
        if limit in limits and bad(value, limits[limit]):
            raise OptionError(name, f"must be {words} {limits[limit]}, got {value!r}")
    return value


def check_fields(options: Any, *, written: bool = False) -> None:
    """Bring every option of a frozen dataclass to its value, see :func:`checked`."""
    owner: Any = type(options)
    for name in declared(owner):
        object.__setattr__(options, name, checked(owner, name, getattr(options, name), written=written))


_LIMITS: tuple[tuple[str, Any, str], ...] = (
    ("low", lambda value, limit: value < limit, "at least"),
    ("high", lambda value, limit: value > limit, "at most"),
    ("above", lambda value, limit: value <= limit, "greater than"),
    ("below", lambda value, limit: value >= limit, "less than"),
)


_KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}


def _as_kind(kind: type, value: Any, written: bool) -> Any:
    """A plain value as one of a type, or an error of some kind."""
    if kind is str:
        value = ",".join(map(str, value)) if isinstance(value, list) else value
        fits = not isinstance(value, bool | Mapping) and value not in (None, "")
    elif kind is bool:
        fits = isinstance(value, bool) or (not written and value in (0, 1))
    else:
        fits = not isinstance(value, bool) and (written or not isinstance(value, str)) and math.isfinite(float(value))
    if not fits or (kind is int and isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return kind(value)


def held(name: str, *, assignable: bool = False) -> Any:
    """A property of a module that is one of its ``options``; where it is assigned to, the options are other ones."""

    def read(module: Any) -> Any:
        return getattr(module.options, name)

    def write(module: Any, value: Any) -> None:
        module.options = dataclasses.replace(module.options, **{name: plain_value(value)})

    return property(read, write if assignable else None)


# ---------------------------------------------------------------------- the options


@dataclass(frozen=True)
class ColumnformerOptions:
    """The options of a :class:`colgraph.Columnformer`, which explains them; plain values that JSON and YAML can say.

    Raises:
        OptionError: for values of another type or out of range.
    """

    dim: int = option(64, "channels of a column's state", low=1)
    steps: int = option(6, "time steps of a forward pass", low=1)
    num_heads: int = option(1, "attention heads (of a vit too)", low=1)
    qk_dim: int = option(16, "size of queries and keys per head", low=1)
    mlp_dim: int = option(32, "hidden size of a column's (or a vit block's) MLP", low=1)
    untied: str = option("all", "parts with parameters per column: norm,attention,mlp, all or none")
    value_projection: bool = option(False, "value and output weights in attention")
    attention_residual: bool = option(True, "add the state to what a column hears")
    edge_bias: str | None = option("learned", "bias per edge: learned, fixed or none", choices=("learned", "fixed"))
    locality_sigma: float | None = option(None, "width of the initial edge bias (default: 2 spacings)", above=0)
    position_embedding: bool = option(True, "a learned vector per column at step 0")
    time_embedding: bool = option(False, "a learned vector per step")
    inject: str = option("first", "where input enters", choices=("first", "every", "sequence"))
    wiring_power: float = option(1.0, "the power of an edge's length that listening through it costs")
    recompute: str | None = option(
        None,
        "what the backward pass computes once more: steps (each by itself), sqrt (a square root of them at a time)",
        choices=("steps", "sqrt"),
    )
    backend: str = option("auto", "attention backend, see colgraph.ops.available_backends()")
    parametrization: str = option(
        "plain", "untied weights as they are, or as shared ones + a difference per column", choices=PARAMETRIZATIONS
    )
    leak: float = option(0.0, "share of a column's state that is lost at each step", low=0, below=1)
    speed: float | None = option(
        None, "distance that news travels in a step, in the sheet's units: conduction delays (default: none)", above=0
    )

    def __post_init__(self) -> None:
        self._check(written=False)

    def _check(self, *, written: bool) -> None:
        if isinstance(self.untied, Collection) and not isinstance(self.untied, str):
            object.__setattr__(self, "untied", ",".join(map(str, self.untied)) or "none")
        check_fields(self, written=written)
        object.__setattr__(self, "untied", ",".join(self.untied_parts) or "none")
        if self.has_heads and self.dim % self.num_heads:
            raise OptionError("dim", f"{self.dim} is not divisible by num_heads={self.num_heads}")

    @property
    def has_heads(self) -> bool:
        """Whether states are split among heads."""
        return True

    @property
    def untied_parts(self) -> tuple[str, ...]:
        """Which of "norm", "attention" and "mlp" have parameters per column."""
        return parse_untied(self.untied)

    def arguments(self) -> dict[str, Any]:
        """What to call :class:`colgraph.Columnformer` with; what a subclass adds is left out."""
        return {item.name: getattr(self, item.name) for item in fields(ColumnformerOptions)}


CENTER = "0.5,0.5"
"""Where an image is looked at by default."""


def patch_grid(size: tuple[int, int], patch: int, stride: int | None = None) -> tuple[int, int]:
    """Rows and columns of patches of an image of a height and width, ``(side - patch) / stride + 1`` of each.

    Args:
        size: of the image, in pixels.
        patch: side of a patch.
        stride: from one patch to the next; None for the side of a patch, which then tile the image.

    Raises:
        OptionError: unless that is a whole number, and no pixel is left out.
    """
    height, width = size
    if stride is None:
        if height % patch or width % patch:
            raise OptionError("image_size", f"{height} x {width} is not divisible by patch_size {patch}")
        return height // patch, width // patch
    if patch > min(size):
        raise OptionError("patch_size", f"{patch} is larger than the image of {height} x {width}")
    rest = math.gcd(height - patch, width - patch)
    if stride > patch or rest % stride:
        fits = [str(s) for s in range(1, patch + 1) if rest % s == 0]
        raise OptionError(
            "patch_stride",
            f"{stride} does not lead patches of {patch} px over all of {height} x {width} px: {', '.join(fits)} "
            f"{'does' if len(fits) == 1 else 'do'}",
        )
    return (height - patch) // stride + 1, (width - patch) // stride + 1


def fixation_point(fixation: str) -> tuple[float, float]:
    """Shares of height and width, of a text such as ``0.5,0.5``.

    Raises:
        OptionError: unless it is two numbers between 0 and 1.
    """
    try:
        down, right = (float(share) for share in fixation.split(","))
    except ValueError:
        down = right = math.nan
    if not (0 <= down <= 1 and 0 <= right <= 1):
        raise OptionError("fixation", f"must be shares of height and width such as {CENTER}, got {fixation!r}")
    return down, right


def as_fixation(fixation: str) -> str:
    """A fixation point as options have it, however it is spaced; raises as :func:`fixation_point`."""
    return ",".join(map(str, fixation_point(fixation)))


@dataclass(frozen=True)
class VisionOptions:
    """The options of a :class:`colgraph.VisionColumnformer`, which explains them.

    Raises:
        OptionError: for values of another type or out of range, and patches that do not tile the image.
    """

    image_size: int | tuple[int, int] = 32
    patch_size: int = option(4, "side of a patch in pixels", low=1)
    in_channels: int = option(3, "channels of the image", low=1)
    num_classes: int = option(10, "number of classes", low=1)
    readout: str = option(
        "mean",
        "mean over outputs, spatial (one learned weighting of them per class), or columns (an answer of each)",
        choices=("mean", "spatial", "columns"),
    )
    head: str = option("linear", "what answers: a linear map, or an mlp of one hidden layer", choices=("linear", "mlp"))
    mask_token: bool = option(False, "a learned vector in place of patches that are hidden from the model")
    columns_per_patch: int = option(1, "input columns that see each patch, each through a linear map of its own", low=1)
    patch_stride: int | None = option(
        None, "pixels from one patch to the next: patches overlap below their size (default: the patch size)", low=1
    )
    sampling: str = option(
        "uniform",
        "how images are seen: uniform, or log-polar: finely around a fixation point, coarsely far from it, in rings",
        choices=("uniform", "log-polar"),
    )
    fixation: str = option(CENTER, "log-polar: the point looked at, from the upper left: shares of height and width")

    def __post_init__(self) -> None:
        check_fields(self)
        size = plain_value(self.image_size)
        height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
        for side in (height, width):
            check_sizes(image_size=side)
        patch_grid((height, width), self.patch_size, self.patch_stride)
        object.__setattr__(self, "fixation", as_fixation(self.fixation))
        if self.fixation != CENTER and self.sampling != "log-polar":
            raise OptionError("fixation", f"needs sampling='log-polar', got sampling={self.sampling!r}")
        if self.head == "mlp" and self.readout != "mean":
            raise OptionError("head", f"mlp needs readout='mean', got readout={self.readout!r}")
        object.__setattr__(self, "image_size", (height, width))


def parse_untied(untied: Collection[str] | str) -> tuple[str, ...]:
    """The parts that are untied, in a fixed order, from names, "norm,mlp", "all" or "none"."""
    names = untied.split(",") if isinstance(untied, str) else list(untied)
    names = [name.strip() for name in names if name.strip()]
    if names == ["all"]:
        return PARTS
    if names == ["none"]:
        return ()
    for name in names:
        check_choice("untied", name, PARTS)
    return tuple(part for part in PARTS if part in names)
