"""All time steps of a sheet of untied columns as one differentiable function, with its own backward pass through time.

Autograd, left to itself, makes a weight gradient in every step and adds it to the sum of the later steps. For untied
weights, which are larger than all activations of a small batch, that is most of a training step's memory traffic. Here
the backward pass carries only the gradient of the state from step to step, keeps on a tape what each step contributes
to the weights, and turns the tape into weight gradients once, at the end.

The function is that of :meth:`colgraph.nn.ColumnBlock.forward`, step after step, which stays the specification;
:func:`why_plain` says when that one runs. All that is kept between the passes goes through ``save_for_backward``, so
several unrolls may be alive at once, and be differentiated in any order, repeatedly or in part. A backward pass that is
to be differentiated itself is computed by autograd, from :func:`_in_operations`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colgraph.layout import Layout
from colgraph.nn.attention import Observer, SheetAttention
from colgraph.nn.block import ColumnBlock, ColumnMlp
from colgraph.nn.drive import Drive
from colgraph.nn.layers import ColumnLayerNorm, ColumnLinear, apply_linear, apply_norm
from colgraph.nn.shared import SharedColumnLayerNorm, SharedColumnLinear, SharedDifference
from colgraph.ops import column_step as ops
from colgraph.ops import resolve_backend
from colgraph.ops.column_step import ColumnWeights, GradientTape, StepTape
from colgraph.ops.higher_order import differentiable_gradients, is_differentiated_again
from colgraph.ops.primitive import AttentionStep, Back
from colgraph.ops.reference import Operands
from colgraph.torch_internals import has_hooks, is_tracing, is_transformed, watches_messages, will_run


@dataclass(frozen=True)
class _Plan:
    """What an unroll needs beside the tensors that are differentiated; the drive's own are left out of it.

    ``segment`` is how many steps the backward pass has on its tape at a time. Where that is fewer than there are, the
    states at which segments begin are kept, and a segment is computed once more when its turn comes.
    """

    attention: AttentionStep
    edge_cost: Tensor | None
    steps: int
    heads: int
    residual: bool
    eps: tuple[float, float]
    drive: Drive
    record: bool
    segment: int
    differentiate: bool
    observer: Observer | None

    @property
    def recompute(self) -> bool:
        """Whether the backward pass computes steps once more."""
        return self.segment < self.steps

    def operands(self, query: Tensor, key: Tensor, value: Tensor, edge_bias: Tensor | None) -> Operands:
        """Of the attention: query, key ``[N,B,HD]`` and value ``[N,B,C]``, by heads."""
        query, key, value = (x.unflatten(-1, (self.heads, -1)) for x in (query, key, value))
        return Operands(query, key, value, edge_bias, self.edge_cost, query.size(-1) ** -0.5)

    def attended(self, tape: StepTape, slot: int, edge_bias: Tensor | None) -> Operands:
        """The operands of the step that lies there on a tape."""
        return self.operands(tape.query[slot], tape.key[slot], tape.normed[slot], edge_bias)

    def run(self, given: _Given, step: Callable[[Tensor, int], tuple[Tensor, Tensor | None]]) -> tuple[Tensor, ...]:
        """The mean of the costs (zero without edge costs), then the states: all where recorded, else the last.

        Args:
            given: state and drive to begin with.
            step: from the state with what step t receives, and t, to the next state and each column's wiring cost.
        """
        drive, state = replace(self.drive, x=given.drive_x, embedding=given.embedding), given.state
        states, costs = [], []
        for t in range(self.steps):
            state, cost = step(drive.added_to(state, t), t)
            if self.edge_cost is not None and cost is not None:
                costs.append(cost.mean())
            if self.record or t == self.steps - 1:
                states.append(state)
        return (torch.stack(costs).mean() if costs else state.new_zeros(()), *states)


class _Given(NamedTuple):
    """The tensors that are differentiated, or their gradients."""

    state: Tensor
    drive_x: Tensor | None
    embedding: Tensor | None
    edge_bias: Tensor | None
    weights: ColumnWeights[Tensor]

    @classmethod
    def of(cls, tensors: Sequence[Any]) -> _Given:
        """From one after the other."""
        state, drive_x, embedding, edge_bias, *weights = tensors
        return cls(state, drive_x, embedding, edge_bias, ColumnWeights(*weights))


def _step(
    plan: _Plan, given: _Given, tape: StepTape, slot: int, x: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """The next state, each column's wiring cost, and what the attention leaves for the backward pass."""
    ops.column_in(x, given.weights, plan.eps[0], tape, slot)
    heard, cost, kept = plan.attention.forward(plan.attended(tape, slot, given.edge_bias))
    residual = x if plan.residual else None
    return ops.column_out(residual, heard.view(x.shape), given.weights, plan.eps[1], tape, slot), cost, kept


