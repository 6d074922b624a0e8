"""Backend "numba": fused attention over a sheet's edges on the CPU, float32 inside.

Forward and backward are one custom operator each (``torch.ops.colgraph.numba_attention`` and its backward), so that
``torch.compile``, autocast and distributed training take them as they are. Query, key, value, and the largest score and
the sum of each softmax are kept for the backward pass, which computes the scores again: no memory of size E x B x C at
any time, and between passes none of size E at all.

The backward pass runs over targets (gradients of query and edge bias), then over sources (key and value), by the
transposed edge list. What the second pass needs of each edge lies in a scratch array of about :data:`SCRATCH_FLOATS`
floats, or two per edge where that is more; the batch goes through it in as many rounds as it takes. Every sum has one
writer and a fixed order: the result is the same bit for bit on every run and for every number of threads.

Threads: as many as ``torch.get_num_threads()``; see :mod:`colgraph.ops._threads`.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from colgraph.layout import Layout
from colgraph.ops._memory import empty_array
from colgraph.ops._threads import run_pieces
from colgraph.ops.higher_order import differentiable_gradients, is_differentiated_again
from colgraph.ops.reference import sheet_attention_reference
from colgraph.torch_internals import is_dispatched, is_tracing

__all__ = ["SCRATCH_FLOATS", "attend", "attend_backward", "sheet_attention"]

SCRATCH_FLOATS = 2**22
_NOTHING = np.empty(0, np.float32)
_SMALLEST_PIECE = 1 / 32  # of a thread's share of all work
_LINE = 16  # floats in a cache line
_WORTH_A_THREAD = 500_000  # multiply-adds: below, waking a thread costs more than it saves


class _Direction:
    """The edges as the kernels walk them, by target or by source, and how they are cut into pieces of work."""

    def __init__(self, order: np.ndarray, indptr: np.ndarray, neighbours: np.ndarray, work: np.ndarray) -> None:
        from colgraph.ops._numba_kernels import Edges

        self.edges = Edges(order, indptr, neighbours)
        self.work = work  # [N+1] edges and columns up to each position of `order`
        self._cut: dict[int, np.ndarray] = {}

    def pieces(self, threads: int) -> np.ndarray:
        """A counter, 0, and then where pieces of the columns start and stop, for so many threads."""
        cut = self._cut.get(threads)
        if cut is None:
            self._cut[threads] = cut = _pieces(self.work, threads)
        return cut.copy()


class _Tables(NamedTuple):
    """What the kernels read of a layout, int64. Columns are in kd order: neighbours in space share what is cached."""

    listening: _Direction  # by target
    speaking: _Direction  # by source
    place: np.ndarray  # [E] where, among all edges in the order of work, those by source are


# Those of tensors that are alive: slicing takes 20 microseconds a call and cutting 40, beside a small sheet's 1,000.
_tables_of: dict[int, tuple[weakref.ref[Tensor], _Tables]] = {}


def _unpack_tables(packed: Tensor, columns: int) -> _Tables:
    """The parts of :attr:`colgraph.layout.Layout.walk`."""
    known = _tables_of.get(id(packed))
    if known is not None and known[0]() is packed:
        return known[1]
    number = id(packed)
    # An alias of the tensor: one that held the tensor itself would keep it alive for ever.
    flat, edges = packed.detach().numpy(), (packed.numel() - 5 * columns - 4) // 3
    n, e = columns + 1, edges
    starts = (0, n, n + e, 2 * n + e, 2 * n + 2 * e, 2 * n + 3 * e, 3 * n + 3 * e - 1, 4 * n + 3 * e - 1, flat.size)
    indptr, source, source_indptr, place, target, order, work, source_work = (flat[i:j] for i, j in pairwise(starts))
    listening = _Direction(order, indptr, source, work)
    tables = _Tables(listening, _Direction(order, source_indptr, target, source_work), place)
    _tables_of[number] = (weakref.ref(packed, lambda _: _tables_of.pop(number, None)), tables)
    return tables


def sheet_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float,
    edge_cost: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See :func:`colgraph.ops.sheet_attention`. Half precision is computed in float32 and rounded once, at the end."""
    args = (query, key, value, edge_bias, edge_cost, layout.walk, float(scale))
    out, cost, *_ = _Direct.apply(*args) if _is_direct(args) else torch.ops.colgraph.numba_attention(*args)
    return out, None if edge_cost is None else cost


def _is_direct(args: tuple[Any, ...]) -> bool:
    """Whether nothing looks on: no compiler, tracer, transform or mode, and plain tensors only."""
    if torch.compiler.is_compiling():
        return False
    if is_tracing() or is_dispatched():
        return False
    return all(type(each) in (Tensor, nn.Parameter) for each in args[:5] if each is not None)


