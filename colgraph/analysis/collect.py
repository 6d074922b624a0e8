"""Responses of any network to images, in batches, to memory or to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis.arrays import check_choice, check_count
from colgraph.analysis.nets import bar, device_of, evaluation
from colgraph.extras import optional
from colgraph.output import replacing

__all__ = ["responses", "step_numbers"]

SUFFIXES = (".h5", ".hdf5", ".npy")


def responses(
    net: Any,
    images: Any,
    *,
    steps: int | str | Sequence[int] | None = None,
    columns: Any | None = None,
    signal: str | int | None = None,
    batch_size: int = 64,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float = 4.0,
    progress: bool = True,
) -> Any:
    """What the columns of a network answer to images.

    Args:
        net: has ``unroll(images, record=("state",))`` returning ``states`` ``[steps, columns, B, channels]`` and
            ``state`` ``[columns, B, channels]``, as :class:`colgraph.VisionColumnformer`; or any callable that returns
            ``[B, columns]`` or ``[B, columns, channels]``, such as a layer of another network.
        images: ``[stimuli, channels, height, width]`` as the network takes them (films with one axis more), or
            :class:`colgraph.analysis.Probes`.
        steps: None for the state after the last step; the number of a step (0 is the first, -1 the last); several; or
            "all".
        columns: indices or a mask; all if not given.
        signal: None keeps the channels; "norm", "mean" or the number of a channel keeps one number per column.
        batch_size: stimuli at a time.
        out: a file to write to, .h5 / .hdf5 (data set "responses") or .npy; written under another name until complete.
        memory_gb: without ``out``, refuse to build an array larger than this.
        progress: show a progress bar.

    Returns:
        float32 ``[stimuli, columns, channels]``, with an axis ``steps`` before the columns where several steps were
        asked for, and without channels where a signal was chosen: an array, or with ``out`` the open data set (h5py) or
        memory map, which is read as it is indexed.

    Raises:
        ValueError: for steps, columns or channels that do not exist, too large an array, or an existing file.
        ImportError: for HDF5 without h5py.
    """
    data = torch.as_tensor(getattr(images, "images", images))
    if data.dim() < 2 or not len(data):
        raise ValueError(f"images must have shape [stimuli, ...] with at least one, got {list(data.shape)}")
    check_count("batch_size", batch_size)
    measure = _measure(net, steps, columns, signal)
    batches = _batches(net, data, measure, batch_size, progress)
    first = next(batches)
    shape = (len(data), *first.shape[1:])
    if out is None:
        size = 4 * float(np.prod(shape)) / 1e9
        if size > memory_gb:
            raise ValueError(
                f"the responses {list(shape)} take {size:.1f} GB, more than memory_gb={memory_gb:g}: "
                "give out='responses.h5', or choose steps, columns or signal='norm'"
            )
        array = np.empty(shape, dtype=np.float32)
        _fill(array, first, batches)
        return array
    return _write(_checked(out), shape, first, batches)


def _measure(net: Any, steps: Any, columns: Any, signal: str | int | None) -> Callable[[Tensor], Tensor]:
    """A function from a batch of images to ``[B, (steps,) columns(, channels)]``."""
    several = steps is not None and not isinstance(steps, int | np.integer)
    if several and isinstance(steps, str):
        check_choice("steps", steps, ("all",))
    unrolls = hasattr(net, "unroll")
    if not unrolls and steps is not None:
        raise ValueError("steps needs a network with unroll(images, record=...)")

    def states(batch: Tensor) -> Tensor:
        """``[steps, columns, B, channels]``."""
        if not unrolls:
            return _features(net(batch)).unsqueeze(0)
        if steps is None:
            return net.unroll(batch).state.unsqueeze(0)  # type: ignore[no-any-return]
        every: Tensor = net.unroll(batch, record=("state",)).states
        return every if steps == "all" else every[step_numbers(steps, len(every))]

    def measure(batch: Tensor) -> Tensor:
        x = states(batch)
        if columns is not None:
            x = x[:, _column_index(columns, x.size(1))]
        x = _reduce(x, signal).transpose(1, 2).transpose(0, 1)
        return x if several else x[:, 0]

    return measure


def _features(x: Tensor) -> Tensor:
    """``[columns, B, channels]`` from what another network returns."""
    if x.dim() == 2:
        return x.t().unsqueeze(-1)
    if x.dim() == 3:
        return x.transpose(0, 1)
    raise ValueError(f"net must return [B, columns] or [B, columns, channels], got {list(x.shape)}")


def step_numbers(steps: Any, count: int) -> list[int]:
    """The steps that were asked for, of so many, or a ValueError."""
    numbers = [int(t) for t in np.atleast_1d(steps)]
    for t in numbers:
        if not -count <= t < count:
            raise ValueError(f"steps must lie in 0..{count - 1} (or count from the end), got {t}")
    return numbers


def _column_index(columns: Any, count: int) -> Tensor:
    index = torch.as_tensor(columns)
    if index.dtype == torch.bool:
        if index.shape != (count,):
            raise ValueError(f"columns as a mask must have {count} entries, got {list(index.shape)}")
        return torch.nonzero(index).flatten()
    if index.dim() != 1 or not index.numel() or index.is_floating_point():
        raise ValueError(f"columns must be a list of indices, got {index.dtype} of shape {list(index.shape)}")
    if int(index.min()) < 0 or int(index.max()) >= count:
        wrong = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise ValueError(f"columns must lie in 0..{count - 1}, got {wrong}")
    return index.long()


def _reduce(x: Tensor, signal: str | int | None) -> Tensor:
    if signal is None:
        return x
    if isinstance(signal, int) and not isinstance(signal, bool):
        if not 0 <= signal < x.size(-1):
            raise ValueError(f"channel must be 0 to {x.size(-1) - 1}, got {signal}")
        return x[..., signal]
    check_choice("signal", signal, ("norm", "mean"))
    return x.norm(dim=-1) if signal == "norm" else x.mean(-1)


def _batches(
    net: Any, data: Tensor, measure: Callable[[Tensor], Tensor], batch_size: int, progress: bool
) -> Iterator[NDArray[np.float32]]:
    device = device_of(net)
    with evaluation(net):
        for start in bar(range(0, len(data), batch_size), "responses", progress):
            # Entered per batch: a generator must not leave the mode switched while its consumer runs.
            with torch.no_grad():
                batch = measure(data[start : start + batch_size].to(device))
            yield batch.float().cpu().numpy()


def _fill(array: Any, first: NDArray[np.float32], rest: Iterator[NDArray[np.float32]]) -> None:
    place = 0
    for batch in chain([first], rest):
        array[place : place + len(batch)] = batch
        place += len(batch)


def _checked(out: str | os.PathLike[str]) -> Path:
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"responses are written to {', '.join(SUFFIXES)}, got {str(path)!r}")
    if path.exists():
        raise ValueError(f"{str(path)!r} exists: responses are never overwritten")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
    return path


def _write(path: Path, shape: tuple[int, ...], first: NDArray[np.float32], rest: Iterator[NDArray[np.float32]]) -> Any:
    plain = path.suffix.lower() == ".npy"
    h5py = None if plain else optional("HDF5 files need", "h5py", "analysis")
    with replacing(path) as partial:
        if h5py is None:
            array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
            _fill(array, first, rest)
            array.flush()
            del array
        else:
            with h5py.File(partial, "w") as file:
                chunk = (min(len(first), shape[0]), *shape[1:])
                _fill(file.create_dataset("responses", shape, np.float32, chunks=_chunks(chunk)), first, rest)
    if h5py is None:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return h5py.File(path, "r")["responses"]


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Pieces of about a megabyte that keep whole columns together."""
    stimuli = max(1, min(shape[0], int(250_000 // max(1, int(np.prod(shape[1:]))))))
    if stimuli > 1 or np.prod(shape[1:]) <= 2_500_000:
        return (stimuli, *shape[1:])
    return (1, *(1 for _ in shape[1:-2]), *shape[-2:])
