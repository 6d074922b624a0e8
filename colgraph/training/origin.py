"""Where a network comes from: its settings read off itself, and what no setting describes."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, get_args

from torch import nn

from colgraph.models import (
    Baseline,
    Columnformer,
    ConvNet,
    OwnNetwork,
    RecurrentConvNet,
    VisionColumnformer,
    VisionModel,
)
from colgraph.models.alike import differing_part
from colgraph.sheet import Sheet
from colgraph.tasks import find_task
from colgraph.training.config import TrainConfig, describe_settings
from colgraph.training.inputs import OWN, VISION_SETTINGS
from colgraph.training.made import made_net, made_sheet
from colgraph.training.measure import parameters_sha256
from colgraph.training.setup import make_model, make_sheet

_KNOWN = ("colgraph", "torch", "torch_geometric")


def foreign_class(net: nn.Module) -> str | None:
    """The first class in a network that is neither colgraph's nor torch's, or a derived one of the whole; else None."""
    if type(net) not in get_args(VisionModel):
        return _name(net)
    if isinstance(net, OwnNetwork):
        return _name(net.network) if net.source is None else None
    if isinstance(net, VisionColumnformer) and type(net.model) is not Columnformer:
        return _name(net.model)
    strangers = (module for module in net.modules() if type(module).__module__.partition(".")[0] not in _KNOWN)
    return next(map(_name, strangers), None)


def settings_of(net: VisionModel, config: TrainConfig) -> TrainConfig:
    """Settings, with what a network itself says about its sizes in place of what they say.

    Raises:
        ValueError: for a network that takes no images of the sets that training knows.
    """
    height, width = net.image_size
    if height != width:
        raise ValueError(f"training takes square images, the network takes {height} x {width}")
    sizes: dict[str, Any] = {"image_size": height, "patch_size": net.patch_size, "channels": net.in_channels}
    if isinstance(net, OwnNetwork):
        return dataclasses.replace(config, image_size=height, channels=net.in_channels, model=net.source or OWN)
    if isinstance(net, Baseline):
        # A convolution is written in one way: what the settings say of others stays.
        others = ("parametrization",) if isinstance(net, ConvNet) and not net.local else ()
        known = {name for name in describe_settings() if name not in others}
        sizes |= {name: value for name, value in net.arguments().items() if name in known}
        if sizes.get("tied_blocks"):
            sizes["steps"] = sizes.pop("depth")
        return dataclasses.replace(config, **sizes, model=_model_setting(net))
    if net.model.inject == "sequence":
        raise ValueError("training takes images, the network takes films (inject='sequence')")
    task = find_task(config.task)
    if (net.options.head, net.options.mask_token) != (task.head, task.hides):
        raise ValueError(
            f"task: {config.task} takes a VisionColumnformer(head={task.head!r}, mask_token={task.hides}), the network "
            f"has head={net.options.head!r}, mask_token={net.options.mask_token}"
        )
    sizes |= {"model": "columnformer", "readout": net.readout, **net.model.options.arguments()}
    sizes |= {name: getattr(net.options, name) for name in VISION_SETTINGS}
    return dataclasses.replace(config, **sizes)


def _model_setting(net: Baseline) -> str:
    if isinstance(net, ConvNet):
        return "local" if net.local else "cnn"
    return "recurrent" if isinstance(net, RecurrentConvNet) else "vit"


def with_sheet(config: TrainConfig, sheet: Sheet) -> TrainConfig:
    """The settings as they are if they may be about this sheet; else its name and what it says of itself."""
    if made_sheet(sheet, config) or _makes_sheet(config, sheet) or config.geometry == str(sheet.geometry):
        return config
    return dataclasses.replace(
        config,
        geometry=str(sheet.geometry or "a sheet made in Python"),
        metric=str(sheet.metric),
        options={},
        num_inputs=sheet.inputs.numel(),
        num_outputs=sheet.outputs.numel(),
        neighbors=None,
        mask=None,
        axis=None,
        control="none",
    )


def own_parts(net: VisionModel, config: TrainConfig, answers: int) -> tuple[str, ...]:
    """What of a network its settings do not make again: its class, its sheet, or the parameters it begins with.

    What ``make_sheet`` and ``make_model`` have made is known; other networks are compared with what the settings make.

    Args:
        net: the network, before training.
        config: from :func:`settings_of` and :func:`with_sheet`.
        answers: number of values that it answers with.
    """
    foreign = foreign_class(net)
    if foreign is not None:
        return (f"network of class {foreign}",)
    parts = []
    if isinstance(net, VisionColumnformer):
        sheet = net.model.sheet
        if not made_sheet(sheet, config) and not _makes_sheet(config, sheet):
            parts.append("sheet")
    if not made_net(net, config):
        again = make_model(config, getattr(getattr(net, "model", None), "sheet", None), answers)
        odd = differing_part(net, again)
        if odd is not None:
            return (f"network with another {odd}",)
        if not parts and parameters_sha256(again) != parameters_sha256(net):
            parts.append("parameters at the start")
    return tuple(parts)


def _makes_sheet(config: TrainConfig, sheet: Sheet) -> bool:
    try:
        with warnings.catch_warnings():
            # Of a sheet that is only compared there is nothing to warn of.
            warnings.simplefilter("ignore")
            made = make_sheet(config)
    except (ValueError, ImportError):
        return False
    return made.marks == sheet.marks


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
