"""What both Triton kernels share: address arithmetic, the arguments of a call, and the choice of block sizes.

State is ``[N, B, H, width]``, contiguous. A *row* is one column, sample and head: ``width`` numbers side by side.
Rows are counted in 64 bits: a million columns with 64 samples and 384 channels pass 2^31 numbers by a factor of ten.
"""

# Kernel arguments are Triton values and have no Python types.
# mypy: allow-untyped-defs, allow-incomplete-defs

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from colgraph.ops.reference import Operands


@triton.jit
def row_index(column, sample, head, num_samples, num_heads):
    """The row of a column, sample and head, as int64 whatever the type of ``column``."""
    return (column.to(tl.int64) * num_samples + sample) * num_heads + head


@triton.jit
def edge_row(edge, head, num_heads, BIAS: tl.constexpr):
    """Where the bias of an edge is, as int64: in ``[E,H]`` when BIAS is 2, in ``[E]`` when it is 1."""
    index = edge.to(tl.int64)
    if BIAS == 2:
        index = index * num_heads + head
    return index


@triton.jit
def load_rows(pointer, row, inside, column, WIDTH: tl.constexpr):
    """``[X,Y,len(column)]`` numbers of the rows ``row [X,Y]``; zeros where ``inside [X,Y]`` is false."""
    mask = inside[:, :, None] & (column < WIDTH)[None, None, :]
    return tl.load(pointer + row[:, :, None] * WIDTH + column[None, None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(pointer, row, inside, column, values, WIDTH: tl.constexpr):
    """What :func:`load_rows` reads, from ``values`` of any type."""
    mask = inside[:, :, None] & (column < WIDTH)[None, None, :]
    at = pointer + row[:, :, None] * WIDTH + column[None, None, :]
    tl.store(at, values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def softmax_step(score, top, AXIS: tl.constexpr):
    """A block of scores after others: the largest of all, the weights, and what earlier sums are to be multiplied by.

    Edges lie along ``AXIS``.
    """
    new_top = tl.maximum(top, tl.max(score, axis=AXIS))
    # All scores so far may be -inf: then any finite number serves, because every weight is zero.
    level = tl.where(new_top == float("-inf"), 0.0, new_top)
    return new_top, tl.exp(score - tl.expand_dims(level, AXIS)), tl.exp(top - level)


@triton.jit
def softmax_share(total):
    """The inverse of the sum of each softmax; 0 where all is masked."""
    heard = total > 0
    return tl.where(heard, 1.0 / tl.where(heard, total, 1.0), 0.0)


@triton.jit
def store_softmax(softmax, row, top, share, mask):
    """Keep the largest score and the inverse of the sum of each row's softmax, side by side; zeros where all is masked.

    Not the logarithm of the sum in one number: beside a largest score of -1e9 float32 has no room for it.
    """
    tl.store(softmax + 2 * row, tl.where(share > 0, top, 0.0), mask=mask)
    tl.store(softmax + 2 * row + 1, share, mask=mask)


@triton.jit
def load_softmax(softmax, row, mask):
    """What :func:`store_softmax` has kept; zeros where ``mask`` is false."""
    return tl.load(softmax + 2 * row, mask=mask, other=0.0), tl.load(softmax + 2 * row + 1, mask=mask, other=0.0)


# Under TRITON_INTERPRET=1 kernels run in numpy, on tensors of any device.
INTERPRETED = not isinstance(row_index, triton.runtime.JITFunction)

BLOCKS_IN_ROUND = 8
"""Most sums over blocks of samples that the bias gradient holds per edge and head."""


def power_of_two(n: int, least: int = 1) -> int:
    """The smallest power of two that is at least ``n`` and ``least``."""
    return max(least, 1 << max(n - 1, 0).bit_length())


class Call(Operands):
    """The inputs of one call, contiguous, and what kernels need to know of them."""

    __slots__ = ()

    @classmethod
    def of(cls, given: Operands) -> "Call":
        """The call with every tensor made contiguous (which costs nothing where it is)."""
        fields: list[Any] = [x.contiguous() if isinstance(x, Tensor) else x for x in given]
        return cls(*fields)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """N, B, H, D, C."""
        n, b, h, d = self.query.shape
        return n, b, h, d, self.value.shape[3]

    def new(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An uninitialized tensor on the call's device."""
        return torch.empty(shape, dtype=dtype, device=self.query.device)

    def pointers(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The five inputs; where there is no bias or cost, a tensor that the kernel will not read."""
        bias = self.query if self.edge_bias is None else self.edge_bias
        cost = self.query if self.edge_cost is None else self.edge_cost
        return self.query, self.key, self.value, bias, cost

    def constants(self) -> dict[str, Any]:
        """Compile-time arguments that say which inputs there are (BIAS: its dimensions) and how wide rows are."""
        return {
            "BIAS": 0 if self.edge_bias is None else self.edge_bias.dim(),
            "HAS_COST": self.edge_cost is not None,
            "D": self.query.size(3),
            "C": self.value.size(3),
        }

    def sum_bias(self, num_blocks: int, need_bias: bool, launch: Callable[[int, int, Tensor], None]) -> Tensor:
        """Runs a target pass over all blocks of samples, and sums the bias gradients it writes (empty if not needed).

        ``launch(first, count, partial)`` serves blocks ``first`` to ``first + count`` and writes one sum over samples
        per block to ``partial [count,E,H]``. A round has at most ``BLOCKS_IN_ROUND`` blocks, so that the memory for the
        sums does not grow with the batch.
        """
        if self.edge_bias is None or not need_bias:
            launch(0, num_blocks, self.new(0))
            return self.new(0)
        total = self.new(0)
        for first in range(0, num_blocks, BLOCKS_IN_ROUND):
            partial = self.new(min(BLOCKS_IN_ROUND, num_blocks - first), self.edge_bias.size(0), self.query.size(2))
            launch(first, partial.size(0), partial)
            part = partial.sum(0) if partial.size(0) > 1 else partial[0]
            total = part if first == 0 else total.add_(part)
        return (total if self.edge_bias.dim() == 2 else total.sum(1)).to(self.edge_bias.dtype)


Turns = tuple[int, dict[str, Any]]


class Plan(NamedTuple):
    """How the kernels are launched for one call.

    Attributes:
        programs: how many, for each block of samples.
        blocks: of samples.
        constants: block sizes, and how kernels are compiled.
        forward: how many times as many programs the forward kernel has, and arguments of its own.
        source: the same for each launch of the source kernel.
    """

    programs: int
    blocks: int
    constants: dict[str, Any]
    forward: Turns = (1, {})
    source: Sequence[Turns] = ((1, {}),)


class Kernels(NamedTuple):
    """One way to walk a graph.

    Attributes:
        forward: output, cost and softmax statistics.
        target: gradients of query and edge bias.
        source: gradients of key and value.
        delta: the mean of each softmax's weight gradients; None where ``target`` computes it.
        plan: for a call and its tables.
        split: of the tables, how many both directions read, and where those that ``source`` alone reads begin.
    """

    forward: Any
    target: Any
    source: Any
    delta: Any
    plan: Callable[[Call, Sequence[Tensor]], Plan]
    split: tuple[int, int]