class _Unroll(torch.autograd.Function):
    """See :meth:`_Plan.run`."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *inputs: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        given = _Given.of(inputs)
        keep = plan.differentiate and not plan.recompute
        tape = StepTape.blank(plan.steps if keep else 1, given.state.size(1), given.weights)
        entered: list[Tensor] = []
        kept: list[Tensor] = []

        def step(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            state, cost, left = _step(plan, given, tape, t if keep else 0, x)
            if keep:
                kept.extend(left)
            if keep or (plan.differentiate and t % plan.segment == 0):
                entered.append(x)
            return state, cost

        results = plan.run(given, step)
        if plan.differentiate:
            ctx.plan, ctx.version = plan, _version(plan.edge_cost)
            ctx.save_for_backward(*inputs, *entered, *([*kept, *tape] if keep else []))
            ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, grad_cost: Tensor | None, *grad_states: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.version != _version(ctx.plan.edge_cost):  # it receives no gradient, and autograd does not look after it
            raise RuntimeError("edge_cost was modified by an inplace operation between forward and backward pass")
        if not is_differentiated_again(grad_cost, *grad_states):
            return None, *_BackwardPass(ctx, grad_cost).run(grad_states)
        wanted, function = ctx.needs_input_grad[1:], functools.partial(_in_operations, ctx.plan)
        inputs = ctx.saved_tensors[: len(wanted)]
        return None, *differentiable_gradients(function, inputs, wanted, (grad_cost, *grad_states))


def _in_operations(plan: _Plan, *inputs: Any) -> tuple[Tensor, ...]:
    """What :class:`_Unroll` computes, in operations that autograd knows."""
    given = _Given.of(inputs)
    w = given.weights

    def step(x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        normed = apply_norm(x, w.norm1_weight, w.norm1_bias, plan.eps[0])
        query, key = apply_linear(normed, w.query_weight, w.query_bias), apply_linear(normed, w.key_weight, w.key_bias)
        heard, cost = plan.attention.in_operations(plan.operands(query, key, normed, given.edge_bias))
        y = x + heard.flatten(2) if plan.residual else heard.flatten(2)
        hidden = apply_linear(apply_norm(y, w.norm2_weight, w.norm2_bias, plan.eps[1]), w.fc1_weight, w.fc1_bias)
        return y + apply_linear(F.gelu(hidden), w.fc2_weight, w.fc2_bias), cost

    return plan.run(given, step)


class _BackwardPass:
    """Backpropagation through the time steps of one :class:`_Unroll`."""

    def __init__(self, ctx: Any, grad_cost: Tensor | None) -> None:
        plan: _Plan = ctx.plan
        saved = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 1
        inputs, saved = saved[:count], saved[count:]
        self.plan, self.given = plan, _Given.of(inputs)
        self.columns, self.batch = self.given.state.shape[:2]
        if plan.recompute:
            self.entered, self.begins = [], saved
            self._blank((plan.steps - 1) % plan.segment + 1)
        else:
            self.entered, saved = list(saved[: plan.steps]), saved[plan.steps :]
            kept = saved[: -len(StepTape._fields)]
            each = len(kept) // plan.steps
            self.kept = [kept[t * each : (t + 1) * each] for t in range(plan.steps)]
            self.tape = StepTape(*saved[len(kept) :])
            self.grads = GradientTape.blank_like(self.tape)
        self.grad_cost: Tensor | None = None
        if grad_cost is not None:
            shape = (self.columns, self.batch, plan.heads)
            self.grad_cost = (grad_cost / (plan.steps * math.prod(shape))).expand(shape).contiguous()
        _, drive_x, embedding, edge_bias = inputs[:4]
        _, want_x, want_embedding, want_bias, *want = _wanted(ctx, inputs)
        self.drive = replace(
            plan.drive,
            x=torch.zeros_like(drive_x) if want_x else None,
            embedding=torch.zeros_like(embedding) if want_embedding else None,
        )
        self.grad_bias = _zeros_like(edge_bias) if want_bias else None
        self.totals = ops.new_gradients(self.given.weights, want)

    def run(self, grad_states: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Gradients of the state, the drive, the embedding, the edge bias and the weights."""
        plan, grad = self.plan, grad_states[-1]
        for begin in reversed(range(0, plan.steps, plan.segment)):
            end = min(begin + plan.segment, plan.steps)
            if plan.recompute:
                self._recompute(begin, end)
            self._receive(grad, end - begin - 1)
            for t in reversed(range(begin, end)):
                slot = t - begin
                into = self.grads.out[:, slot - 1] if slot else ops.empty(*self.entered[0].shape)
                self._step(slot, into)
                self.drive.collect(into, t)
                if self.drive.kept(t) != 1:
                    into.mul_(self.drive.kept(t))
                recorded = grad_states[t - 1] if plan.record and t else None
                if recorded is not None:
                    ops.accumulate(recorded, into)
            add = end < plan.steps
            ops.weight_gradients(self.given.weights, plan.eps[1], self.tape, self.grads, self.totals, add)
            grad = into
        return into, self.drive.x, self.drive.embedding, self.grad_bias, *self.totals

    def _blank(self, slots: int) -> None:
        """Tapes that so many steps fill."""
        self.tape = StepTape.blank(slots, self.batch, self.given.weights)
        self.grads = GradientTape.blank_like(self.tape)

    def _recompute(self, begin: int, end: int) -> None:
        """Steps ``begin`` to ``end`` once more, onto the tape, from the state that was kept of the first."""
        plan, given = self.plan, self.given
        if end - begin != self.grads.out.size(1):
            self._blank(end - begin)
        drive = replace(plan.drive, x=given.drive_x, embedding=given.embedding)
        x = self.begins[begin // plan.segment]
        self.entered, self.kept = [x], []
        for t in range(begin, end):
            state, _, left = _step(plan, given, self.tape, t - begin, self.entered[-1])
            self.kept.append(left)
            if t + 1 < end:
                self.entered.append(drive.added_to(state, t + 1))

    def _receive(self, grad: Tensor | None, slot: int) -> None:
        """The gradient of a segment's last state; None where only a cost or an earlier state is differentiated."""
        last = self.grads.out[:, slot]
        last.zero_() if grad is None else ops.copy(grad, last)

    def _step(self, slot: int, into: Tensor) -> None:
        """The step at a slot: the gradient of its state ``into``, and onto the tape what the weights need."""
        plan, w, tape, grads = self.plan, self.given.weights, self.tape, self.grads
        x = self.entered[slot]
        grad_middle = ops.column_out_backward(w, plan.eps[1], tape, grads, slot, self.totals)
        given = plan.attended(tape, slot, self.given.edge_bias)
        if self.grad_cost is None and given.edge_cost is not None:
            given = given._replace(edge_cost=None)
        wanted = (True, True, True, self.grad_bias is not None)
        grad_heard = grad_middle.view(given.value.shape)
        if plan.observer is not None:
            heard = tape.middle[:, slot] - x if plan.residual else tape.middle[:, slot]
            plan.observer(given._replace(edge_cost=None), heard.view(given.value.shape), grad_heard)
        back = Back(grad_heard, self.grad_cost, self.kept[slot], wanted)
        grad_query, grad_key, grad_value, grad_bias = plan.attention.backward(given, back)
        ops.copy(grad_query.flatten(2), grads.query[:, slot])
        ops.copy(grad_key.flatten(2), grads.key[:, slot])
        if self.grad_bias is not None:
            ops.accumulate(grad_bias, self.grad_bias)
        residual = grad_middle if plan.residual else None
        grad_normed = grad_value.view(x.shape)
        ops.column_in_backward(x, grad_normed, residual, w, plan.eps[0], tape, grads, slot, self.totals, into)


def _version(tensor: Tensor | None) -> int | None:
    return None if tensor is None or tensor.is_inference() else tensor._version


def _zeros_like(tensor: Tensor) -> Tensor:
    return torch.from_numpy(np.zeros(tensor.shape, np.float32))


def _wanted(ctx: Any, inputs: Sequence[Tensor | None]) -> list[bool]:
    """For each tensor (or None) given to the function: whether its gradient goes anywhere in this backward pass."""
    edges = iter(ctx.next_functions)  # one for each tensor
    nodes = [None if tensor is None else next(edges)[0] for tensor in inputs]
    return [node is not None and will_run(node) for node in nodes]


# ---------------------------------------------------------------------- the way in


def unroll_columns(
    block: ColumnBlock,
    state: Tensor,
    layout: Layout,
    steps: int,
    *,
    edge_cost: Tensor | None = None,
    drive: Drive | None = None,
    record: bool = False,
    segment: int | None = None,
) -> tuple[list[Tensor], Tensor]:
    """``steps`` times ``state, cost = block(drive.added_to(state, t), layout, edge_cost)``.

    Args:
        block: untied in all its parts; :func:`why_plain` must have nothing against it.
        state: ``[N,B,C]``.
        layout: the sheet's.
        steps: T.
        edge_cost: ``[E]`` or None.
        drive: what is added at the beginning of each step.
        record: return all states, not only the last.
        segment: keep the state of every ``segment``-th step alone, and compute those between once more in the backward
            pass; None keeps everything.

    Returns:
        The states ``[N,B,C]`` after each step (or the last alone) and the mean over steps, columns, batch and heads of
        the wiring cost (zero without ``edge_cost``).

    Raises:
        ValueError: for an edge bias or costs of edges that are not of this layout.
    """
    drive = Drive() if drive is None else drive
    edge_bias = block.attention.edge_bias
    _check_bias(edge_bias, layout.num_edges, block.attention.num_heads)
    if edge_cost is not None and tuple(edge_cost.shape) != (layout.num_edges,):
        raise ValueError(f"edge_cost must have shape [E={layout.num_edges}], got {list(edge_cost.shape)}")
    weights = block_weights(block)
    inputs = [None if a is None else a.contiguous() for a in (state, drive.x, drive.embedding, edge_bias, *weights)]
    plan = _Plan(
        attention=block.attention.in_steps(layout),
        edge_cost=edge_cost,
        steps=steps,
        heads=block.attention.num_heads,
        residual=block.attention_residual,
        eps=(block.norm1.eps, block.norm2.eps),
        drive=replace(drive, x=None, embedding=None),
        record=record,
        segment=steps if segment is None else segment,
        differentiate=torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in inputs),
        observer=block.attention.observer,
    )
    cost, *states = _Unroll.apply(plan, *inputs)
    return states, cost


