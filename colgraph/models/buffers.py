"""What models take from their sheet and do not learn: right in every dtype, on every device, and after ``to_empty``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from colgraph.locality import dead_edges, default_sigma
from colgraph.sheet import Sheet
from colgraph.torch_internals import is_dispatched

_LOW = (torch.float16, torch.bfloat16)


class SheetBuffers(nn.Module):
    """A module with buffers that follow from its sheet.

    They are made where new parameters are (``torch.device("meta")`` included), and made again where nothing else would
    fill them: after ``to_empty``, and where a module leaves the meta device by ``load_state_dict(assign=True)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(_after_loading)

    def sheet_buffers(self) -> dict[str, Tensor]:
        """The buffers by name, on the CPU."""
        raise NotImplementedError

    def register_sheet_buffers(self, *persistent: str) -> None:
        """Make the buffers, those named part of the state dict."""
        device = factory_device()
        with torch.device("cpu"):
            made = self.sheet_buffers()
        for name, value in made.items():
            self.register_buffer(name, value.to(device), persistent=name in persistent)

    def restore_buffers(self, device: torch.device) -> None:
        """Make the buffers anew, on a device."""
        with torch.device("cpu"):
            made = self.sheet_buffers()
        for name, value in made.items():
            dtype = getattr(self, name).dtype if value.is_floating_point() else None
            setattr(self, name, value.to(device, dtype))

    def on_meta(self) -> bool:
        """Whether buffers are on the meta device, which has no numbers."""
        return any(buffer.is_meta for buffer in self.buffers(recurse=False))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self.named_buffers(recurse=False))
        filled = not self.on_meta() and _keeps_numbers(fn)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            now = getattr(self, name)
            if now.dtype in _LOW and buffer.dtype not in _LOW:
                # Distances in micrometres, squared, are beyond float16; and nothing is gained by rounding them.
                setattr(self, name, buffer.to(now.device))
        if not filled and not self.on_meta():
            self.restore_buffers(next(self.buffers(recurse=False)).device)
        return self


def _keeps_numbers(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether ``fn`` moves what is in a tensor, as ``to`` does, and not the room for it alone, as ``to_empty`` does."""
    numbers = torch.frombuffer(bytearray(os.urandom(64)), dtype=torch.uint8)
    moved = fn(numbers)
    return not moved.is_meta and (is_dispatched() or torch.equal(moved.cpu(), numbers.cpu()))


def _after_loading(module: SheetBuffers, _: Any) -> None:
    device = next((parameter.device for parameter in module.parameters()), None)
    if module.on_meta() and device is not None and device.type != "meta":
        module.restore_buffers(device)


def factory_device() -> torch.device:
    """Where new parameters are made: what ``torch.set_default_device`` and ``with torch.device(...)`` say."""
    return torch.empty(0).device


def initial_edge_bias(sheet: Sheet, num_heads: int, sigma: float | None = None) -> Tensor:
    """``-d_ij^2 / (2 sigma^2)`` for every edge and head, ``[E,H]``; see :func:`colgraph.locality.default_sigma`.

    Warns of edges that start practically without weight: hardly any gradient reaches them, so they stay so.
    """
    distance, edges = sheet.edge_distance.detach(), sheet.edge_index.cpu().numpy()
    if sigma is None:
        sigma = default_sigma(edges, distance.cpu().numpy(), sheet.spacing, sheet.metric, sheet.is_tract.cpu().numpy())
    bias = -(distance**2) / (2 * sigma**2)
    if not bool(torch.isfinite(bias).all()):
        # The square of a long length overflows, and a column of nothing but infinities has no softmax.
        bias = (-((distance.double() / sigma) ** 2) / 2).clamp(min=-1e30).to(distance.dtype)
    dead = dead_edges(edges[1], bias.cpu().numpy(), sheet.num_columns)
    if dead:
        warnings.warn(
            f"{dead:,} of {edges.shape[1]:,} edges of {sheet.geometry!r} ({dead / edges.shape[1]:.1%}) start without "
            f"weight in practice (bias -d^2 / (2 sigma^2), sigma {sigma:.4g}) and may never get any: give a larger "
            "locality_sigma, edge_bias=None, or shorter edges (of strengths: weight_is='strength:-log')",
            stacklevel=4,  # over the constructor that wraps this one
        )
    return bias[:, None].repeat(1, num_heads)


def wiring_costs(sheet: Sheet, power: float) -> Tensor:
    """``[E]`` the cost ``d_ij ** power`` of listening through each edge, in torch's default dtype.

    Raises:
        ValueError: if the cost of an edge is not finite.
    """
    costs = (sheet.edge_distance.double() ** power).to(torch.get_default_dtype())
    wrong = torch.nonzero(~torch.isfinite(costs)).flatten()
    if wrong.numel():
        source, target = sheet.edge_index[:, wrong[0]].tolist()
        raise ValueError(
            f"wiring_power={power:g} makes {wrong.numel()} edges infinitely costly, the first {source} -> {target} "
            f"of length {float(sheet.edge_distance[wrong[0]]):g}: "
            + ("a power of at least 0 serves edges of length 0" if power < 0 else "give a smaller power")
        )
    return costs


def in_dtype_of(module: nn.Module, tensor: Tensor, name: str) -> Tensor:
    """``tensor`` as the module's parameters can take it.

    Raises:
        ValueError: if the parameters cannot hold it without loss (float64 for float32 parameters).
    """
    own = next((parameter.dtype for parameter in module.parameters()), tensor.dtype)
    if tensor.dtype == own:
        return tensor
    automatic = torch.is_autocast_enabled(tensor.device.type)
    if automatic and tensor.dtype in (*_LOW, torch.float32):
        return tensor
    if torch.promote_types(tensor.dtype, own) != own:
        theirs, mine = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, own))
        raise ValueError(f"{name} is {theirs}, the model {mine}: {name}.to(torch.{mine}), or model.to(torch.{theirs})")
    return tensor if automatic else tensor.to(own)
