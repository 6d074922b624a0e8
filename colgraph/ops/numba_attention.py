"""Backend "numba": fused attention over a sheet's edges on the CPU, float32 inside.

Query, key, value, and the largest score and the sum of each softmax are kept for the backward pass, which computes the
scores again: no memory of size E x B x C at any time, and between passes none of size E at all. Half precision is
computed in float32 and rounded once, at the end.

The backward pass runs over targets (gradients of query and edge bias), then over sources (key and value), by the
transposed edge list. What the second pass needs of each edge lies in a scratch array of about :data:`SCRATCH_FLOATS`
floats; of large sheets a cache line per edge, if that is no more than query, key, value and result take together, and
two floats per edge at least. The batch goes through it in as many rounds as it takes. Every sum has one
writer and a fixed order: the result is the same bit for bit on every run and for every number of threads.

Threads: as many as ``torch.get_num_threads()``; see :mod:`colgraph.ops._threads`.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from colgraph.ops._memory import empty_array
from colgraph.ops._threads import run_pieces, worth_waking
from colgraph.ops.primitive import Back, Gradients, Primitive, Tables, register
from colgraph.ops.reference import Operands

SCRATCH_FLOATS = 2**22
_NOTHING = np.empty(0, np.float32)
_SMALLEST_PIECE = 1 / 32  # of a thread's share of all work
_LINE = 16  # floats in a cache line


class _Direction:
    """The edges as the kernels walk them, by target or by source, and how they are cut into pieces of work."""

    def __init__(self, order: np.ndarray, indptr: np.ndarray, neighbors: np.ndarray, work: np.ndarray) -> None:
        from colgraph.ops._numba_groups import Edges
        from colgraph.ops._numba_kernels import find_fresh

        fresh, fresh_indptr = np.empty_like(neighbors), np.empty_like(indptr)
        find_fresh(order, indptr, neighbors, fresh, fresh_indptr)
        self.edges = Edges(order, indptr, neighbors, fresh[: fresh_indptr[-1]].copy(), fresh_indptr)
        self.work = work  # [N+1] edges and columns up to each position of `order`
        self._cut: dict[int, np.ndarray] = {}

    def pieces(self, threads: int) -> np.ndarray:
        """A counter, 0, and then where pieces of the columns start and stop, for so many threads."""
        cut = self._cut.get(threads)
        if cut is None:
            self._cut[threads] = cut = _pieces(self.work, threads)
        return cut.copy()


class _Tables(NamedTuple):
    """What the kernels read of a layout, int64. Columns are in kd order: neighbors in space share what is cached."""

    listening: _Direction  # by target
    speaking: _Direction  # by source
    place: np.ndarray  # [E] where, among all edges in the order of work, those by source are


# Those of tensors that are alive: slicing takes 20 microseconds a call and cutting 40, beside a small sheet's 1,000.
# With the address of their memory: `share_memory`, and sending a model to another process, move a tensor in place, and
# what the parts point to is then free for others to write.
_tables_of: dict[int, tuple[weakref.ref[Tensor], int, _Tables]] = {}


def _unpack_tables(packed: Tensor, columns: int) -> _Tables:
    """The parts of :attr:`colgraph.layout.Layout.walk`."""
    known = _tables_of.get(id(packed))
    if known is not None and known[0]() is packed and known[1] == packed.data_ptr():
        return known[2]
    number = id(packed)
    # An alias of the tensor: one that held the tensor itself would keep it alive for ever.
    flat, edges = packed.detach().numpy(), (packed.numel() - 5 * columns - 4) // 3
    n, e = columns + 1, edges
    starts = (0, n, n + e, 2 * n + e, 2 * n + 2 * e, 2 * n + 3 * e, 3 * n + 3 * e - 1, 4 * n + 3 * e - 1, flat.size)
    indptr, source, source_indptr, place, target, order, work, source_work = (flat[i:j] for i, j in pairwise(starts))
    listening = _Direction(order, indptr, source, work)
    tables = _Tables(listening, _Direction(order, source_indptr, target, source_work), place)
    _tables_of[number] = (weakref.ref(packed, lambda _: _tables_of.pop(number, None)), packed.data_ptr(), tables)
    return tables


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


def _over_columns(kernel: str, direction: _Direction, multiply_adds: int, *args: Any) -> None:
    """The kernel of that name, ``kernel(pieces, edges, *args)``, on as many threads as are worth waking."""
    from colgraph.ops import _numba_kernels

    run, threads = getattr(_numba_kernels, kernel), worth_waking(multiply_adds)
    pieces, edges = direction.pieces(threads), direction.edges
    run_pieces(lambda _: run(pieces, edges, *args), threads, threads)


def _forward(given: Operands, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value, edge_bias, edge_cost, scale = given
    sizes = _sizes(query, value, edge_bias)
    t = _unpack_tables(tables[0], query.size(0))
    out, softmax = empty_array(*value.shape), empty_array(*query.shape[:3], 2)
    cost = empty_array(*query.shape[:3]) if edge_cost is not None else np.empty(0, np.float32)
    inputs = (_flat(query), _flat(key), _flat(value), _by_head(edge_bias), _flat(edge_cost))
    results = (out.reshape(-1), softmax.reshape(-1), cost.reshape(-1))
    multiply_adds = t.place.size * sizes.slices * (sizes.depth + sizes.channels)
    _over_columns("forward", t.listening, multiply_adds, sizes, np.float32(scale), *inputs, *results)
    return torch.from_numpy(out).to(value.dtype), torch.from_numpy(cost), torch.from_numpy(softmax)


def _rounds(slices: int, edges: int, room: int, needed: bool) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Runs of slices ``(start, stop, apart, scratch)`` whose scratch has ``apart`` floats per edge.

    Each run walks all edges and reads a part of each row: on 163,842 columns one run over four slices takes half the
    time of four. But a scratch of many slices outgrows the cache: beyond :data:`SCRATCH_FLOATS`, only those of a line
    come together, where ``room`` floats are enough for them.

    ``apart`` is two floats per slice, and a cache line more where that is a multiple of many lines: such rows would
    fall on the same few lines of the cache and drive each other out.
    """
    fit, least = SCRATCH_FLOATS // max(2 * edges, 1), room // max(2 * edges, 1)
    width = max(1, min(slices, max(fit, min(least, _LINE // 2))))
    apart = 2 * width + (_LINE if 2 * width % (8 * _LINE) == 0 else 0)
    scratch = empty_array(edges * apart) if needed else _NOTHING
    for start in range(0, slices, width):
        yield start, min(start + width, slices), apart, scratch


def _backward(given: Operands, tables: Tables, back: Back) -> Gradients:
    query, key, value, edge_bias, edge_cost, scale = given
    sizes = _sizes(query, value, edge_bias)
    likes = [like if want else None for like, want in zip(given[:4], back.wanted, strict=True)]
    grads = [_NOTHING if like is None else empty_array(*like.shape) for like in likes]
    grad_query, grad_key, grad_value, _ = (grad.reshape(-1) for grad in grads)
    # By this thread: torch's would wake others, which then spin on the cores that the kernels need.
    grad_bias = np.zeros(grads[3].size, np.float32)
    factor, flat_query = np.float32(scale), _flat(query)
    flat_grad, flat_grad_cost = _flat(back.grad_out), _flat(back.grad_cost)
    inputs = (flat_query, _flat(key), _flat(value), _by_head(edge_bias), _flat(edge_cost), _flat(back.kept[0]))
    t = _unpack_tables(tables[0], query.size(0))
    to_sources = back.wanted[1] or back.wanted[2]
    room = 2 * (query.numel() + value.numel())
    for g_start, g_stop, apart, scratch in _rounds(sizes.slices, t.place.size, room, to_sources):
        edge_slices = t.place.size * (g_stop - g_start)
        this_round = (sizes, g_start, g_stop, apart, factor)
        more = (flat_grad, flat_grad_cost, t.listening.work, scratch, grad_query, grad_bias)
        multiply_adds = edge_slices * (2 * sizes.depth + sizes.channels)
        _over_columns("backward_targets", t.listening, multiply_adds, *this_round, *inputs, *more)
        if to_sources:
            arrays = (flat_query, flat_grad, t.place, scratch, grad_key, grad_value)
            multiply_adds = edge_slices * (sizes.depth + sizes.channels)
            _over_columns("backward_sources", t.speaking, multiply_adds, *this_round, *arrays)
    if grad_bias.size:
        np.copyto(grads[3], grad_bias.reshape(grads[3].shape[::-1]).T)
    return [None if like is None else torch.from_numpy(grad).to(like.dtype) for grad, like in zip(grads, likes)]


NUMBA = register(Primitive("numba_attention", lambda layout: [layout.walk], _forward, _backward))
