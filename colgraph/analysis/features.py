"""Columns' signals as outputs of named modules, where the forward hooks of other tools find them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from colgraph.analysis.arrays import check_choice
from colgraph.analysis.sheet_regions import sheet_regions
from colgraph.analysis.signals import Signal, check_signal, signal_of, step_numbers

_RANGES = ("normalized", "unit")
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Feature:
    """What one output of a :class:`FeatureExtractor` is of.

    Attributes:
        signal: what of a column.
        step: after which step, from 0.
        region: its name as it was given.
        columns: how many columns it has; None where the network has no sheet.
    """

    signal: Signal
    step: int
    region: str
    columns: int | None


class FeatureExtractor(nn.Module):
    """A network whose columns' signals are the outputs of modules of their own, for tools that read layers by name.

    It answers with the network's logits, so that it can stand in for the network, and in every forward pass each
    feature goes through a module that changes nothing: a forward hook on ``step3.V1`` reads what the columns of V1 say
    after the third step. Names count steps from 1, as figures do; with several signals they begin with the signal
    (``evidence.step3.V1``). ``logits`` is the last module. Gradients pass from features to images; logits do not depend
    on what a hook returns. The network's own modules (``net....``) can be hooked as well, but their outputs come
    columns first and once a step.

    Args:
        net: a network with ``unroll(images, record=("state",))``, such as :class:`colgraph.VisionColumnformer`, one of
            the baselines, or the ``net`` of :func:`colgraph.report.load_run`.
        steps: "all", None for the last, or numbers of steps (0 is the first, -1 the last).
        regions: as :func:`colgraph.analysis.sheet_regions` takes them; a network without a sheet has ``all`` alone.
        signal: what of a column, see :func:`colgraph.analysis.responses`, or several of these.
        images: "normalized" for images as the network takes them, floats less the mean and divided by the deviation of
            the training images; "unit" for floats from 0 to 1, or bytes, which are then normalized here.
        mean: of each channel, for "unit"; what the network says of itself (``net.about``) if not given.
        std: the same of the standard deviation.

    Attributes:
        names: for each name of a module the :class:`Feature` it gives, ``[B, features]``, columns times channels: the
            channels of a region's first column come first. ``features.unflatten(1, (columns, -1))`` parts them.

    Raises:
        ValueError: for a network that cannot be unrolled, unknown steps, regions, signals or images, two regions of one
            name once it is made safe for modules, and "unit" where mean and deviation are not known. When it is called,
            for images in another range than said.
    """

    _mean: Tensor | None
    _std: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        *,
        steps: int | str | Sequence[int] | None = "all",
        regions: Any | None = None,
        signal: Signal | Sequence[Signal] = "normed",
        images: str = "normalized",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(net, nn.Module) or not hasattr(net, "unroll"):
            raise ValueError(f"features need a network with unroll(images, record=('state',)), got {_kind(net)}")
        self.signals = _signals(net, signal)
        self.steps = _steps(net, steps)
        self.regions = _regions(net, regions)
        self._use_pixels(net, images, mean, std)
        self.net = net
        self.training = net.training
        self.names: dict[str, Feature] = {}
        for number, columns in enumerate(self.regions.values()):
            index = None if columns is None else torch.from_numpy(columns)
            self.register_buffer(f"_columns{number}", index, persistent=False)
        self._add_taps()

    def _use_pixels(self, net: nn.Module, images: str, mean: Any, std: Any) -> None:
        """What images must be like, and how they become what the network takes."""
        check_choice("images", images, _RANGES)
        about = getattr(net, "about", None) or {}
        known = {name: about.get(name) if given is None else given for name, given in (("mean", mean), ("std", std))}
        # A network that normalizes by itself is handed what it is given.
        plain = hasattr(net, "normalised")
        self.images = "unit" if plain else images
        if self.images == "unit" and not plain and None in known.values():
            raise ValueError("images='unit' needs mean= and std= of the training images: this network knows of none")
        if self.images == "normalized" and (mean is not None or std is not None):
            raise ValueError("mean and std are for images='unit': normalized images are taken as they are")
        self._warned = False
        for name, values in known.items():
            tensor = None if values is None or plain else torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            if tensor is not None and not (tensor.isfinite().all() and (name == "mean" or (tensor > 0).all())):
                raise ValueError(f"{name} must be finite{'' if name == 'mean' else ' and positive'}, got {values!r}")
            self.register_buffer(f"_{name}", tensor, persistent=False)

    def _add_taps(self) -> None:
        called = _safe_names(list(self.regions))
        for signal in self.signals:
            of_signal = self if len(self.signals) == 1 else _child(self, _signal_name(signal))
            for step in self.steps:
                of_step = _child(of_signal, f"step{step + 1}")
                for name, columns in self.regions.items():
                    of_step.add_module(called[name], nn.Identity())
                    path = f"step{step + 1}.{called[name]}"
                    path = path if of_signal is self else f"{_signal_name(signal)}.{path}"
                    self.names[path] = Feature(signal, step, name, None if columns is None else len(columns))
        # Last, because Brain-Score takes the last module of all for the one that gives the logits.
        self.logits = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """The network's logits; every feature goes through its module."""
        logits, features = self._run(images)
        if logits is None:
            raise ValueError(f"{_kind(self.net)} answers with no logits: features(images) gives its features")
        for name, feature in features.items():
            self.get_submodule(name)(feature)
        answer: Tensor = self.logits(logits)
        return answer

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """``[B, features]`` by name, without any hook."""
        return self._run(images)[1]

    def _run(self, images: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        record = ["hidden"] if "hidden" in self.signals else []
        last = _count(self.net) - 1
        if any(name != "hidden" for name in self.signals) and self.steps != [last]:
            record.append("state")
        net: Any = self.net
        out = net.unroll(self._taken(images), record=tuple(record))
        found = {}
        for signal in self.signals:
            for step in self.steps:
                state = out.hidden[step] if signal == "hidden" else out.states[step] if "state" in record else out.state
                values = signal_of(net, state, signal).transpose(0, 1)
                for number in range(len(self.regions)):
                    columns = getattr(self, f"_columns{number}")
                    some = values if columns is None else values.index_select(1, columns)
                    found[signal, step, number] = some.flatten(1).contiguous()
        numbers = {name: i for i, name in enumerate(self.regions)}
        by_name = {name: found[of.signal, of.step, numbers[of.region]] for name, of in self.names.items()}
        return getattr(out, "logits", None), by_name

    def _taken(self, images: Tensor) -> Tensor:
        """Images as the network takes them.

        Raises:
            ValueError: for images that are not between 0 and 1 where those are taken.
        """
        if self.images == "normalized":
            self._warn_of_range(images)
            return images
        if images.is_floating_point():
            low, high = _ends(images)
            if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
                raise ValueError(
                    f"images must lie between 0 and 1, or be bytes, got {low:.3g} to {high:.3g}: were they normalized?"
                )
        elif images.dtype != torch.uint8:
            name = str(images.dtype).removeprefix("torch.")
            raise ValueError(f"images must be floats between 0 and 1, or uint8, got {name}")
        mean, std = self._mean, self._std
        if mean is None or std is None:  # the network normalizes by itself
            return images
        unit = images if images.is_floating_point() else images.to(mean.dtype) / 255
        return (unit - mean) / std

    def _warn_of_range(self, images: Tensor) -> None:
        """Say once that images look as if they were not normalized, where it is known how they would look."""
        mean, std = self._mean, self._std
        if mean is None or std is None or self._warned or not images.is_floating_point():
            return
        low, high = _ends(images)
        top = float(((1 - mean) / std).max())
        if (low >= 0 and high <= 1 and high > low) or high > 2 * top + 1:
            self._warned = True
            warnings.warn(
                f"images lie between {low:.3g} and {high:.3g}, but this network takes normalized ones (mean "
                f"{_short(mean)}, deviation {_short(std)}): images='unit' takes those from 0 to 1",
                stacklevel=4,
            )

    def extra_repr(self) -> str:
        """For printing."""
        return f"features={len(self.names)}, images={self.images!r}"


def _short(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.flatten().tolist())


def _ends(images: Tensor) -> tuple[float, float]:
    """Lowest and highest value; of images that have none, or whose values are not there yet, something in the range."""
    if not images.numel() or torch.compiler.is_compiling():
        return 0.0, 0.0
    try:
        return float(images.detach().amin()), float(images.detach().amax())
    except RuntimeError:  # under vmap and other transforms there are no numbers to look at
        return 0.0, 0.0


def _kind(net: Any) -> str:
    return str(getattr(net, "__name__", type(net).__name__))


def _count(net: Any) -> int:
    """How many steps a network takes."""
    count = getattr(getattr(net, "model", net), "steps", None)
    count = getattr(net, "steps", None) if count is None else count
    if count is None:
        raise ValueError(f"{_kind(net)} does not say how many steps it takes: it needs the attribute steps")
    return int(count)


def _steps(net: Any, steps: int | str | Sequence[int] | None) -> list[int]:
    count = _count(net)
    if isinstance(steps, str):
        check_choice("steps", steps, ("all",))
        return list(range(count))
    numbers = [t % count for t in step_numbers(-1 if steps is None else steps, count)]
    twice = [t for i, t in enumerate(numbers) if t in numbers[:i]]
    if twice or not numbers:
        raise ValueError(f"steps name {'none' if not numbers else f'step {twice[0]} twice'}")
    return numbers


def _signals(net: Any, signal: Signal | Sequence[Signal]) -> list[Signal]:
    given = [signal] if isinstance(signal, str | int | np.integer) else list(signal)
    channels = getattr(getattr(net, "model", net), "dim", None)
    for one in given:
        check_signal(net, one, channels)
    twice = [one for i, one in enumerate(given) if one in given[:i]]
    if twice or not given:
        raise ValueError(f"signal names {'none' if not given else f'{twice[0]!r} twice'}")
    return given


def _signal_name(signal: Signal) -> str:
    return signal if isinstance(signal, str) else f"channel{signal}"


def _regions(net: Any, regions: Any | None) -> Mapping[str, Any]:
    """The columns of each region; None for all of them."""
    sheet = getattr(net, "sheet", None) or getattr(getattr(net, "model", None), "sheet", None)
    if sheet is None:
        if regions is not None and not (isinstance(regions, str) and regions == "all"):
            raise ValueError(f"regions need a network on a sheet, and {_kind(net)} has none: it has 'all' alone")
        return {"all": None}
    return sheet_regions(sheet, regions)


def _safe_names(regions: list[str]) -> dict[str, str]:
    """What modules of regions are called: letters, digits, ``_`` and ``-``, and nothing that a module has already.

    Raises:
        ValueError: if nothing is left of a name, or two become one.
    """
    taken: dict[str, str] = {}
    for name in regions:
        safe = re.sub(r"[^\w-]+", "-", name).strip("-")
        if not safe:
            raise ValueError(f"region {name!r} has no letter or digit that a module could be called by")
        safe = f"{safe}_" if hasattr(nn.Module(), safe) else safe
        if safe in taken:
            raise ValueError(
                f"regions {taken[safe]!r} and {name!r} would both be called {safe!r}: give one another name"
            )
        taken[safe] = name
    other = [f"{name!r} is called {safe!r}" for safe, name in taken.items() if safe != name]
    if other:
        warnings.warn(f"names of modules: region {', '.join(other)}", stacklevel=4)
    return {name: safe for safe, name in taken.items()}


def _child(parent: nn.Module, name: str) -> nn.Module:
    """A part of a module by name, made where it is not there."""
    if name not in dict(parent.named_children()):
        parent.add_module(name, nn.Module())
    return parent.get_submodule(name)