class _Direct(torch.autograd.Function):
    """The operator without the dispatcher, whose way through Python takes as long as a small sheet's kernels."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        out, cost, softmax = attend(*args)
        ctx.save_for_backward(*args[:-1], softmax)
        ctx.scale = args[-1]
        ctx.set_materialize_grads(False)
        return out, cost

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad_cost: Tensor | None) -> tuple[Any, ...]:
        return _gradients(ctx, grad_out, grad_cost, attend_backward)


def _gradients(
    ctx: Any, grad_out: Tensor | None, grad_cost: Tensor | None, operator: Callable[..., tuple[Tensor, ...]]
) -> tuple[Any, ...]:
    """The backward pass, by the kernels, or by the reference where it is differentiated itself."""
    query, key, value, edge_bias, edge_cost, packed, softmax = ctx.saved_tensors
    needs = list(ctx.needs_input_grad[:4])
    grads: Sequence[Tensor | None]
    if not torch.compiler.is_compiling() and is_differentiated_again(grad_out, grad_cost):
        layout = _unpack_layout(packed, query.size(0))

        def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
            return sheet_attention_reference(query, key, value, bias, layout, ctx.scale, edge_cost)

        grads = differentiable_gradients(attention, (query, key, value, edge_bias), needs, (grad_out, grad_cost))
        return (*grads, None, None, None)
    if grad_out is None:
        grad_out = torch.zeros_like(value)
    if grad_cost is None:
        edge_cost, grad_cost = None, softmax  # a tensor, which is then not read
    args = (grad_out, grad_cost, query, key, value, edge_bias, edge_cost, softmax, packed, ctx.scale, needs)
    grads = operator(*args)
    return (*(grad if need else None for grad, need in zip(grads, needs)), None, None, None)


def _unpack_layout(packed: Tensor, columns: int) -> Layout:
    edges = _unpack_tables(packed, columns).listening.edges
    target = np.repeat(np.arange(columns), np.diff(edges.indptr))
    return Layout(torch.from_numpy(np.stack([edges.neighbours, target])), columns)


# ---------------------------------------------------------------------- from tensors to kernels


def _flat(tensor: Tensor | None) -> np.ndarray:
    """A tensor as a flat float32 array, copied only where it is not contiguous float32; empty for None."""
    if tensor is None:
        return _NOTHING
    if tensor.dtype == torch.float32 and tensor.is_contiguous():
        flat: np.ndarray = tensor.detach().numpy().reshape(-1)
        return flat
    return tensor.detach().to(torch.float32).contiguous().view(-1).numpy()


def _sizes(query: Tensor, value: Tensor, edge_bias: Tensor | None) -> Any:
    from colgraph.ops._numba_kernels import Sizes

    _, batch, heads, depth = query.shape
    bias_heads = 0 if edge_bias is None else edge_bias.size(1) if edge_bias.dim() == 2 else 1
    return Sizes(batch * heads, depth, value.size(3), bias_heads)


def _by_head(edge_bias: Tensor | None) -> np.ndarray:
    """``[H,E]``, flat: what a column's edges add to the scores of one head lies together."""
    return _flat(edge_bias if edge_bias is None or edge_bias.dim() == 1 else edge_bias.detach().t())


@functools.cache
def _shares(threads: int) -> np.ndarray:
    """Where pieces of the work stop, as shares of it, for threads that take piece after piece.

    Each is half of a thread's share of what is left: large ones first, which cost less, and small ones at the end, so
    that no thread waits long for another.
    """
    stops = [0.0]
    while threads > 1 and stops[-1] < 1 - _SMALLEST_PIECE / threads:
        stops.append(stops[-1] + max((1 - stops[-1]) / 2, _SMALLEST_PIECE) / threads)
    return np.array(stops[1:])


def _pieces(work: np.ndarray, threads: int) -> np.ndarray:
    """See :meth:`_Direction.pieces`."""
    shares = _shares(threads)
    pieces = np.zeros(len(shares) + 3, np.int64)
    pieces[2:-1] = work.searchsorted(shares * work[-1])
    pieces[-1] = work.size - 1
    return pieces


