"""The columnformer: one sheet, unrolled in time."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from colgraph.layout import Layout
from colgraph.models.buffers import SheetBuffers, factory_device, in_dtype_of, initial_edge_bias, wiring_costs
from colgraph.models.conduction import conduction_delays
from colgraph.models.fingerprints import check_learned_on, fingerprint_bytes, note_ends
from colgraph.models.other_sheet import check_carries_over, take_parameters
from colgraph.models.segments import can_checkpoint, run_in_segments, segment_length
from colgraph.models.unrolled import RECORDS, Unroll, why_recorded_plain
from colgraph.models.untied import written_untied
from colgraph.nn import ColumnBlock, ColumnMlp
from colgraph.nn.constructor import constructor
from colgraph.nn.delays import DelayedBlock, DelayedEdges, Said, states_before
from colgraph.nn.drive import Drive
from colgraph.nn.shared import replace_by_plain, weights_held
from colgraph.nn.unroll import unroll_columns, why_plain
from colgraph.ops import attention_weights, check_backend
from colgraph.options import PARTS, ColumnformerOptions, check_choice, check_sizes, held, plain_value
from colgraph.sheet import Sheet
from colgraph.torch_internals import static_shape

_OPTIONS = frozenset(item.name for item in dataclasses.fields(ColumnformerOptions))

_log = logging.getLogger("colgraph")


class Columnformer(SheetBuffers):
    """Columns with their own weights on a sheet, unrolled for ``steps`` time steps.

    Per column i, at each step (with a ``leak``, of ``(1 - leak) x_i`` in place of ``x_i``)::

        h_i  = LN1_i(x_i)
        a_ij = softmax over j in N(i) of ( Wq_i h_i . Wk_j h_j / sqrt(D) + b_ij )
        y_i  = x_i + sum_j a_ij h_j
        x_i' = y_i + MLP_i(LN2_i(y_i))

    Args:
        sheet: the graph.
        dim: channels C of a column's state.
        steps: time steps T of a forward pass.
        num_heads: heads H.
        qk_dim: size D of queries and keys, per head.
        mlp_dim: hidden size M of the MLP.
        untied: which parts have parameters per column: any of "norm", "attention", "mlp" (also "all", "none").
        value_projection: add value and output weights.
        attention_residual: False drops the ``x_i +`` of the third line.
        edge_bias: "learned" (one per edge and head), "fixed" at its initial value, or None.
        locality_sigma: width of the initial bias ``-d_ij^2 / (2 sigma^2)``, in the sheet's units;
            ``2 * sheet.spacing`` by default. ``1 / sqrt(2)`` gives the original's ``-dist**2``.
        position_embedding: a learned vector per column, added once at step 0.
        time_embedding: a learned vector per step, added to every column at the beginning of every step.
        inject: where input enters: "first" (step 0), "every" (the same input at every step), or "sequence"
            (input ``[T,...]``, one per step).
        wiring_power: the power p to which distances are raised in the wiring cost; not negative where edges have no
            length, as self-loops do.
        recompute: None; "steps" to keep only the state of each step and compute the rest once more in the backward
            pass; or "sqrt" to keep the state of every s-th step alone, s about the square root of the steps, so that
            memory grows with that root (Chen et al. 2016, "Training deep nets with sublinear memory cost"). Where more
            than the last state is recorded, and with delays, the plain path does the first for the second.
        backend: attention backend, see :func:`colgraph.ops.sheet_attention`.
        leak: the share of a column's state that is lost at the beginning of each step but the first, before input is
            added: leaky integration, ``x <- (1 - leak) x + input``. With none, the state of a pre-norm residual grows
            from step to step for as long as it runs; with some, it settles.
        speed: distance that news travels in a step, in the sheet's units. A column then hears the state its source had
            ``max(1, ceil(d_ij / speed))`` steps ago, zero before the first step (:mod:`colgraph.nn.delays`). None for
            no delays: one step for every edge.
        parametrization: "plain" (independent parameters in every column), or "shared+difference": the same functions
            with untied parameters written as shared ones, which start as tied ones do, plus a difference per column,
            which starts at zero (:mod:`colgraph.nn.shared`). Tied parts and edge biases stay as they are. State dicts
            of plain models load too, and :meth:`to_plain` gives the plain model.

    Attributes:
        options: the arguments as plain values, a frozen dataclass (:class:`colgraph.options.ColumnformerOptions`).
            What can change in a model that is there already can be set on it: ``steps``, ``inject``, ``recompute``.

    Raises:
        ValueError: for sizes and names that do not fit.
    """

    dim: int = held("dim")
    inject: str = held("inject", assignable=True)
    recompute: str | None = held("recompute", assignable=True)
    wiring_power: float = held("wiring_power")
    leak: float = held("leak")
    speed: float | None = held("speed")
    parametrization: str = held("parametrization")
    untied: tuple[str, ...] = held("untied_parts")
    sheet_fingerprint: Tensor
    geometry_fingerprint: Tensor
    inputs: Tensor
    edge_cost: Tensor

    @constructor
    def __init__(
        self,
        sheet: Sheet,
        dim: int = 64,
        steps: int = 6,
        num_heads: int = 1,
        qk_dim: int = 16,
        mlp_dim: int = 32,
        untied: Collection[str] | str = PARTS,
        value_projection: bool = False,
        attention_residual: bool = True,
        edge_bias: str | None = "learned",
        locality_sigma: float | None = None,
        position_embedding: bool = True,
        time_embedding: bool = False,
        inject: str = "first",
        wiring_power: float = 1.0,
        recompute: str | None = None,
        backend: str = "auto",
        parametrization: str = "plain",
        leak: float = 0.0,
        speed: float | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _OPTIONS}
        super().__init__()
        if not isinstance(sheet, Sheet):
            raise ValueError(f"sheet must be a colgraph.Sheet (from cg.build_sheet), got {type(sheet).__name__}")
        self.options = ColumnformerOptions(**given)
        check_backend(backend)
        with torch.device("cpu"):
            self._sheet = sheet.checked().clone().to("cpu")
            bias = None if edge_bias is None else initial_edge_bias(self.sheet, num_heads, self.options.locality_sigma)
        self.num_columns = sheet.num_columns
        bias = None if bias is None else bias.to(factory_device(), torch.get_default_dtype())
        delays = conduction_delays(self.sheet, self.speed, self.steps)
        self.block = (ColumnBlock if delays is None else DelayedBlock)(sheet.num_columns, self.options, bias)
        self.position_embedding = _embedding(sheet.num_columns, dim) if self.options.position_embedding else None
        self.time_embedding = _embedding(steps, dim) if self.options.time_embedding else None
        self.register_sheet_buffers("sheet_fingerprint", "geometry_fingerprint")
        self.register_state_dict_post_hook(note_ends)
        self._column_step: str | None = None
        self._make_layout(factory_device())

    @property
    def sheet(self) -> Sheet:
        """Its columns, and who hears whom. It is not to be replaced: parameters, layout and costs belong to it."""
        return self._sheet

    @sheet.setter
    def sheet(self, other: Sheet) -> None:
        raise AttributeError("a model keeps its sheet: model.on_sheet(other) makes a model on another one")

    @property
    def steps(self) -> int:
        """Time steps of a forward pass."""
        return self.options.steps

    @steps.setter
    def steps(self, value: int) -> None:
        options = dataclasses.replace(self.options, steps=plain_value(value))
        conduction_delays(self.sheet, options.speed, options.steps)
        self.options = options

    def sheet_buffers(self) -> dict[str, Tensor]:
        """Input columns, the cost of each edge, and the sheet's two fingerprints."""
        return {
            "inputs": self.sheet.inputs,
            "edge_cost": wiring_costs(self.sheet, self.wiring_power),
            **fingerprint_bytes(self.sheet),
        }

    def restore_buffers(self, device: torch.device) -> None:
        """Make the buffers anew, and the layout."""
        super().restore_buffers(device)
        self._make_layout(device)

    def _make_layout(self, device: torch.device) -> None:
        sheet, self.delayed = self.sheet, None
        with torch.device("cpu"):
            self.layout = Layout(sheet.edge_index, self.num_columns, sheet.pos).to(device)
            delays = conduction_delays(sheet, self.speed)
            if delays is not None:
                self.delayed = DelayedEdges(sheet.edge_index, delays, self.num_columns, sheet.pos).to(device)

    # ------------------------------------------------------------------ running

    def forward(self, x: Tensor) -> Tensor:
        """The state after ``steps`` steps.

        Args:
            x: ``[P,B,C]`` at the input columns in order of rank, or ``[N,B,C]`` for all columns (where P = N, the
                input columns); ``[T,P,B,C]`` or ``[T,N,B,C]`` with ``inject="sequence"``.

        Returns:
            ``[N,B,C]``.
        """
        x = in_dtype_of(self, x, "x")
        if self.inject == "sequence" and x.dim() == 4 and static_shape(x)[0] > self.steps:
            raise ValueError(
                f"the input sequence has {x.size(0)} steps and the model runs {self.steps}: unroll(x) runs as many as "
                "there are, or set model.steps"
            )
        state = self._start(x)
        states, *_ = self._run(state, self._drive(x, self.steps), self.steps, past=states_before(self.delayed, state))
        return states[-1]

    def unroll(
        self,
        x: Tensor | None,
        *,
        state: Tensor | None = None,
        steps: int | None = None,
        start: int | None = None,
        record: Collection[str] = (),
        history: Tensor | None = None,
    ) -> Unroll:
        """Run, and keep what is asked for.

        Args:
            x: the input, as in :meth:`forward`; may be None when going on from a state with ``inject="first"``.
            state: ``[N,B,C]`` to go on from. The position embedding and a first input are in it already and are not
                added again, so that 6 steps and 4 more equal 10.
            steps: how many steps; the model's own number by default (the length of the sequence with "sequence").
            start: number of steps that ``state`` has behind it, for the time embedding; the model's ``steps`` by
                default. Past the last time embedding, the last one is used.
            record: any of "state" (the states after each step), "attention", "heard" (the values that attention
                weighs), and "hidden" (the MLP's hidden units).
            history: of a model with conduction delays, what goes with ``state``: that of the same :class:`Unroll`.

        Returns:
            An :class:`Unroll`.
        """
        for name in record if not isinstance(record, str) else (record,):
            check_choice("record", name, RECORDS)
        x = None if x is None else in_dtype_of(self, x, "x")
        state = None if state is None else in_dtype_of(self, state, "state")
        going_on = state is not None
        if start is not None:
            start = plain_value(start)
            if isinstance(start, bool) or not isinstance(start, int) or start < 0 or (start and not going_on):
                raise ValueError(
                    f"start is the number of steps that a state has behind it, 0 or more, got {start!r}"
                    f"{'' if going_on else ' without a state'}"
                )
        if state is None:
            if x is None:
                raise ValueError("unroll needs an input x or a state to go on from")
            state = self._start(x)
        elif state.dim() != 3 or static_shape(state)[::2] != (self.num_columns, self.dim):
            raise ValueError(f"state must have shape [{self.num_columns}, B, {self.dim}], got {list(state.shape)}")
        elif x is None and self.inject != "first":
            raise ValueError(f"inject={self.inject!r} takes an input at every step, got x=None")
        history = None if history is None else in_dtype_of(self, history, "history")
        past = states_before(self.delayed, state, history, going_on)
        begin = (self.steps if start is None else start) if going_on else 0
        if steps is None:
            steps = x.size(0) if self.inject == "sequence" and x is not None else self.steps
        steps = plain_value(steps)
        check_sizes(steps=steps)
        drive = self._drive(x, steps, 0 if going_on else 1, begin)
        states, cost, kept = self._run(state, drive, steps, self.edge_cost, record, past)
        every = torch.stack(states) if "state" in record else None
        out = Unroll(states[-1], cost, every, **{name: torch.stack(each) for name, each in kept.items()})
        out.heard_rows = self.delayed.rows if self.delayed is not None and "heard" in record else None
        return out

    def _start(self, x: Tensor) -> Tensor:
        state = self._place(self._at(x, 0))
        return state if self.position_embedding is None else state + self.position_embedding.unsqueeze(1)

    def _drive(self, x: Tensor | None, steps: int, first: int = 1, begin: int = 0) -> Drive:
        """What steps ``begin, begin + 1, ...`` receive: inputs (from the ``first`` of them on) and time embeddings."""
        embedding: Tensor | None = self.time_embedding
        if embedding is not None:
            index = torch.arange(begin, begin + steps, device=embedding.device)
            embedding = embedding[index.clamp_(max=embedding.size(0) - 1)]
        if x is None or self.inject == "first":
            return Drive(embedding=embedding, start=first, leak=self.leak)
        rows = self._at(x, steps - 1)
        self._check_rows(rows)
        columns = self.inputs if static_shape(rows)[:1] == static_shape(self.inputs) else None
        return Drive(x if self.inject == "sequence" else x.unsqueeze(0), embedding, columns, first, self.leak)

    def _at(self, x: Tensor, t: int) -> Tensor:
        if self.inject != "sequence":
            return x
        if x.dim() != 4:
            raise ValueError(f"inject='sequence' takes x of shape [T, P, B, C], got {list(x.shape)}")
        if t >= static_shape(x)[0]:
            raise ValueError(f"the input sequence has {x.size(0)} steps, step {t} needs one more")
        return x[t]

    def _check_rows(self, x: Tensor) -> None:
        n, (p,) = self.num_columns, static_shape(self.inputs)
        shape = static_shape(x)
        if len(shape) != 3 or shape[2] != self.dim or (shape[0] != n and (shape[0] != p or not p)):
            wanted = f"[{p}, B, {self.dim}] at the input columns or " if p else ""
            raise ValueError(f"x must have shape {wanted}[{n}, B, {self.dim}] for all columns, got {list(x.shape)}")

    def _place(self, x: Tensor) -> Tensor:
        """``[P,B,C]`` or ``[N,B,C]`` to ``[N,B,C]``: other columns are zero."""
        self._check_rows(x)
        if static_shape(x)[:1] != static_shape(self.inputs):
            return x
        return x.new_zeros(self.num_columns, *x.shape[1:]).index_copy(0, self.inputs, x)

    def _run(
        self,
        state: Tensor,
        drive: Drive,
        steps: int,
        edge_cost: Tensor | None = None,
        record: Collection[str] = (),
        past: list[Tensor] | None = None,
    ) -> tuple[list[Tensor], Tensor, dict[str, list[Tensor]]]:
        """The states (the last one alone unless recorded), the mean wiring cost, and what else was recorded, by name.

        The cost is zero without ``edge_cost``.
        """
        keep, keep_hidden = "state" in record, "hidden" in record
        if keep_hidden and not isinstance(self.block.mlp, ColumnMlp):
            raise ValueError(f"record: 'hidden' needs the MLP of a ColumnBlock, got {type(self.block.mlp).__name__}")
        reason = (
            why_recorded_plain(record) or why_plain(self.block, state, drive) if past is None else "conduction delays"
        )
        self._announce(reason)
        if reason is None:
            segment = segment_length(self.recompute, steps)
            options: dict[str, Any] = {"edge_cost": edge_cost, "record": keep, "segment": segment}
            return *unroll_columns(self.block, state, self.layout, steps, drive=drive, **options), {}
        if self.recompute == "sqrt" and not record and past is None and can_checkpoint():
            return *run_in_segments(self.block, state, self.layout, steps, edge_cost, drive), {}
        states: list[Tensor] = []
        costs: list[Tensor] = []
        kept: dict[str, list[Tensor]] = {name: [] for name in RECORDS[1:] if name in record}
        # A compiler finds out for itself that every step adds the same numbers.
        with contextlib.nullcontext() if torch.compiler.is_compiling() else weights_held(self.block):
            block: Any = self.block
            said: Said | None = None if past is None else block.past(past)
            for t in range(steps):
                state = drive.added_to(state, t)
                past = None if past is None else [*past[1:], state]
                if "attention" in kept:
                    kept["attention"].append(self._attention(state, said))
                if "heard" in kept:
                    kept["heard"].append(self._heard(state, said))
                state, wire, units, said = self._step(state, edge_cost, keep_hidden, said)
                states = [*states, state] if keep else [state]
                if units is not None:
                    kept["hidden"].append(units)
                if wire is not None:
                    # The mean over an empty batch is no number, and would spoil a sum of losses: nothing costs nothing.
                    costs.append(wire.mean() if wire.numel() else wire.sum())
        if past is not None:
            kept["history"] = past
        return states, torch.stack(costs).mean() if costs else state.new_zeros(()), kept

    def _step(
        self, state: Tensor, edge_cost: Tensor | None, keep_hidden: bool, said: Said | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Said | None]:
        """The next state, wiring cost and hidden units where asked for, and with delays what has been said."""
        layout: Any = self.layout
        options: dict[str, Any] = {"keep_hidden": True} if keep_hidden else {}
        if said is not None:
            layout, options = self.delayed, {"keep_hidden": keep_hidden, "past": said}
        if self.recompute is not None and can_checkpoint():
            out = checkpoint(self.block, state, layout, edge_cost, use_reentrant=False, **options)
        else:
            out = self.block(state, layout, edge_cost, **options)
        if said is not None:
            return out
        return (*out, None) if keep_hidden else (out, None, None, None) if edge_cost is None else (*out, None, None)

    def _announce(self, reason: str | None) -> None:
        column_step = "fused" if reason is None else f"plain ({reason})"
        if column_step != self._column_step and not torch.compiler.is_compiling():
            self._column_step = column_step
            _log.info("column step: %s", column_step)

    def _attention(self, state: Tensor, said: Said | None) -> Tensor:
        attention, normed = self.block.attention, self.block.norm1(state)
        if said is not None:
            return attention.weights(normed, self.delayed, said)
        query, key, _ = attention.project(normed)
        return attention_weights(query, key, attention.edge_bias, self.layout)

    def _heard(self, state: Tensor, said: Said | None) -> Tensor:
        value = self.block.attention.project(self.block.norm1(state))[2]
        return value if said is None else torch.cat([value, said[1]])

    # ------------------------------------------------------------------ checkpoints and printing

    def to_plain(self) -> Columnformer:
        """A copy with plain untied parameters: the same function."""
        plain = copy.deepcopy(self)
        replace_by_plain(plain.block)
        plain.options = dataclasses.replace(self.options, parametrization="plain")
        return plain

    def to_untied(self) -> Columnformer:
        """A copy in which all that a column computes with is a plain parameter of its own: the same function.

        Tied parts are repeated in every column, shared parts and differences added up, value and output weights are the
        identity where there are none, and the edge bias is a parameter, zero where there is none. So two models of the
        same function, however they are written, have equal copies.
        """
        return written_untied(self.to_plain())

    def on_sheet(self, sheet: Sheet) -> Columnformer:
        """A model with the same parameters on another sheet, as if it had been built there.

        Raises:
            ValueError: if a parameter belongs to columns or edges (untied parts, position embedding, learned edge
                bias); the message names the first.
        """
        check_carries_over(self)
        with torch.random.fork_rng(devices=[]):
            other = type(self)(sheet, **self.options.arguments())
        take_parameters(other, self)
        return other

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        check_learned_on(self.sheet, state_dict, prefix, local_metadata)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        tied = ", ".join(part for part in PARTS if part not in self.untied) or "nothing"
        ran = f", column_step={self._column_step}" if self._column_step else ""
        ran = f"{', shared+difference' if self.parametrization != 'plain' else ''}{ran}"
        return (
            f"columns={self.sheet.num_columns}, edges={self.sheet.edge_index.size(1)}, dim={self.dim}, "
            f"steps={self.steps}, tied={tied}, inject={self.inject}, {self.block.attention.extra_repr()}{ran}"
        )


def _embedding(rows: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, dim), std=0.02))
