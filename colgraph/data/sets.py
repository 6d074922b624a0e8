"""Labeled images as map-style data sets that give a whole batch at a time, as bytes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from colgraph.data.decode import UnreadableImageError, as_bytes, check_header, decode_image

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Images ``[B,C,S,S]`` uint8 and their labels, as of :class:`ImageSet`."""

_Result = TypeVar("_Result")
_CHUNK = 512
_PATCHES, _VECTORS = 3, 4  # dimensions of labels per patch: classes, and vectors

IGNORED = -100
"""The class of a patch that no loss and no accuracy counts."""


class ImageSet(Dataset[Batch]):
    """Labeled square images: ``set[i]`` is one, ``set.batch(indices)`` several at once.

    Attributes:
        labels: ``[n]`` int64, the class of each image; or ``[n, rows, cols]`` int64, the class of each patch, -100
            where it is ignored; or ``[n, rows, cols, K]`` float, a vector for each patch, nan where it is ignored.
            Those of output columns, in their order, have one axis in place of rows and cols.
        difficulty: ``[n]`` or ``[n, rows, cols]`` float, by which results can be split, nan where there is none; or
            None.
    """

    labels: Tensor
    difficulty: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Images ``[B,C,S,S]`` uint8 and labels ``[B, ...]`` of the given indices."""
        raise NotImplementedError

    def readable(self, indices: Sequence[int]) -> list[int]:
        """The indices without those of images that have been left out of a batch."""
        return list(indices)

    def keys(self, indices: Sequence[int]) -> np.ndarray:
        """A key for each image, which names it in whatever order, split or file it comes; see :func:`content_keys`."""
        return content_keys(image.numpy().tobytes() for image in self.batch(indices)[0])

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.batch([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        # torch's DataLoader asks for a batch in one call where this method exists.
        return self.batch(indices)


class MemoryImages(ImageSet):
    """Images held as one tensor ``[n,C,S,S]`` uint8.

    Args:
        images: ``[n,C,S,S]``, an array or a tensor; uint16 and bool are scaled to uint8 by their type.
        labels: as of :class:`ImageSet`.
        origin: what names the images: where they were decoded from, or a key for each; by default their pixels.
        difficulty: as of :class:`ImageSet`.

    Raises:
        ValueError: for pixels of another type or shape, and for labels that do not fit.
    """

    def __init__(
        self, images: Any, labels: Any, origin: EncodedImages | np.ndarray | None = None, difficulty: Any = None
    ) -> None:
        self.origin = origin
        self.images = as_bytes(images)
        self.labels = _as_labels(labels)
        self.difficulty = _as_difficulty(difficulty, self.labels)
        if self.images.dim() != 4 or len(self.images) != len(self.labels):
            raise ValueError(
                f"images must have shape [n, channels, size, size] with a label each, got {list(self.images.shape)} "
                f"and {len(self.labels)} labels"
            )

    def batch(self, indices: Sequence[int]) -> Batch:
        """See :meth:`ImageSet.batch`."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[chosen], self.labels[chosen]

    def keys(self, indices: Sequence[int]) -> np.ndarray:
        """See :meth:`ImageSet.keys`."""
        if self.origin is None:
            return super().keys(indices)
        return self.origin[list(indices)] if isinstance(self.origin, np.ndarray) else self.origin.keys(indices)

    def subset(self, indices: np.ndarray) -> MemoryImages:
        """A copy of some of the images."""
        origin = self.origin.subset(indices) if isinstance(self.origin, EncodedImages) else self.origin
        origin = origin[indices] if isinstance(origin, np.ndarray) else origin
        difficulty = None if self.difficulty is None else self.difficulty[torch.as_tensor(indices, dtype=torch.int64)]
        return MemoryImages(*self.batch(indices.tolist()), origin, difficulty)


def content_keys(contents: Iterable[bytes | str]) -> np.ndarray:
    """``[n]`` texts of 32 hexadecimal digits: the SHA-256 of each image's bytes, or of those of the file it names.

    Of encoded images, the encoded bytes: images of one content are of one key at any size, and so are duplicates.
    """
    whole = (Path(each).read_bytes() if isinstance(each, str) else each for each in contents)
    return np.array([hashlib.sha256(each).hexdigest()[:32] for each in whole], dtype="<U32")