def _over_columns(kernel: Callable[..., None], direction: _Direction, multiply_adds: int, *args: Any) -> None:
    """``kernel(pieces, edges, *args)`` on as many threads as are worth waking."""
    threads = max(1, min(torch.get_num_threads(), multiply_adds // _WORTH_A_THREAD))
    pieces, edges = direction.pieces(threads), direction.edges
    run_pieces(lambda _: kernel(pieces, edges, *args), threads, threads)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    packed: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, cost (empty without edge costs), and of each softmax the largest score and the inverse of its sum.

    The last are ``[N,B,H,2]``, float32, for the backward pass.
    """
    from colgraph.ops._numba_kernels import forward

    sizes = _sizes(query, value, edge_bias)
    t = _unpack_tables(packed, query.size(0))
    out, softmax = empty_array(*value.shape), empty_array(*query.shape[:3], 2)
    cost = empty_array(*query.shape[:3]) if edge_cost is not None else _NOTHING
    _over_columns(
        forward,
        t.listening,
        t.place.size * sizes.slices * (sizes.depth + sizes.channels),
        sizes,
        np.float32(scale),
        _flat(query),
        _flat(key),
        _flat(value),
        _by_head(edge_bias),
        _flat(edge_cost),
        out.reshape(-1),
        softmax.reshape(-1),
        cost.reshape(-1),
    )
    made = torch.from_numpy(cost).to(edge_cost.dtype) if edge_cost is not None else query.new_empty(0)
    return torch.from_numpy(out).to(value.dtype), made, torch.from_numpy(softmax)


_attention = torch.library.custom_op("colgraph::numba_attention", attend, mutates_args=(), device_types="cpu")


@_attention.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, edge_bias: Tensor | None, edge_cost: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    cost = query.new_empty(0) if edge_cost is None else edge_cost.new_empty(query.shape[:3])
    softmax = query.new_empty((*query.shape[:3], 2), dtype=torch.float32)
    return torch.empty_like(value, memory_format=torch.contiguous_format), cost, softmax


def _rounds(slices: int, edges: int, needed: bool) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Runs of slices ``(start, stop, apart, scratch)`` whose scratch, ``apart`` floats per edge, is of bounded size.

    ``apart`` is two floats per slice, and a cache line more where that is a multiple of many lines: such rows would
    fall on the same few lines of the cache and drive each other out.
    """
    width = max(1, min(slices, SCRATCH_FLOATS // max(2 * edges, 1)))
    apart = 2 * width + (_LINE if 2 * width % (8 * _LINE) == 0 else 0)
    scratch = empty_array(edges * apart) if needed else _NOTHING
    for start in range(0, slices, width):
        yield start, min(start + width, slices), apart, scratch


def attend_backward(
    grad_out: Tensor,
    grad_cost: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    edge_cost: Tensor | None,
    softmax: Tensor,
    packed: Tensor,
    scale: float,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and edge bias; an empty tensor for each that ``needs`` does not ask for."""
    from colgraph.ops._numba_kernels import backward_sources, backward_targets

    sizes = _sizes(query, value, edge_bias)
    shapes = (query.shape, key.shape, value.shape, edge_bias.shape if edge_bias is not None else (0,))
    grads = [empty_array(*(shape if need else (0,))) for shape, need in zip(shapes, needs)]
    grad_query, grad_key, grad_value, _ = (grad.reshape(-1) for grad in grads)
    # By this thread: torch's would wake others, which then spin on the cores that the kernels need.
    grad_bias = np.zeros(grads[3].size, np.float32)
    factor, flat_query, flat_grad = np.float32(scale), _flat(query), _flat(grad_out)
    inputs = (flat_query, _flat(key), _flat(value), _by_head(edge_bias), _flat(edge_cost), _flat(softmax))
    t = _unpack_tables(packed, query.size(0))
    to_sources = needs[1] or needs[2]
    for g_start, g_stop, apart, scratch in _rounds(sizes.slices, t.place.size, to_sources):
        edge_slices = t.place.size * (g_stop - g_start)
        _over_columns(
            backward_targets,
            t.listening,
            edge_slices * (2 * sizes.depth + sizes.channels),
            sizes,
            g_start,
            g_stop,
            apart,
            factor,
            *inputs,
            flat_grad,
            _flat(grad_cost),
            t.listening.work,
            scratch,
            grad_query,
            grad_bias,
        )
        if to_sources:
            _over_columns(
                backward_sources,
                t.speaking,
                edge_slices * (sizes.depth + sizes.channels),
                sizes,
                g_start,
                g_stop,
                apart,
                factor,
                flat_query,
                flat_grad,
                t.place,
                scratch,
                grad_key,
                grad_value,
            )
    if grad_bias.size:
        np.copyto(grads[3], grad_bias.reshape(grads[3].shape[::-1]).T)
    bias_dtype = edge_bias.dtype if edge_bias is not None else query.dtype
    dtypes = (query.dtype, key.dtype, value.dtype, bias_dtype)
    return tuple(torch.from_numpy(grad).to(dtype) for grad, dtype in zip(grads, dtypes))  # type: ignore[return-value]


_attention_backward = torch.library.custom_op(
    "colgraph::numba_attention_backward", attend_backward, mutates_args=(), device_types="cpu"
)


@_attention_backward.register_fake
def _(
    grad_out: Tensor,
    grad_cost: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, ...]:
    needs = rest[-1]
    tensors = (query, key, value, edge_bias if edge_bias is not None else query)
    return tuple(t.new_empty(t.shape if need else (0,)) for t, need in zip(tensors, needs))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.scale = scale
    ctx.mark_non_differentiable(output[2])


def _differentiate(ctx: Any, grad_out: Tensor, grad_cost: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    return _gradients(ctx, grad_out, grad_cost, torch.ops.colgraph.numba_attention_backward)


_attention.register_autograd(_differentiate, setup_context=_save)
