"""A backend is a pair of functions, attention forward and backward; whatever runs it derives from the pair.

* :func:`run`: the function that autograd knows, and, where a compiler, a tracer or a mode looks on, a pair of operators
  in ``torch.ops.colgraph``, so that ``torch.compile``, CUDA graphs and counters of operations take it whole;
* :class:`LayoutAttention`: the pair over one layout, which the fused column step and the parts of a sheet call outside
  autograd.

Gradients that are differentiated again are those of the reference, by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from colgraph.layout import Layout
from colgraph.ops.higher_order import differentiable_gradients, is_differentiated_again
from colgraph.ops.reference import Operands, attend
from colgraph.torch_internals import is_dispatched, is_tracing

Tables = Sequence[Tensor]
Gradients = Sequence[Any]  # of query, key, value and edge bias: tensors, and None where not wanted


class Back(NamedTuple):
    """What a backward pass is computed from, beside the operands.

    Attributes:
        grad_out: ``[N,B,H,C]``.
        grad_cost: ``[N,B,H]``, or None where nobody wants it: then the operands have no edge cost.
        kept: what the forward pass has left.
        wanted: for query, key, value and edge bias, whether its gradient is wanted.
    """

    grad_out: Tensor
    grad_cost: Tensor | None
    kept: Sequence[Tensor]
    wanted: Sequence[bool]


@dataclass(frozen=True)
class Primitive:
    """The pair of one backend.

    Attributes:
        name: of its operators in ``torch.ops.colgraph``, where it has any.
        tables: what the pair reads of a layout.
        forward: ``out [N,B,H,C]`` of the value's dtype, ``cost [N,B,H]`` (empty without edge cost), and statistics for
            the backward pass: ``[N,B,H,2]``, the largest score and the inverse of the sum of each softmax; the last two
            float32.
        backward: gradients of query, key, value and edge bias, None for each that is not wanted.
        keeps_results: whether the backward pass reads output and cost, before the statistics.
        operations: the same in operations that autograd knows, where the backend is written so.
    """

    name: str
    tables: Callable[[Layout], list[Tensor]]
    forward: Callable[[Operands, Tables], tuple[Tensor, Tensor, Tensor]]
    backward: Callable[[Operands, Tables, Back], Gradients]
    keeps_results: bool = False
    operations: Callable[[Operands, Tables], tuple[Tensor, Tensor | None]] | None = None

    def keep(self, results: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """What the backward pass reads of what the forward pass returned."""
        return results if self.keeps_results else results[2:]


class AttentionStep(Protocol):
    """Attention with a backward pass apart: over one layout, or over the parts of a sheet."""

    def forward(self, given: Operands) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Output, cost (empty without edge costs), and what the backward pass needs: always as many tensors."""

    def backward(self, given: Operands, back: Back) -> Gradients:
        """Gradients of query, key, value and edge bias, None for each that is not wanted."""

    def in_operations(self, given: Operands) -> tuple[Tensor, Tensor | None]:
        """Output and cost in operations that autograd knows, for gradients of gradients."""


class LayoutAttention(NamedTuple):
    """A backend's pair over one layout: an :class:`AttentionStep`."""

    primitive: Primitive
    edge_index: Tensor
    tables: Tables

    @classmethod
    def of(cls, primitive: Primitive, layout: Layout) -> LayoutAttention:
        """The pair over ``layout``."""
        return cls(primitive, layout.edge_index, primitive.tables(layout))

    def forward(self, given: Operands) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        results = self.primitive.forward(given, self.tables)
        return results[0], results[1], self.primitive.keep(results)

    def backward(self, given: Operands, back: Back) -> Gradients:
        return self.primitive.backward(given, self.tables, back)

    def in_operations(self, given: Operands) -> tuple[Tensor, Tensor | None]:
        return attend(given, self.edge_index)


# ---------------------------------------------------------------------- for autograd


