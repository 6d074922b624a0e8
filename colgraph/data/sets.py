"""Labelled images as map-style data sets that give a whole batch at a time, as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from colgraph.data.decode import UnreadableImageError, check_header, decode_image

__all__ = ["Batch", "EncodedImages", "ImageSet", "LazyImages", "MemoryImages", "hold_out"]

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Images ``[B,C,S,S]`` uint8 and labels ``[B]`` int64."""

_Result = TypeVar("_Result")
_CHUNK = 512


class ImageSet(Dataset[Batch]):
    """Labelled square images: ``set[i]`` is one, ``set.batch(indices)`` several at once.

    Attributes:
        labels: ``[n]`` int64, the class of each image.
    """

    labels: Tensor

    def __len__(self) -> int:
        return self.labels.numel()

    def batch(self, indices: Sequence[int]) -> Batch:
        """Images ``[B,C,S,S]`` uint8 and labels ``[B]`` of the given indices."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.batch([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        # torch's DataLoader asks for a batch in one call where this method exists.
        return self.batch(indices)


class MemoryImages(ImageSet):
    """Images held as one tensor ``[n,C,S,S]`` uint8."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def batch(self, indices: Sequence[int]) -> Batch:
        """See :meth:`ImageSet.batch`."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[chosen], self.labels[chosen]

    def subset(self, indices: np.ndarray) -> MemoryImages:
        """A copy of some of the images."""
        return MemoryImages(*self.batch(indices.tolist()))


@dataclass(frozen=True)
class EncodedImages:
    """Where encoded images are read from, before anybody has decoded one.

    Attributes:
        table: a ``datasets.Dataset`` with an undecoded image column.
        column: the name of that column.
        rows: ``[n]`` the row of each image.
        labels: ``[n]`` int64, the class of each image.
        where: what errors call the table.
    """

    table: Any
    column: str
    rows: np.ndarray
    labels: np.ndarray
    where: str

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> EncodedImages:
        """Some of the images, in the given order."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def read(self, indices: Sequence[int]) -> list[bytes | str]:
        """The encoded bytes, or the path, of each image."""
        return [_payload(cell) for cell in self.table[self.rows[list(indices)]][self.column]]

    def each(self, indices: Sequence[int], work: Callable[[bytes | str], _Result], mapper: Any = map) -> list[_Result]:
        """``work`` done on each image, by ``map`` or a pool's map.

        Raises:
            ValueError: names the first image that cannot be read, and why.
        """
        results: Iterator[_Result] = iter(mapper(work, self.read(indices)))
        done: list[_Result] = []
        try:
            done.extend(results)
        except UnreadableImageError as error:
            raise ValueError(f"cannot read image {self._name(indices[len(done)])}: {error}") from error
        return done

    def check_headers(self, threads: int) -> None:
        """Open every image's header.

        Raises:
            ValueError: names the first that is no image.
        """
        with ThreadPoolExecutor(threads) as pool:
            for indices in self._chunks():
                self.each(indices, check_header, pool.map)

    def decode_all(self, size: int, channels: int, threads: int) -> MemoryImages:
        """Decode every image into memory.

        Raises:
            ValueError: names the first that cannot be read.
        """
        from tqdm import tqdm

        images = torch.empty(len(self), channels, size, size, dtype=torch.uint8)
        bar = tqdm(total=len(self), desc="reading images", unit=" images", delay=3, leave=False)
        # Pillow decodes and resizes outside the interpreter's lock, so threads share the work.
        with ThreadPoolExecutor(threads) as pool, bar:
            for indices in self._chunks():
                decoded = self.each(indices, lambda source: decode_image(source, size, channels), pool.map)
                images[indices.start : indices.stop] = torch.stack(decoded)
                bar.update(len(indices))
        return MemoryImages(images, torch.from_numpy(self.labels))

    def _chunks(self) -> Iterator[range]:
        for start in range(0, len(self), _CHUNK):
            yield range(start, min(start + _CHUNK, len(self)))

    def _name(self, index: int) -> str:
        """What an error calls an image: its path where it has one, else its row."""
        row = int(self.rows[index])
        path = (self.table[row][self.column] or {}).get("path")
        return repr(path) if path else f"{row} of {self.where}"


def _payload(cell: dict[str, Any] | None) -> bytes | str:
    if not cell:
        return b""
    data = cell.get("bytes")
    return data if data is not None else str(cell.get("path") or "")


class LazyImages(ImageSet):
    """Images decoded when asked for: for sets that do not fit in memory, read by DataLoader workers."""

    def __init__(self, encoded: EncodedImages, size: int, channels: int) -> None:
        self.encoded = encoded
        self.size, self.channels = size, channels
        self.labels = torch.from_numpy(encoded.labels)

    def batch(self, indices: Sequence[int]) -> Batch:
        """See :meth:`ImageSet.batch`."""
        images = self.encoded.each(indices, lambda source: decode_image(source, self.size, self.channels))
        return torch.stack(images), self.labels[torch.as_tensor(indices, dtype=torch.int64)]


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices into kept and held out, each class in proportion.

    ``ceil(fraction * n)`` indices are held out; the classes whose shares lose most by rounding down get one more each.
    A class keeps at least one image.

    Args:
        labels: ``[n]`` class of each image.
        fraction: share to hold out.
        seed: of the choice within each class.

    Returns:
        kept and held-out indices, both ascending.
    """
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * fraction
    take = np.floor(share).astype(np.int64)
    missing = int(np.ceil(len(labels) * fraction)) - int(take.sum())
    take[np.argsort(take - share, kind="stable")[: max(missing, 0)]] += 1
    take = np.minimum(take, counts - 1)
    rng = np.random.default_rng(seed)
    held = [rng.permutation(np.flatnonzero(labels == c))[:k] for c, k in zip(classes, take)]
    out = np.sort(np.concatenate(held)) if held else np.zeros(0, dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), out), out
