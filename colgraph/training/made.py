"""What ``make_sheet`` and ``make_model`` have made in this process: so much less to make again for a comparison."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from colgraph.sheet import Sheet
from colgraph.training.config import GEOMETRY_SETTINGS, TrainConfig

SHEET_SETTINGS = ("geometry", "options", *GEOMETRY_SETTINGS, "control")
"""Settings that make a sheet, and no more than that."""

_sheets: dict[tuple[Any, ...], dict[str, Any]] = {}
_nets: WeakKeyDictionary[nn.Module, tuple[int, str, int]] = WeakKeyDictionary()


def remember_sheet(sheet: Sheet, config: TrainConfig) -> None:
    """Note that settings make a sheet."""
    _sheets[sheet.marks] = _settings(config)


def made_sheet(sheet: Sheet, config: TrainConfig) -> bool:
    """Whether these settings are known to have made this sheet."""
    return _sheets.get(sheet.marks) == _settings(config)


def remember_net(net: nn.Module, config: TrainConfig) -> None:
    """Note that settings make a network, as it is now."""
    _nets[net] = _start(net, config)


def made_net(net: nn.Module, config: TrainConfig) -> bool:
    """Whether these settings are known to have made this network, and nothing has written to it since."""
    return _nets.get(net) == _start(net, config)


def _settings(config: TrainConfig) -> dict[str, Any]:
    # What can hear the input within the steps is read out, where nothing else is said; a control is drawn by the seed.
    settings = {name: getattr(config, name) for name in (*SHEET_SETTINGS, "steps")}
    return settings | {"seed": config.seed if config.control != "none" else None}


def _start(net: nn.Module, config: TrainConfig) -> tuple[int, str, int]:
    # Torch counts how often a parameter was written to in place.
    return config.seed, config.control, sum(parameter._version for parameter in net.parameters())