def run(primitive: Primitive, given: Operands, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """Output and cost (None without edge costs), differentiable."""
    tables = primitive.tables(layout)
    if primitive.operations is not None:
        return primitive.operations(given, tables)
    if _is_direct(given):
        out, cost = AttentionFunction.apply(LayoutAttention(primitive, layout.edge_index, tables), *given)
    else:
        out, cost, _ = getattr(torch.ops.colgraph, primitive.name)(*given, layout.edge_index, tables)
    return out, None if given.edge_cost is None else cost.to(given.edge_cost.dtype)


def _is_direct(given: Operands) -> bool:
    """Whether nothing looks on: no compiler, tracer, transform or mode, and plain tensors only."""
    if torch.compiler.is_compiling():
        return False
    if is_tracing() or is_dispatched():
        return False
    return all(type(each) in (Tensor, nn.Parameter) for each in given[:5] if each is not None)


class AttentionFunction(torch.autograd.Function):
    """A step's pair without the dispatcher, whose way through Python takes as long as a small sheet's kernels."""

    @staticmethod
    def forward(ctx: Any, step: AttentionStep, *given: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        out, cost, kept = step.forward(Operands(*given))
        ctx.save_for_backward(*given[:5], *kept)
        ctx.step, ctx.scale = step, given[5]
        ctx.set_materialize_grads(False)
        return out, cost

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad_cost: Tensor | None) -> tuple[Any, ...]:
        query, key, value, edge_bias, edge_cost, *kept = ctx.saved_tensors
        given = Operands(query, key, value, edge_bias, edge_cost, ctx.scale)
        grads = _gradients(ctx.step, ctx.step.backward, given, kept, ctx.needs_input_grad[1:5], grad_out, grad_cost)
        return None, *grads, None, None


def _gradients(
    step: AttentionStep,
    backward: Callable[[Operands, Back], Gradients],
    given: Operands,
    kept: Sequence[Tensor],
    wanted: Sequence[bool],
    grad_out: Tensor | None,
    grad_cost: Tensor | None,
) -> Gradients:
    """The backward pass: by ``backward``, or in operations that autograd knows where it is differentiated itself."""
    if not torch.compiler.is_compiling() and is_differentiated_again(grad_out, grad_cost):
        return _differentiate(step.in_operations, given, wanted, (grad_out, grad_cost))
    if grad_out is None:
        grad_out = torch.zeros_like(given.value)
    if grad_cost is None and given.edge_cost is not None:
        given = given._replace(edge_cost=None)
    return backward(given, Back(grad_out, grad_cost, kept, wanted))


def _differentiate(
    function: Callable[[Operands], tuple[Tensor, Tensor | None]],
    given: Operands,
    wanted: Sequence[bool],
    grads: tuple[Tensor | None, Tensor | None],
) -> Gradients:
    """The gradients of query, key, value and edge bias by autograd."""

    def of_tensors(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return function(Operands(query, key, value, bias, given.edge_cost, given.scale))

    return differentiable_gradients(of_tensors, given[:4], wanted, grads)


def in_operations(
    name: str,
    tables: Callable[[Layout], list[Tensor]],
    function: Callable[[Operands, Tables], tuple[Tensor, Tensor | None]],
) -> Primitive:
    """The pair of a backend that is written in operations which autograd knows: backward computes forward again."""

    def forward(given: Operands, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
        out, cost = function(given, tables)
        nothing = out.new_empty(0, dtype=torch.float32)
        return out, nothing if cost is None else cost, torch.empty_like(nothing)

    def backward(given: Operands, tables: Tables, back: Back) -> Gradients:
        grads = (back.grad_out, back.grad_cost)
        return _differentiate(lambda given: function(given, tables), given, back.wanted, grads)

    return Primitive(name, tables, forward, backward, operations=function)


REFERENCE = in_operations(
    "reference", lambda layout: [layout.edge_index], lambda given, tables: attend(given, tables[0])
)


# ---------------------------------------------------------------------- for compilers and whoever else looks on

_OPERANDS = "Tensor query, Tensor key, Tensor value, Tensor? edge_bias, Tensor? edge_cost, float scale"
_FORWARD = f"({_OPERANDS}, Tensor edge_index, Tensor[] tables) -> (Tensor, Tensor, Tensor)"
_BACKWARD = (
    f"({_OPERANDS}, Tensor[] tables, Tensor grad_out, Tensor? grad_cost, Tensor[] kept, bool[] wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def register(primitive: Primitive) -> Primitive:
    """Make the operators ``torch.ops.colgraph.<name>`` and ``<name>_backward`` of a pair."""

    def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        return primitive.forward(Operands(*args[:6]), args[7])

    def backward(*args: Any) -> tuple[Tensor, ...]:
        grads = primitive.backward(Operands(*args[:6]), args[6], Back(*args[7:]))
        return tuple(args[0].new_empty(0) if grad is None else grad for grad in grads)

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, ctx.scale, edge_index, tables = inputs
        ctx.tables = len(tables)
        ctx.save_for_backward(*tensors, edge_index, *tables, *primitive.keep(output))
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)

    def differentiated(ctx: Any, grad_out: Tensor | None, grad_cost: Tensor | None, _: Any) -> tuple[Any, ...]:
        query, key, value, edge_bias, edge_cost, edge_index, *more = ctx.saved_tensors
        tables, kept, wanted = more[: ctx.tables], more[ctx.tables :], list(ctx.needs_input_grad[:4])

        def operator(given: Operands, back: Back) -> Gradients:
            grads = backward_operator(*given, tables, *back)
            return [grad if want else None for grad, want in zip(grads, wanted, strict=True)]

        step = LayoutAttention(primitive, edge_index, tables)
        given = Operands(query, key, value, edge_bias, edge_cost, ctx.scale)
        grads = _gradients(step, operator, given, kept, wanted, grad_out, grad_cost)
        return *grads, None, None, None, [None] * ctx.tables

    name = f"colgraph::{primitive.name}"
    forward_operator = torch.library.custom_op(name, forward, mutates_args=(), schema=_FORWARD)
    forward_operator.register_fake(_forward_shapes)
    forward_operator.register_autograd(differentiated, setup_context=save)
    backward_operator = torch.library.custom_op(f"{name}_backward", backward, mutates_args=(), schema=_BACKWARD)
    backward_operator.register_fake(_backward_shapes)
    return primitive


def _forward_shapes(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    query, value, edge_cost = args[0], args[2], args[4]
    rows = query.shape[:3]
    return (
        value.new_empty(value.shape),
        query.new_empty((0,) if edge_cost is None else rows, dtype=torch.float32),
        query.new_empty((*rows, 2), dtype=torch.float32),
    )


def _backward_shapes(*args: Any) -> tuple[Tensor, ...]:
    given, wanted = args[:4], args[-1]
    return tuple(x.new_empty(x.shape) if want else args[0].new_empty(0) for x, want in zip(given, wanted, strict=True))