def _check_bias(bias: Tensor | None, edges: int, heads: int) -> None:
    """Kernels read it by its address."""
    if bias is not None and tuple(bias.shape) not in ((edges,), (edges, 1), (edges, heads)):
        raise ValueError(f"edge_bias must have shape [E={edges}, H={heads}] for this layout, got {list(bias.shape)}")


def block_weights(block: ColumnBlock) -> ColumnWeights[Tensor]:
    """The parameters of a block (or what they sum up to), as the kernels take them."""
    return ColumnWeights(*(_whole(part, name) for part in _parts(block) for name in ("weight", "bias")))


def _parts(block: ColumnBlock) -> tuple[nn.Module, ...]:
    return block.norm1, block.attention.query, block.attention.key, block.norm2, block.mlp.fc1, block.mlp.fc2


def _whole(part: nn.Module, name: str) -> Tensor:
    if isinstance(part, SharedDifference):
        total: Tensor = _Sum.apply(*part.pair(name))
        return total
    parameter: Tensor = getattr(part, name)
    return parameter


class _Sum(torch.autograd.Function):
    """Shared parameters plus differences ``[N,...]``, where the column kernels like to read them."""

    @staticmethod
    def forward(ctx: Any, shared: Tensor, difference: Tensor) -> Tensor:  # type: ignore[override]
        return torch.add(difference, shared, out=ops.empty(*difference.shape))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        want_shared, want_difference = ctx.needs_input_grad
        return grad.sum(0) if want_shared else None, grad if want_difference else None


