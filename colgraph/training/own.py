"""Networks of the user's own: made by ``file.py:function``, stored as that reference and their parameters."""

from __future__ import annotations

import hashlib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from colgraph.hints import in_one_line
from colgraph.models.own_network import OwnNetwork
from colgraph.plugins import Registry, is_plugin
from colgraph.training.config import TrainConfig

_MODELS = Registry("model", "models", "function or class")
_GIVEN = ("num_classes", "image_size", "channels")


def make_own(config: TrainConfig, num_classes: int) -> OwnNetwork:
    """The network that ``--model file.py:function`` makes; the function, or class, is told what it has a parameter for.

    Raises:
        ValueError: for a file or a function that is not there or fails, and a network that answers otherwise.
    """
    if not is_plugin(config.model):
        raise ValueError(
            f"model {config.model!r} came from Python, which no settings describe: give it again, as "
            "load_trained(run, network=...), or train it as file.py:function"
        )
    network = call_factory(_MODELS.load_plugin(config.model), config.model, config, num_classes)
    return OwnNetwork(network, config.image_size, config.channels, num_classes, config.model)


def call_factory(factory: Callable[..., Any], name: str, config: TrainConfig, num_classes: int) -> nn.Module:
    """What a function returns that is told ``num_classes``, ``image_size`` and ``channels``, those that it takes."""
    given = dict(zip(_GIVEN, (num_classes, config.image_size, config.channels), strict=True))
    parameters = inspect.signature(factory).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        given = {key: value for key, value in given.items() if key in {p.name for p in parameters}}
    fixed = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    missing = [p.name for p in parameters if p.default is p.empty and p.kind not in fixed and p.name not in given]
    if missing:
        raise ValueError(f"model {name!r} needs {', '.join(missing)}: it is told {', '.join(_GIVEN)}, by these names")
    try:
        network = factory(**given)
    except Exception as error:
        raise ValueError(f"model {name!r} cannot be made: {type(error).__name__}: {in_one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"model {name!r} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def as_own(network: nn.Module, config: TrainConfig, num_classes: int) -> OwnNetwork:
    """A module with the ends of a vision model, and where its class can make it again, if it can."""
    source, reason = _source_of(network, config, num_classes)
    if source is None:
        warnings.warn(
            f"{type(network).__name__} cannot be made again without your code ({reason}): evaluate will not know the "
            "run, load_trained(run, network=...) will; model='file.py:function' names what makes it",
            stacklevel=3,
        )
    return OwnNetwork(network, config.image_size, config.channels, num_classes, source)


def _source_of(network: nn.Module, config: TrainConfig, num_classes: int) -> tuple[str | None, str]:
    """``file.py:Class`` where that makes a network of the same parameters, else why there is none."""
    kind = type(network)
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if kind.__module__ == "__main__" or file is None or "." in kind.__qualname__:
        return None, "its class is not at the top of a file of its own"
    if kind.__module__.partition(".")[0] in ("torch", "torchvision", "torch_geometric"):
        return None, "its class is a library's"
    source = f"{file}:{kind.__name__}"
    try:
        with torch.random.fork_rng(devices=[]):
            again = call_factory(_MODELS.load_plugin(source), source, config, num_classes)
    except ValueError as error:
        return None, in_one_line(error)[:200]
    shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (network, again)]
    return (source, "") if shapes[0] == shapes[1] else (None, f"{source} makes one with other parameters")


def file_digest(model: str) -> str | None:
    """SHA-256 of the file that a model is made by; None for those of colgraph."""
    path = Path(model.rpartition(":")[0]).expanduser()
    return hashlib.sha256(path.read_bytes()).hexdigest() if is_plugin(model) and path.is_file() else None


def sheet_marks(net: nn.Module) -> list[str] | None:
    """Digests of the graph, the places and the ends of the sheet that a network of one's own brings; None without."""
    if not isinstance(net, OwnNetwork) or net.sheet is None:
        return None
    graph, places, *ends = net.sheet.marks
    return [graph, places, hashlib.sha256(repr(ends).encode()).hexdigest()]


def parts_of(net: nn.Module) -> list[str] | None:
    """The name and the class of every module in a network of one's own, such as "layers.0 Linear".

    The class without its module, which is another where a file is imported under another name.
    """
    if not isinstance(net, OwnNetwork):
        return None
    kinds = ((name, type(part)) for name, part in net.network.named_modules())
    return [f"{name} {kind.__qualname__}" for name, kind in kinds]


def check_own_sheet(net: nn.Module, packed: Mapping[str, Any], run: str) -> None:
    """Raise ValueError where a network lies on another sheet than when it was trained: its parameters tell columns.

    Args:
        net: the network, as it is made now.
        packed: what a checkpoint says of the run; of a version that knew of no such sheet, nothing is compared.
        run: for the message.
    """
    then, now = packed.get("network_sheet"), sheet_marks(net)
    if "network_sheet" not in packed or then == now:
        return
    if then is None or now is None:
        what = "has a sheet now, and had none" if then is None else "has no sheet now, and had one"
    else:
        parts = ("graph", "positions or distances", "input or output columns")
        differs = next(part for part, before, after in zip(parts, then, now, strict=True) if before != after)
        what = f"lies on a sheet with another {differs} now than"
    name = type(net.network).__name__ if isinstance(net, OwnNetwork) else type(net).__name__
    raise ValueError(
        f"the network {name} {what} when {run!r} was trained: make the sheet as it "
        "was then (where something in it is drawn, from a fixed seed)"
    )


def warn_of_other_code(model: str, digest: str | None) -> None:
    """Say that the file of a network is not what it was when the network was trained."""
    if digest is not None and file_digest(model) not in (None, digest):
        warnings.warn(
            f"{model.rpartition(':')[0]!r} has changed since this run was trained: its parameters may mean something "
            "else in the network that it makes now",
            stacklevel=3,
        )
