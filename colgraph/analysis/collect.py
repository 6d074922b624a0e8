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
from colgraph.analysis.nets import bar, device_of
from colgraph.analysis.signals import Signal, check_signal, signals_of
from colgraph.extras import optional
from colgraph.modes import evaluation
from colgraph.output import replacing

SUFFIXES = (".h5", ".hdf5", ".npy")


def responses(
    net: Any,
    images: Any,
    *,
    steps: int | str | Sequence[int] | None = None,
    columns: Any | None = None,
    signal: Signal = "normed",
    batch_size: int = 64,
    out: str | os.PathLike[str] | None = None,
    memory_gb: float = 4.0,
    progress: bool = True,
) -> Any:
    """What the columns of a network answer to images.

    Args:
        net: has ``unroll(images, record=("state",))`` returning ``states`` ``[steps, columns, B, channels]`` and
            ``state`` ``[columns, B, channels]``, ``normed(state)`` and ``evidence(state)``, as
            :class:`colgraph.VisionColumnformer`; or any callable that returns ``[B, columns]`` or
            ``[B, columns, channels]``, such as a layer of another network. Where there is no ``normed``, the network's
            own vectors are taken for what is read.
        images: ``[stimuli, channels, height, width]`` as the network takes them (films with one axis more), or
            :class:`colgraph.analysis.Probes`.
        steps: None for the state after the last step; the number of a step (0 is the first, -1 the last); several; or
            "all".
        columns: indices or a mask; all if not given.
        signal: what of a column is taken.

            * "normed": the readout's LayerNorm of its state, ``channels`` numbers. Nothing else of a state is read.
            * "evidence": the head on its normed state, bias included: one number for each class, what the column adds
              to that class's logit. The mean over output columns is the logits (with ``readout="spatial"`` the sum
              weighted by the pooling).
            * "hidden": the hidden units of its MLP after the nonlinearity, at the step asked for.
            * "state": the raw vector.
            * "norm": the length of the raw vector. After the last step nothing reads it: logits do not change where
              it does.
            * "mean" over channels of the normed state, or the number of one of them.
        batch_size: stimuli at a time.
        out: a file to write to, .h5 / .hdf5 (data set "responses") or .npy; written under another name until complete.
        memory_gb: without ``out``, refuse to build an array larger than this.
        progress: show a progress bar.

    Returns:
        float32 ``[stimuli, columns, channels]``, with an axis ``steps`` before the columns where several steps were
        asked for, and without channels where the signal is one number per column: an array, or with ``out`` the open
        data set (h5py) or memory map, which is read as it is indexed.

    Raises:
        ValueError: for steps, columns, channels or signals that do not exist (a callable has no "evidence" and no
            "hidden"), too large an array, or an existing file.
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


def _measure(net: Any, steps: Any, columns: Any, signal: Signal) -> Callable[[Tensor], Tensor]:
    """A function from a batch of images to ``[B, (steps,) columns(, channels)]``."""
    several = steps is not None and not isinstance(steps, int | np.integer)
    if several and isinstance(steps, str):
        check_choice("steps", steps, ("all",))
    if steps is not None and not hasattr(net, "unroll"):
        raise ValueError("steps needs a network with unroll(images, record=...)")
    check_signal(net, signal)

    def measure(batch: Tensor) -> Tensor:
        x = signals_of(net, batch, signal, steps, columns).transpose(1, 2).transpose(0, 1)
        return x if several else x[:, 0]

    return measure


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
