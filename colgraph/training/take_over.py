"""From one task to the next: what a run has learned, as the beginning of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from colgraph.models import OwnNetwork, SheetMismatchError, VisionColumnformer, VisionModel
from colgraph.script import flag_of
from colgraph.training.checkpoint import load_trained
from colgraph.training.config import TrainConfig
from colgraph.training.folder import RunFolder
from colgraph.training.inputs import VISION_SETTINGS

_HEAD = ("head.", "pool", "mask_token", "output_patches")
"""What belongs to a task, and is not taken over: by the names that parameters begin with."""

_OWN_HEAD = tuple(f"network.{name}" for name in ("head.", "fc.", "classifier.", "pool."))
"""The same of a network of one's own, as torchvision, timm and this library call their heads."""

_USES = ("num_heads", "attention_residual", "leak", "inject", "speed", "channels")
"""Settings that give the same parameters another meaning and leave no trace in shapes, beside how images are seen."""


def take_over(net: VisionModel, config: TrainConfig) -> dict[str, Any] | None:
    """Give a model that begins the sheet and patch embedding of the run that ``config.init`` names; None without one.

    The head stays as it is; in a network of one's own it is what is called ``head``, ``fc`` or ``classifier``.
    ``last.ckpt`` is read.

    Returns:
        What ``summary.json`` says of it: the run, its task, steps and the SHA-256 of its parameters.

    Raises:
        ValueError: if there is no such run, its model does not fit this one or has no head that can be told; a
            :class:`colgraph.SheetMismatchError` naming both fingerprints if it was learned on another sheet.
    """
    if config.init is None:
        return None
    source = RunFolder(Path(config.init).expanduser())
    source.checkpoint()
    trained = load_trained(source.path)
    other = trained.net
    if not trained.step:
        raise ValueError(f"init: {config.init!r} has not learned anything yet: its checkpoint is of step 0")
    if type(other) is not type(net):
        raise ValueError(f"init: {config.init!r} has trained a {type(other).__name__}, this is a {type(net).__name__}")
    _check_sheets(net, other, config.init, trained.config.rewire > 0)
    _check_same_use(config, trained.config)
    mine, theirs, head = net.state_dict(), other.state_dict(), _head_of(net, "init")
    taken = {name: value for name, value in theirs.items() if not name.startswith(head)}
    for name in sorted({*taken, *(name for name in mine if not name.startswith(head))}):
        here, there = (list(state[name].shape) if name in state else "nothing" for state in (mine, taken))
        if here != there:
            raise ValueError(
                f"init: {name} is {there} in {config.init!r} and {here} here: give the settings of that run"
            )
    _check_buffers(net, mine, taken, config.init)
    with torch.no_grad():
        net.load_state_dict({**mine, **taken})
    facts = {"run": config.init, "task": trained.config.task, "steps": trained.step}
    return facts | {"parameters_sha256": source.results().get("parameters_sha256")}


def _check_sheets(net: nn.Module, other: nn.Module, run: str, plastic: bool) -> None:
    mine, theirs = (
        one.model.sheet if isinstance(one, VisionColumnformer) else one.sheet if isinstance(one, OwnNetwork) else None
        for one in (net, other)
    )
    if mine is None or theirs is None:
        return
    (*_, my_inputs, _), (*_, their_inputs, _) = mine.marks, theirs.marks
    if mine.fingerprint != theirs.fingerprint:
        hint = "give the geometry and neighbors of that run"
        if plastic:
            hint = (
                "its edges came and went (--rewire), so make the model on load_trained(RUN).net.model.sheet, in Python"
            )
        raise SheetMismatchError(
            f"init: {run!r} was learned on another sheet (fingerprint {theirs.fingerprint[:16]}, "
            f"{theirs.num_columns} columns) than this one ({mine.fingerprint[:16]}, {mine.num_columns} columns): {hint}"
        )
    if mine.geometry_fingerprint != theirs.geometry_fingerprint:
        raise SheetMismatchError(
            f"init: {run!r} was learned on a sheet that lies elsewhere (geometry fingerprint "
            f"{theirs.geometry_fingerprint[:16]}) than this one ({mine.geometry_fingerprint[:16]}): give the geometry "
            "and control of that run"
        )
    if my_inputs != their_inputs:
        raise SheetMismatchError(
            f"init: {run!r} was learned with other input columns than this sheet has: give the inputs of that run "
            f"({', '.join(map(str, their_inputs[:8]))}{', ...' if len(their_inputs) > 8 else ''})"
        )


def _check_buffers(net: nn.Module, mine: dict[str, Tensor], taken: dict[str, Tensor], run: str) -> None:
    """Refuse what no parameter tells: patches that go to other columns, or biases that are not learned."""
    if not isinstance(net, VisionColumnformer):
        return
    learned = {name for name, _ in net.named_parameters()}
    for name in sorted(taken.keys() - learned):
        if not torch.equal(mine[name].cpu(), taken[name].cpu()):
            raise ValueError(
                f"init: {name} of {run!r} is another than that of this model, and is not learned: give the settings of "
                "that run"
            )


def _check_same_use(config: TrainConfig, theirs: TrainConfig) -> None:
    """Refuse other :data:`_USES`, and other ways to see images."""
    for name in (*VISION_SETTINGS, *_USES):
        here, there = getattr(config, name), getattr(theirs, name)
        if here != there:
            flag = flag_of(name)
            raise ValueError(f"init: {config.init!r} has learned with {flag} {there}, got {here}: give that of the run")


def freeze_all_but_head(net: nn.Module) -> None:
    """Let the head alone learn: no gradient reaches the rest, and norms of batches there keep what they have learned.

    Raises:
        ValueError: for a network of one's own whose head cannot be told.
    """
    head = _head_of(net, "freeze") if isinstance(net, OwnNetwork) else ("head.", "pool")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(head))
    for name, module in net.named_modules():
        module.training = f"{name}.".startswith(head)


def _head_of(net: nn.Module, setting: str) -> tuple[str, ...]:
    """What the names of the head's parameters begin with."""
    if not isinstance(net, OwnNetwork):
        return _HEAD
    if not any(name.startswith(_OWN_HEAD) for name, _ in net.named_parameters()):
        raise ValueError(f"{setting}: which part of your network is its head? Call that self.head, fc or classifier")
    return _OWN_HEAD
