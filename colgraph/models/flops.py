"""Floating-point operations per image, by formula: what models are compared at equal cost by."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from colgraph.models.baseline import Baseline
from colgraph.models.columnformer import Columnformer
from colgraph.models.vision import VisionColumnformer
from colgraph.modes import evaluation
from colgraph.options import check_sizes


class Flops(dict[str, int]):
    """Operations of one forward pass by part of the model, and those of a training step.

    Attributes:
        forward: the sum over all parts.
        training: forward and backward together.
    """

    def __init__(self, parts: dict[str, int], training: int) -> None:
        super().__init__(parts)
        self.forward = sum(parts.values())
        self.training = training


def count_flops(net: nn.Module, image_shape: tuple[int, int, int] | None = None, *, steps: int | None = None) -> Flops:
    """Floating-point operations for one image, two for each multiplication with its addition.

    Counted are matrix products, convolutions, and attention's scores and weighted sums; as is usual, norms, softmax,
    GELU, biases and sums are not, nor is log-polar sampling. Of a :class:`VisionColumnformer`, for N columns, E edges,
    T steps, H heads::

        patch_embedding   2 I C (channels x patch^2)         over I input columns
        column_linears    T N (4 C H D + 4 C M)            and T N 4 C^2 with a value projection
        attention         T E 2 (H D + C)                  over edges, whatever backend runs
        readout           2 C K, spatial: 2 O C K + 2 O K, columns: 2 O C K, an mlp: 2 C^2 more
                                                           over O output columns and K classes

    Tied and untied columns cost the same. The backward pass has two products for each of the forward pass, save that
    images need no gradient. What a backend does twice (scores in its backward pass, or ``recompute="steps"``) is not
    counted: this is the work that the model asks for.

    Any other model is run once on an image, forward and backward, under torch's ``FlopCounterMode``, with its attention
    as plain matrix products (the counter does not see torch's fused CPU attention). A block that recurs counts at every
    step.

    Args:
        net: the model; gradients, statistics of batches and modes that it holds stay as they are.
        image_shape: channels, height and width; a VisionColumnformer's own by default.
        steps: of a model that has steps, run for another number of them than its own; read out once.

    Returns:
        The parts, with the sums ``forward`` and ``training``.

    Raises:
        ValueError: if the shape is neither given nor known to the model, and for steps that the model does not have.
    """
    if steps is not None:
        check_sizes(steps=steps)
        if not isinstance(net, VisionColumnformer | Baseline):
            raise ValueError(f"a {type(net).__name__} has no steps, got steps={steps}")
    if isinstance(net, VisionColumnformer):
        sheet = _sheet_parts(net.model, steps or net.model.steps)
        parts = {"patch_embedding": _patch_embedding(net), **sheet, "readout": _readout(net)}
        total = sum(parts.values())
        return Flops(parts, 3 * total - parts["patch_embedding"])
    if image_shape is None and hasattr(net, "in_channels") and hasattr(net, "image_size"):
        size = net.image_size
        image_shape = (int(net.in_channels), *((size, size) if isinstance(size, int) else tuple(size)))  # type: ignore[arg-type, assignment]
    if image_shape is None:
        raise ValueError(f"the image shape of a {type(net).__name__} is unknown: give image_shape=(channels, h, w)")
    return _counted(net, image_shape, steps)


def count_sheet_flops(model: Columnformer) -> int:
    """Operations of a sheet's steps for one sample, forward: columns and attention of :func:`count_flops`."""
    return sum(_sheet_parts(model, model.steps).values())


def _patch_embedding(net: VisionColumnformer) -> int:
    rows, columns = net.grid
    return 2 * rows * columns * net.patch_embedding.weight.numel()


def _sheet_parts(model: Columnformer, steps: int) -> dict[str, int]:
    options, columns = model.options, steps * model.num_columns
    c, scores = options.dim, options.num_heads * options.qk_dim
    linears = 4 * c * scores + 4 * c * options.mlp_dim + (4 * c * c if options.value_projection else 0)
    edges = steps * model.sheet.edge_index.size(1)
    return {"column_linears": columns * linears, "attention": edges * 2 * (scores + c)}


def _readout(net: VisionColumnformer) -> int:
    head = 2 * net.model.dim * net.num_classes
    if net.readout == "mean":
        return head + (2 * net.model.dim**2 if net.options.head == "mlp" else 0)
    return net.outputs.numel() * (head + (0 if net.pool is None else 2 * net.num_classes))


def _counted(net: nn.Module, shape: tuple[int, int, int], steps: int | None) -> Flops:
    parameter = next(net.parameters())
    image = torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device)
    trained = [p for p in net.parameters() if p.requires_grad]
    plain, same = sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng()
    # In evaluation mode statistics of batches stay as they are.
    with torch.enable_grad(), evaluation(net), same, plain, FlopCounterMode(display=False) as counter:
        out: Any = (
            net(image) if steps is None or not isinstance(net, Baseline) else net.unroll(image, steps=steps).logits
        )
        forward = int(counter.get_total_flops())
        torch.autograd.grad(out.sum(), trained, allow_unused=True)
        training = int(counter.get_total_flops())
    return Flops({"model": forward}, training)
