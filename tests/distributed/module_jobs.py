"""Jobs of one rank, as in ``parallel_jobs``: a part as a torch module among torch's tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from parallel_jobs import B, C, _compare, _largest, _plain, _random, _vision
from small_sheets import knn

from colgraph.distributed import distribute, make_mesh


def far_masks() -> dict[str, float]:
    """Edge biases of -1e6 and -1e9, on some edges and on all of a column, in the fused step: against the whole."""
    whole = _plain(knn(), torch.float32)
    bias, target = whole.block.attention.edge_bias, whole.sheet.edge_index[1]
    with torch.no_grad():
        bias[::3] = -1e6
        bias[1::5] = -1e9
        for column in range(0, 42, 4):
            bias[target == column] = -1e9 if column % 8 else -1e6
    part = distribute(whole, make_mesh())
    x = _random(9, B, C).float()
    for model in (whole, part):
        out = model.unroll(x)
        (model.gather(out.state) if model is part else out.state).square().sum().backward()
    return {
        "gradient": _compare(whole, part, lambda p: p.grad),
        "largest": max(float(p.grad.norm()) for p in whole.parameters()),
        "fused": float("column_step=fused" in repr(part)),
    }


def frozen() -> dict[str, float]:
    """Gradients where at the first step nothing but the edge bias wants one, which other ranks' shares still cross."""
    errors = {}
    for name, kind in (("plain", torch.float64), ("fused", torch.float32)):
        whole = _plain(knn(), kind, time_embedding=False, position_embedding=False)
        for parameter in whole.parameters():
            parameter.requires_grad_(False)
        whole.block.attention.edge_bias.requires_grad_()
        part = distribute(whole, make_mesh())
        x = _random(9, B, C).to(kind)
        for model in (whole, part):
            out = model.unroll(x)
            (model.gather(out.state) if model is part else out.state).square().sum().backward()
        errors[name] = _compare(whole, part, lambda p: p.grad)
    return errors


def spatial(signal: str, **options: Any) -> dict[str, float]:
    """The spatial loss beside one of the logits: the whole sheet's, and all gradients, of every part."""
    from colgraph.training.spatial import Neighborhoods, column_responses, spatial_loss

    net = _vision(knn(), **options)
    part = distribute(net, make_mesh())
    images = _random(5, 2, 6, 6)
    drawn = Neighborhoods(net.model.sheet, size=9).draw(seed=0, step=0, count=4)
    losses = []
    for model in (net, part):
        out = model.unroll(images, record=("hidden",) if signal == "hidden" else ())
        answers = column_responses(model, out, signal)
        losses.append(spatial_loss(answers, *drawn, "all" if signal == "hidden" else "same"))
        (losses[-1] + out.logits.square().mean()).backward()
    return {
        "loss": _largest(losses[1].detach(), losses[0].detach()),
        "gradient": _compare(net, part, lambda p: p.grad),
    }


def refused() -> list[str]:
    """What only a whole model can do, by the fused step and by the plain one."""
    messages = []
    for kind in (torch.float32, torch.float64):
        part = distribute(_plain(knn(), kind), make_mesh())
        x = _random(9, B, C).to(kind).requires_grad_()

        def penalty(part: Any = part, x: torch.Tensor = x) -> None:
            torch.autograd.grad(part(x).sum(), x, create_graph=True)

        def forward_mode(part: Any = part, x: torch.Tensor = x) -> None:
            torch.func.jvp(part, (x.detach(),), (x.detach(),))

        def hook(part: Any = part, x: torch.Tensor = x) -> None:
            handle = part.block.attention.register_message_forward_hook(lambda *_: None)
            try:
                part(x)
            finally:
                handle.remove()

        tries: tuple[Callable[[], None], ...] = (penalty, forward_mode, hook)
        for attempt in tries:
            try:
                attempt()
                messages.append("")
            except ValueError as error:
                messages.append(str(error))
        part(x).sum().backward()
    return messages


def nothing() -> dict[str, float]:
    """An empty batch, forward and backward."""
    results = {}
    for name, kind, options in (
        ("fused", torch.float32, {}),
        ("plain", torch.float64, {}),
        ("tied", torch.float32, {"untied": "none"}),
        ("every", torch.float32, {"inject": "every"}),
    ):
        net = distribute(_vision(knn(), **options).to(kind), make_mesh())
        out = net.unroll(torch.zeros(0, 2, 6, 6, dtype=kind))
        (out.logits.sum() + out.wiring_cost).backward()
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        results[name] = max(_largest(grad, torch.zeros_like(grad)) for grad in grads) + float(out.wiring_cost)
    return results