def _as_labels(labels: Any) -> Tensor:
    tensor = torch.as_tensor(labels)
    if tensor.dim() in (_VECTORS - 1, _VECTORS) and tensor.is_floating_point():
        return tensor
    is_whole = not tensor.is_floating_point() and tensor.dtype != torch.bool
    allowed = tensor >= 0 if tensor.dim() == 1 else (tensor >= 0) | (tensor == IGNORED)
    if tensor.dim() not in (1, _PATCHES - 1, _PATCHES) or not is_whole or not bool(allowed.all()):
        raise ValueError(
            f"labels must be whole numbers from 0, [n], or [n, rows, cols] or [n, columns] ({IGNORED} is ignored), or "
            f"vectors with one axis more, got {tensor.dtype} of shape {list(tensor.shape)}"
        )
    return tensor.to(torch.int64)


def _as_difficulty(difficulty: Any, labels: Tensor) -> Tensor | None:
    if difficulty is None:
        return None
    tensor = torch.as_tensor(difficulty)
    if not tensor.is_floating_point() or list(tensor.shape) not in (list(labels.shape[:1]), list(labels.shape[:3])):
        raise ValueError(
            f"difficulty must be floating-point numbers, one a label or one an image, got {tensor.dtype} of shape "
            f"{list(tensor.shape)} for labels {list(labels.shape)}"
        )
    return tensor


class SkippedImages:
    """Images that could not be read, over all splits of a data set and all processes that read it.

    Args:
        limit: how many may be skipped; one more is an error.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        # In shared memory: worker processes count, and the main one reports.
        self._count = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._sets: list[tuple[EncodedImages, Tensor]] = []

    def watch(self, images: EncodedImages) -> Tensor:
        """Flags ``[n]``, zero for every image of a set; set where one has been skipped."""
        flags = torch.zeros(len(images), dtype=torch.uint8).share_memory_()
        self._sets.append((images, flags))
        return flags

    def skip(self, images: EncodedImages, flags: Tensor, index: int, reason: Exception) -> None:
        """Count an image, and say so once.

        Raises:
            ValueError: if that is one too many.
        """
        if flags[index]:
            return
        flags[index] = 1
        self._count += 1
        name = images.name(index)
        if int(self._count) > self.limit:
            before = f" ({self.limit} unreadable images were skipped before; --max-corrupt allows no more)"
            raise ValueError(f"cannot read image {name}: {reason}{before if self.limit else ''}")
        sys.stderr.write(f"note: skipped image {name}: {reason}\n")

    def names(self) -> list[str]:
        """The skipped images, by path where they have one, else by row."""
        return [images.name(int(i)) for images, flags in self._sets for i in torch.nonzero(flags).flatten()]


@dataclass(frozen=True)
class EncodedImages:
    """Where encoded images are read from, before anybody has decoded one.

    Attributes:
        table: a ``datasets.Dataset`` with an undecoded column "image".
        rows: ``[n]`` the row of each image.
        labels: as of :class:`ImageSet`.
        where: what errors call the table.
        difficulty: as of :class:`ImageSet`.
    """

    table: Any
    rows: np.ndarray
    labels: np.ndarray
    where: str
    difficulty: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> EncodedImages:
        """Some of the images, in the given order."""
        difficulty = None if self.difficulty is None else self.difficulty[indices]
        return replace(self, rows=self.rows[indices], labels=self.labels[indices], difficulty=difficulty)

    def read(self, indices: Sequence[int]) -> list[bytes | str]:
        """The encoded bytes, or the path, of each image."""
        return [_payload(cell) for cell in self.table[self.rows[list(indices)]]["image"]]

    def keys(self, indices: Sequence[int]) -> np.ndarray:
        """See :func:`content_keys`."""
        chunks = (indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK))
        return content_keys(each for chunk in chunks for each in self.read(chunk))

    def each(
        self,
        indices: Sequence[int],
        work: Callable[[bytes | str], _Result],
        skipped: SkippedImages,
        flags: Tensor,
        mapper: Any = map,
    ) -> Iterator[tuple[int, _Result]]:
        """``work`` done on each image that can be read, by ``map`` or a pool's map, with the number of the image."""

        def attempt(source: bytes | str) -> _Result | UnreadableImageError:
            try:
                return work(source)
            except UnreadableImageError as error:
                return error

        for index, found in zip(indices, mapper(attempt, self.read(indices)), strict=True):
            if isinstance(found, UnreadableImageError):
                skipped.skip(self, flags, int(index), found)
            else:
                yield int(index), found

    def with_headers(self, threads: int, skipped: SkippedImages) -> EncodedImages:
        """The images whose header can be read.

        Raises:
            ValueError: names the first that is one too many to skip.
        """
        flags = skipped.watch(self)
        for _ in self._readable(check_header, threads, skipped, flags):
            pass
        return self.subset(np.flatnonzero(flags.numpy() == 0)) if flags.any() else self

    def decode_all(self, size: int, channels: int, threads: int, skipped: SkippedImages) -> MemoryImages:
        """Decode every image that can be read into memory.

        Raises:
            ValueError: names the first that is one too many to skip.
        """
        from tqdm import tqdm

        flags = skipped.watch(self)
        # Filled through numpy: a torch copy per image would wake torch's threads, which then spin beside the decoders.
        images = np.empty((len(self), channels, size, size), dtype=np.uint8)
        often = 0.1 if sys.stderr.isatty() else 10.0  # seconds: a log keeps every line
        bar = tqdm(total=len(self), desc="reading images", unit=" images", delay=3, leave=False, mininterval=often)
        with bar:
            work = partial(decode_image, size=size, channels=channels)
            for index, image in self._readable(work, threads, skipped, flags):
                images[index] = image.numpy()
                bar.update(index + 1 - bar.n)
        whole = MemoryImages(torch.from_numpy(images), torch.from_numpy(self.labels), self, self.difficulty)
        return whole.subset(np.flatnonzero(flags.numpy() == 0)) if flags.any() else whole

    def _readable(
        self, work: Callable[[bytes | str], _Result], threads: int, skipped: SkippedImages, flags: Tensor
    ) -> Iterator[tuple[int, _Result]]:
        """``work`` done on every image, with the number of the image; those that are unreadable are skipped."""
        # Pillow decodes and resizes outside the interpreter's lock, so threads share the work.
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(self), _CHUNK):
                yield from self.each(range(start, min(start + _CHUNK, len(self))), work, skipped, flags, pool.map)

    def name(self, index: int) -> str:
        """What an error calls an image: its path where it has one, else its row."""
        row = int(self.rows[index])
        path = (self.table[row]["image"] or {}).get("path")
        return repr(path) if path else f"{row} of {self.where}"


