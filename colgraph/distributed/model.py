"""One part of a columnformer: the columns of one rank, which exchange halos with the other ranks at every step."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.func import functional_call

from colgraph.distributed.collectives import TokenChain, enter, gather_rows, sum_over, synchronise, tie
from colgraph.distributed.gradients import clip_gradients
from colgraph.distributed.halo import HaloAttention
from colgraph.distributed.launch import check_agreement, mesh_device, mesh_group, sheet_group
from colgraph.distributed.local import local_sheet
from colgraph.distributed.partition import Partition, halo_bytes, partition_sheet
from colgraph.distributed.rows import draw_embedding, draw_linear, row_kinds, shared_parameters, take_rows
from colgraph.models import Columnformer, Unroll
from colgraph.models.buffers import initial_edge_bias, wiring_costs
from colgraph.models.conduction import conduction_delays
from colgraph.nn import ColumnLinear
from colgraph.nn.block import attention_arguments
from colgraph.nn.drive import Drive
from colgraph.sheet import Sheet
from colgraph.torch_internals import is_transformed

_T = TypeVar("_T")


class SheetParallel(Columnformer):
    """A :class:`colgraph.Columnformer` of which every rank of a group holds the columns of one part.

    The parameters, their gradients and the optimizer's state of a column live on its rank only and are never
    communicated. At every step the keys and values of columns across a cut travel, forward and, as gradients, back.

    Calls are collective: all ranks of a sheet group call the model, and ``backward``, in the same order and with the
    same input. Outputs are this rank's: a state is ``[n,B,C]`` of the own columns, in partition order;
    :meth:`gather` puts the whole together. The wiring cost is that of the whole sheet. A loss may be computed from
    local states, and then the sum of all ranks' losses is differentiated, or from what is equal on all ranks (the
    wiring cost, gathered states, logits), and then each rank computes the one loss.

    Parameter names are those of the plain model; untied ones have n rows in place of N and the edge biases one per
    edge that ends here. Started from the same random seed, all ranks together hold the parameters the plain model
    would have.

    Args:
        sheet: the whole sheet, the same on every rank.
        mesh: from :func:`colgraph.distributed.make_mesh` or :func:`~colgraph.distributed.session`.
        partition: as many parts as the sheet group has ranks; :func:`~colgraph.distributed.partition_sheet` by default.
        **options: as for :class:`colgraph.Columnformer`.

    Attributes:
        sheet: the whole sheet.
        num_columns: number n of own columns.
        partition: the partition.
        local: this rank's part, a :class:`~colgraph.distributed.LocalSheet`; ``local.columns`` are the sheet's numbers
            of the own columns.
        group: the ranks that share the sheet.

    Raises:
        ValueError: the same on all ranks, if they bring different sheets, options or partitions; for more ranks than
            columns, and a partition of another number of parts.
    """

    input_ranks: Tensor

    def __init__(self, sheet: Sheet, mesh: DeviceMesh, partition: Partition | None = None, **options: Any) -> None:
        if conduction_delays(sheet, options.get("speed")) is not None:
            raise ValueError(
                f"speed={options['speed']:g}: columns of another process are heard without conduction delays only: "
                "keep the sheet whole, or give a higher speed"
            )
        group, device = sheet_group(mesh), mesh_device(mesh)
        everybody = mesh_group(mesh)
        facts = {"sheet": sheet.fingerprint, "geometry": sheet.geometry_fingerprint, "configuration": digest(options)}
        check_agreement(everybody, device, facts)
        partition = partition_sheet(sheet, group.size()) if partition is None else partition
        if partition.num_parts != group.size():
            raise ValueError(f"the partition has {partition.num_parts} parts, but {group.size()} ranks share the sheet")
        check_agreement(everybody, device, {"partition": partition.digest})
        local = local_sheet(sheet, partition, group.rank())

        before = torch.get_rng_state()
        super().__init__(_bare_sheet(local.num_columns), **options)
        self._sheet, self.partition, self.local, self.group = copy.copy(sheet).to("cpu"), partition, local, group
        self._whole = sheet.num_columns, sheet.inputs.numel()
        self._take_part(device)
        torch.set_rng_state(before)
        self._draw()
        synchronise(self, mesh, shared_parameters(self))

    def _take_part(self, device: torch.device) -> None:
        """Replace what the plain constructor has made for a sheet without edges."""
        options, bias = self.options, None
        if options.edge_bias is not None:
            whole = initial_edge_bias(self.sheet, options.num_heads, options.locality_sigma)
            bias = whole[self.local.edges]
        arguments = attention_arguments(options, self.num_columns)
        self.block.attention = HaloAttention(self.local, self.group, device, edge_bias=bias, **arguments)
        number = torch.full((self.sheet.num_columns,), -1, dtype=torch.int64)
        number[self.local.columns] = torch.arange(self.local.num_columns)
        inputs = number[self.sheet.inputs]
        self.inputs = inputs[inputs >= 0]
        self.register_buffer("input_ranks", torch.nonzero(inputs >= 0).flatten(), persistent=False)
        self.edge_cost = wiring_costs(self.sheet, self.wiring_power)[self.local.edges]
        self.sheet_fingerprint = _bytes(self.sheet.fingerprint)
        self.geometry_fingerprint = _bytes(self.sheet.geometry_fingerprint)
        self.layout = self.block.attention.whole

    def restore_buffers(self, device: torch.device) -> None:
        """Not to be had.

        Raises:
            ValueError: always.
        """
        raise ValueError("a part of a sheet cannot be emptied (to_empty): build it, and load the parameters")

    @torch.no_grad()
    def _draw(self) -> None:
        """Draw the rows that the plain model would draw for these columns, in its order."""
        n, columns = self.sheet.num_columns, self.local.columns
        for part in self.block.modules():
            if isinstance(part, ColumnLinear):
                draw_linear(part, n, columns)
        if self.position_embedding is not None:
            draw_embedding(self.position_embedding, n, columns)
        if self.time_embedding is not None:
            draw_embedding(self.time_embedding, self.steps, torch.arange(self.steps))

    @classmethod
    def from_model(cls, model: Columnformer, mesh: DeviceMesh, partition: Partition | None = None) -> SheetParallel:
        """This rank's part of a whole model: its rows of the parameters, and everything shared.

        Every rank brings the whole model, and rank 0's shared parameters count. The model is left as it is.
        """
        part = cls(model.sheet, mesh, partition, **model.options.arguments())
        part.take_state(model.state_dict())
        part.to(model.edge_cost.device)
        part.edge_cost = model.edge_cost[part.local.edges.to(model.edge_cost.device)]
        for mine, theirs in zip(part.parameters(), model.parameters(), strict=True):
            mine.requires_grad_(theirs.requires_grad)
        synchronise(part, mesh, shared_parameters(part))
        return part.train(model.training)

    def take_state(self, state: Mapping[str, Tensor]) -> None:
        """Take this rank's rows out of the state dict of a whole model, with its dtype and device."""
        rows = take_rows(state, row_kinds(self), self.local)
        self.load_state_dict({name: value.clone() for name, value in rows.items()}, assign=True)

    # ------------------------------------------------------------------ running

    def forward(self, x: Tensor) -> Tensor:
        """The state of the own columns after ``steps`` steps, ``[n,B,C]``.

        Args:
            x: the whole input, as for the plain model, equal on all ranks of the group.
        """
        return self._call(self._forward, x)

    def unroll(self, x: Tensor | None, **options: Any) -> Unroll:
        """As for the plain model: states and hidden units of own columns, attention ``[T,e,B,H]`` of own edges.

        The wiring cost is the whole sheet's, equal on all ranks.
        """
        out = self._call(self._unroll, x, **options)
        share = self.num_columns / self._whole[0]
        out.wiring_cost = sum_over(out.wiring_cost * share, self.group)
        return out

    def gather(self, rows: Tensor, dim: int = 0) -> Tensor:
        """The whole of something that every rank has for its own columns, in the sheet's order, on every rank.

        Args:
            rows: n long in dimension ``dim``; a state, for instance, or recorded states with ``dim=1``.
            dim: the dimension of columns.
        """
        whole = gather_rows(rows.movedim(dim, 0), self.partition.columns.tolist(), self.group)
        back = torch.argsort(self.partition.order).to(rows.device)
        return whole.index_select(0, back).movedim(0, dim)

    def gather_edges(self, rows: Tensor, dim: int = 0) -> Tensor:
        """The same for something that every rank has for the edges that end in its own columns, in local edge order."""
        counts = self.partition.edges.tolist()
        numbers = gather_rows(self.local.edges.to(rows.device), counts, self.group)
        whole = gather_rows(rows.movedim(dim, 0), counts, self.group)
        return torch.empty_like(whole).index_copy(0, numbers, whole).movedim(0, dim)

    def clip_gradients(self, max_norm: float, module: nn.Module | None = None) -> Tensor:
        """``torch.nn.utils.clip_grad_norm_`` for the whole model; returns the norm of all its gradients.

        Args:
            max_norm: the largest norm allowed.
            module: the model around this one, if its parameters count too.
        """
        return clip_gradients(self if module is None else module, max_norm, self.group)

    def whole_state_dict(self, module: nn.Module | None = None) -> dict[str, Tensor]:
        """The state dict that the plain model would have, on every rank: it has to fit there.

        Args:
            module: the model around this one, if its state dict is wanted.
        """
        module = self if module is None else module
        state: dict[str, Tensor] = module.state_dict()
        for name, kind in row_kinds(module).items():
            state[name] = self.gather(state[name]) if kind == "columns" else self.gather_edges(state[name])
        return state

    def halo_bytes_per_step(self, batch: int, dtype: str = "float32") -> list[int]:
        """Bytes that each rank of the group receives in the forward exchange of one step."""
        sizes = {"dim": self.dim, "qk_dim": self.options.qk_dim, "heads": self.options.num_heads}
        each = halo_bytes(1, batch=batch, dtype=dtype, **sizes)
        return [int(halo) * each for halo in self.partition.halo]

    def _call(self, function: Callable[..., _T], x: Tensor | None, **options: Any) -> _T:
        """Run with input and shared parameters entered; a model around this one may have done so already."""
        if self._chain.token is not None:
            return function(x, **options)
        return call_entered(self, self, function, x, **options)

    def _forward(self, x: Tensor) -> Tensor:
        return super().forward(self._rows_here(x))

    def _unroll(self, x: Tensor | None, **options: Any) -> Unroll:
        return super().unroll(None if x is None else self._rows_here(x), **options)

    def _rows_here(self, x: Tensor) -> Tensor:
        """This rank's rows of an input of the whole sheet."""
        axis, (n, p) = x.dim() - 3, self._whole
        if axis < 0 or x.size(axis) not in ({n, p} if p else {n}) or x.size(-1) != self.dim:
            wanted = f"[{p}, B, {self.dim}] at the input columns or " if p else ""
            raise ValueError(f"x must have shape {wanted}[{n}, B, {self.dim}] for all columns, got {list(x.shape)}")
        if x.size(axis) == p:
            return x.index_select(axis, self.input_ranks)
        columns = self.local.columns.to(x.device)
        # Where all own columns are inputs, n rows are taken for those of the input columns, in order of rank.
        if self.inputs.numel() == columns.numel():
            columns = columns[self.inputs]
        return x.index_select(axis, columns)

    def _check_rows(self, x: Tensor) -> None:
        """Nothing to find: an input is checked before it is cut, and a part may have no input column."""

    def _run(
        self, state: Tensor, drive: Drive, *arguments: Any, **options: Any
    ) -> tuple[list[Tensor], Tensor, dict[str, list[Tensor]]]:
        (state,) = tie(self._chain.take(state), state)
        return super()._run(state, drive, *arguments, **options)

    def _step(self, *arguments: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        state, *more, _ = super()._step(*arguments)
        state, *tied = tie(self._chain.take(state), state, *(x for x in more if x is not None))
        cost, hidden = (None if x is None else tied.pop(0) for x in more)
        return state, cost, hidden, None

    @property
    def _chain(self) -> TokenChain:
        chain: TokenChain = self.block.attention.chain
        return chain

    def _attention(self, state: Tensor, said: Any = None) -> Tensor:
        attention: HaloAttention = self.block.attention
        return attention.weights(self.block.norm1(state))

    def extra_repr(self) -> str:
        part = (
            f"part={self.local.part} of {self.partition.num_parts}, own={self.num_columns}, halo={self.local.num_halo}"
        )
        return f"{part}, {super().extra_repr()}"


class _Called(nn.Module):
    """A module whose forward pass is any function, for ``functional_call``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[..., _T], x: Tensor | None, options: dict[str, Any]) -> _T:
        return function(x, **options)


def call_entered(
    module: nn.Module, core: SheetParallel, function: Callable[..., _T], x: Tensor | None, **options: Any
) -> _T:
    """``function(x, **options)``, with ``x`` and the shared parameters of ``module`` entered.

    See :func:`colgraph.distributed.collectives.enter`: in the backward pass their gradients are summed over the ranks
    that share the sheet.

    Args:
        module: the outermost model; its shared parameters are replaced while the function runs.
        core: the sheet-parallel model in it.
        function: a method of ``module``.
        x: its input.
        **options: its other arguments.
    """
    if is_transformed():
        raise ValueError(
            "torch.func transforms and forward-mode differentiation take the whole model, not a part of it"
        )
    shared = shared_parameters(module)
    chain = core._chain
    token = core.edge_cost.new_zeros(())
    inputs = [] if x is None else [x]
    token, entered = enter(core.group, token, [*inputs, *shared.values()])
    x = None if x is None else entered.pop(0)
    replaced = {f"module.{name}": tensor for name, tensor in zip(shared, entered)}
    chain.token = token
    try:
        result: _T = functional_call(_called(module), replaced, (function, x, options))
    finally:
        chain.token = None
    return result


def _called(module: nn.Module) -> _Called:
    """Made once for each module, and hidden from it: a submodule that contains its parent would never end."""
    if "_called" not in module.__dict__:
        module.__dict__["_called"] = _Called(module)
    called: _Called = module.__dict__["_called"]
    return called


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of names and values, in hexadecimal."""
    return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()


def _bare_sheet(num_columns: int) -> Sheet:
    """Columns without edges: enough for the plain constructor to check options and to size parameters."""
    return Sheet.from_edges(torch.empty(2, 0, dtype=torch.int64), num_columns, spacing=1.0)


def _bytes(fingerprint: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(fingerprint)), dtype=torch.uint8)
