"""How rows of tensors are laid out in a checkpoint: one piece for each rank that wrote, at its offset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)


@dataclass(frozen=True)
class Rows:
    """The rows of one kind, columns or edges, that a rank holds: the sheet's numbers, and where they are stored."""

    ids: Tensor
    start: int
    total: int


@dataclass
class Contents:
    """What one rank stores or reads: named tensors, and of which kind the rows of some of them are."""

    rows: dict[str, Rows]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, tensor: Tensor, kind: str | None = None) -> None:
        """Add a tensor; ``kind`` is the kind of its rows, None where every rank has all of it."""
        self.tensors[name] = tensor.detach()
        if kind is not None:
            self.kinds[name] = kind


class RowsSavePlanner(DefaultSavePlanner):
    """Tensors with rows are written as one chunk each, at this rank's offset in partition order."""

    def __init__(self, contents: Contents) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._contents = contents

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([self._item(name, tensor) for name, tensor in self.state_dict.items()])
        return self.plan

    def _item(self, name: str, tensor: Tensor) -> WriteItem:
        kind = self._contents.kinds.get(name)
        offsets, size = torch.Size([0] * tensor.dim()), tensor.size()
        if kind is not None:
            rows = self._contents.rows[kind]
            offsets = torch.Size([rows.start, *offsets[1:]])
            size = torch.Size([rows.total, *size[1:]])
        chunk = ChunkStorageMetadata(offsets=offsets, sizes=tensor.size())
        data = TensorWriteData(chunk=chunk, properties=TensorProperties(dtype=tensor.dtype), size=size)
        return WriteItem(index=MetadataIndex(name, offsets), type=WriteItemType.SHARD, tensor_data=data)

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        tensor: Tensor = self.state_dict[index.fqn]
        return tensor


class RowsLoadPlanner(DefaultLoadPlanner):
    """Reads, of every stored piece, the run that holds rows wanted here, and picks those out.

    Args:
        contents: the tensors to fill.
        places: for each kind, where the own rows are stored.
    """

    def __init__(self, contents: Contents, places: Mapping[str, Tensor]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._contents, self._places = contents, places
        self._runs: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def create_local_plan(self) -> LoadPlan:
        if self.metadata is None:
            raise ValueError("the checkpoint has no index")
        items = []
        for name, tensor in self.state_dict.items():
            stored = self.metadata.state_dict_metadata[name]
            if not isinstance(stored, TensorStorageMetadata):
                raise ValueError(f"{name} is no tensor in the checkpoint")
            for number, chunk in enumerate(stored.chunks):
                items += self._items(name, tensor, MetadataIndex(name, chunk.offsets, number), chunk)
        return LoadPlan(items)

    def _items(self, name: str, tensor: Tensor, piece: MetadataIndex, chunk: ChunkStorageMetadata) -> list[ReadItem]:
        """At most one item: what of this chunk belongs here."""
        kind = self._contents.kinds.get(name)
        zero = torch.Size([0] * tensor.dim())
        if kind is None:
            return [ReadItem(LoadItemType.TENSOR, MetadataIndex(name), chunk.offsets, piece, zero, chunk.sizes)]
        first, count = chunk.offsets[0], chunk.sizes[0]
        places = self._places[kind]
        here = torch.nonzero((places >= first) & (places < first + count)).flatten()
        if here.numel() == 0:
            return []
        low, high = int(places[here].min()), int(places[here].max()) + 1
        self._runs[name, low] = (here, places[here] - low)
        start = torch.Size([low, *zero[1:]])
        offset = torch.Size([low - first, *zero[1:]])
        lengths = torch.Size([high - low, *tensor.shape[1:]])
        return [ReadItem(LoadItemType.TENSOR, MetadataIndex(name, start), zero, piece, offset, lengths)]

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        tensor: Tensor = self.state_dict[read_item.dest_index.fqn]
        if read_item.dest_index.fqn in self._contents.kinds:
            return tensor.new_empty(read_item.lengths)
        return self.transform_tensor(read_item, tensor)

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        name, start = read_item.dest_index.fqn, read_item.dest_index.offset
        if name in self._contents.kinds and start is not None:
            rows, among = self._runs[name, start[0]]
            target = self.state_dict[name]
            target[rows.to(target.device)] = tensor[among.to(tensor.device)]