def _payload(cell: dict[str, Any] | None) -> bytes | str:
    if not cell:
        return b""
    data = cell.get("bytes")
    return data if data is not None else str(cell.get("path") or "")


class LazyImages(ImageSet):
    """Images decoded when asked for: for sets that do not fit in memory, read by DataLoader workers.

    An image that cannot be read is left out of its batch, the same batch in every epoch and every run; the order of all
    others stays.
    """

    def __init__(self, encoded: EncodedImages, size: int, channels: int, skipped: SkippedImages | None = None) -> None:
        self.encoded = encoded
        self.size, self.channels = size, channels
        self.labels = torch.from_numpy(encoded.labels)
        self.difficulty = None if encoded.difficulty is None else torch.from_numpy(encoded.difficulty)
        self.skipped = skipped or SkippedImages()
        self._flags = self.skipped.watch(encoded)

    def readable(self, indices: Sequence[int]) -> list[int]:
        """See :meth:`ImageSet.readable`."""
        return [index for index in indices if not self._flags[index]]

    def keys(self, indices: Sequence[int]) -> np.ndarray:
        """See :meth:`ImageSet.keys`."""
        return self.encoded.keys(indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        """See :meth:`ImageSet.batch`; unreadable images are left out."""
        work = partial(decode_image, size=self.size, channels=self.channels)
        found = list(self.encoded.each(indices, work, self.skipped, self._flags))
        if not found:
            raise ValueError(f"none of the {len(indices)} images of a batch of {self.encoded.where} can be read")
        kept, images = zip(*found, strict=True)
        return torch.stack(images), self.labels[torch.as_tensor(kept, dtype=torch.int64)]


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices into kept and held out, each class in proportion.

    ``ceil(fraction * n)`` indices are held out; the classes whose shares lose most by rounding down get one more each.
    A class keeps at least one image. Images with a label per patch are of no class: they are all drawn alike.

    Args:
        labels: of the images, as of :class:`ImageSet`.
        fraction: share to hold out.
        seed: of the choice within each class.

    Returns:
        kept and held-out indices, both ascending.
    """
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), dtype=np.int64)
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