def why_plain(block: ColumnBlock, state: Tensor, drive: Drive | None = None) -> str | None:
    """Why :func:`unroll_columns` cannot serve this block, state and drive, or None if it can."""
    return _why_not_structure(block) or _why_not_now(block, state, drive or Drive())


def _why_not_structure(block: ColumnBlock) -> str | None:
    attention, mlp = block.attention, block.mlp
    if attention.value is not None or attention.output is not None:
        return "value projection"
    norms, linears = (block.norm1, block.norm2), (attention.query, attention.key, mlp.fc1, mlp.fc2)
    parts = (
        ((ColumnBlock,), block),
        ((ColumnMlp,), mlp),
        ((ColumnLayerNorm, SharedColumnLayerNorm), *norms),
        ((ColumnLinear, SharedColumnLinear), *linears),
    )
    # A subclass of attention serves if it says for itself how it listens in steps.
    known = type(attention) is SheetAttention or "in_steps" in vars(type(attention))
    if not known or any(type(module) not in kinds for kinds, *modules in parts for module in modules):
        return "parts of other types"
    if any(module.num_columns is None for module in (*norms, *linears)):
        return "tied weights"
    if has_hooks() or any(has_hooks(module) for module in block.modules()) or watches_messages(attention):
        return "hooks on its parts"
    return None


def _why_not_now(block: ColumnBlock, state: Tensor, drive: Drive) -> str | None:
    if torch.compiler.is_compiling() or is_tracing() or is_transformed():
        return "traced or transformed"
    backend = resolve_backend(block.attention.backend, state.device, state.dtype)
    if backend != "numba":
        return f"attention backend {backend}"
    if not state.numel():
        return "empty batch"
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    tensors = (state, *(parameter for part in _parts(block) for parameter in part.parameters()))
    if any(
        type(a) not in (Tensor, nn.Parameter) or a.dtype != torch.float32 or a.device.type != "cpu" for a in tensors
    ):
        return "tensors other than float32 on the CPU"
    if any(a is not None and a.dtype.itemsize > 4 for a in (drive.x, drive.embedding)):  # it would make the state so
        return "a drive more precise than the state"
    if not _parameters_fit(block, state):
        return "parameters of other shapes"
    return None


def _parameters_fit(block: ColumnBlock, state: Tensor) -> bool:
    """Whether all parameters are there, in the shapes that kernels take them to have, which read them by address."""
    n, _, c = state.shape
    found = [_shape_of(part, name) for part in _parts(block) for name in ("weight", "bias")]
    wide, hidden = found[2][1:2], found[8][1:2]  # of queries, and of the MLP
    norm, query = [(n, c), (n, c)], [(n, *wide, c), (n, *wide)]
    return found == [*norm, *query, *query, *norm, (n, *hidden, c), (n, *hidden), (n, c, *hidden), (n, c)]


def _shape_of(part: nn.Module, name: str) -> tuple[int, ...]:
    """Of a parameter, or of the differences that one is made of; of one that is not there, ``()``."""
    parameter = getattr(part.difference if isinstance(part, SharedDifference) else part, name)
    return () if parameter is None else tuple(parameter.shape)
