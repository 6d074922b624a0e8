"""The images that were shown: from a folder, an array, or a MATLAB struct, joined to recordings by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.array_files import load_numpy, load_tree
from colgraph.brain.names import NUMBER, STIMULI, first_twice, plain_number
from colgraph.brain.responses import Recordings
from colgraph.brain.stimulus_keys import Key, is_called_after_names, names_in, preferred
from colgraph.data import as_bytes, decode_image, find_images, image_to_tensor
from colgraph.data.decode import image_suffixes
from colgraph.extras import optional
from colgraph.hints import reason_of
from colgraph.text import count_rows, natural_key, plain_name

ENDS = (".npy", ".npz", ".mat", ".h5", ".hdf5")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, eq=False)
class Shown:
    """Stimuli.

    Attributes:
        where: the folder or file.
        pictures: files, or arrays ``[height, width]`` or ``[height, width, channels]`` of bytes.
        names: of each, with its ending where it is a file; None where there are none.
        notes: what a user should know about how they were found.
        also: other names of each, numbers mostly.
        unread: the variable beside images that may name them, and could not be taken for it; "" where there is none.
    """

    where: str
    pictures: Sequence[Path | NDArray[np.uint8]]
    names: list[str] | None
    notes: list[str] = field(default_factory=list)
    also: Sequence[list[str]] = ()
    unread: str = ""

    def decoded(self, size: int, channels: int, order: Sequence[int] | None = None) -> Tensor:
        """``[stimuli, channels, size, size]`` between 0 and 1, each as networks take it (its center, resized).

        Args:
            size: side in pixels.
            channels: 1 or 3.
            order: which stimuli; all in their order if not given.

        Raises:
            ValueError: for an image that cannot be read, naming it.
        """
        chosen = range(len(self.pictures)) if order is None else order
        return torch.stack([_decoded(self.pictures[i], size, channels) for i in chosen]).float() / 255

    def places(self, named: list[str] | None, count: int, where: str) -> tuple[list[int], list[str]]:
        """The place of each recorded stimulus among these, and what to say of it.

        They are joined by name, with or without its ending, where the recordings name them; else taken in order, which
        is the natural one for files: ``stim_2`` before ``stim_10``.

        Args:
            named: the names that recordings give their stimuli.
            count: how many stimuli they have.
            where: their file.

        Raises:
            ValueError: if they do not match, naming the first.
        """
        if named is not None:
            return self._by_name(named, where)
        if len(self.pictures) != count:
            held = f"{where!r} has {count} stimuli, but {self.where!r} holds {len(self.pictures)} images"
            raise ValueError("; ".join([held, *self.notes]))
        if self.names is None or count < 2:
            return list(range(count)), [
                f"{where!r} names no stimuli: they are the images of {self.where!r} in its order"
            ]
        some = ", ".join(self.names[:2]) + f", ..., {self.names[-1]}"
        order = "natural order" if isinstance(self.pictures[0], Path) else "their order"
        return list(range(count)), [f"{where!r} names no stimuli: its rows are the images in {order} ({some})"]

    def _by_name(self, named: list[str], where: str) -> tuple[list[int], list[str]]:
        """By the first list of names that holds these; where none does, by the numbers in names."""
        if self.names is None:
            return self._by_number(named, where)
        found, errors = [], []
        for are_numbered in (False, True):
            for names in (self.names, *self.also):
                try:
                    found.append(self._among(names, named, where, are_numbered))
                except ValueError as error:
                    errors.append(error)
            if found:
                break
        if not found:
            raise errors[1 + len(self.also)]  # what the first list, by its numbers, too, lacks
        if any(places != found[0][0] for places, _ in found):
            raise ValueError(
                f"{self.where!r} names its images twice, and the names of {where!r} are in both lists, in different "
                "orders: leave one out"
            )
        return found[0]

    def _among(self, names: list[str], named: list[str], where: str, are_numbered: bool) -> tuple[list[int], list[str]]:
        known: dict[str, int | None] = {}
        for i, name in enumerate(names):
            # Two images that differ in their ending only are told apart by it.
            known[_stem(name)] = None if _stem(name) in known else i
        known |= {name: i for i, name in enumerate(names)}
        notes = []
        if not set(named) <= set(known) and are_numbered and (numbered := _numbered(names, named)):
            known |= numbered
            some = next(names[numbered[name]] for name in named if name in numbered)
            notes.append(f"stimuli of {where!r} are joined to images by their number ({some} and so on)")
        chosen: list[int] = []
        for name in named:
            place = known.get(re.split(r"[/\\]", name)[-1])
            if place is None:
                raise ValueError(f"{where!r} names the stimulus {name!r}, but {self.where!r} has no such image, or two")
            chosen.append(place)
        extra = [names[i] for i in sorted(set(range(len(names))) - set(chosen))]
        if extra:
            raise ValueError(
                f"{self.where!r} holds {extra[0]!r}, which {where!r} does not name ({len(extra)} such images)"
            )
        twice = first_twice([names[i] for i in chosen])
        if twice is not None:
            raise ValueError(f"{where!r} names the image {twice!r} twice")
        return chosen, notes

    def _by_number(self, named: list[str], where: str) -> tuple[list[int], list[str]]:
        """Images without names can be told by their numbers alone, where nothing beside them may say others."""
        if self.unread:
            raise ValueError(
                f"{where!r} names its stimuli ({named[0]!r}, ...), and {self.unread} of {self.where!r} may name the "
                "images: call it 'stimuli' and give it one text or whole number for each image, or leave it out"
            )
        count, numbers = len(self.pictures), [plain_number(name) for name in named]
        for start in (0, 1):
            if sorted(numbers) == sorted(str(i + start) for i in range(count)):
                note = f"stimuli of {where!r} are the images of {self.where!r} by their number, counted from {start}"
                return [int(number) - start for number in numbers], [note]
        raise ValueError(
            f"{where!r} names its {len(named)} stimuli ({named[0]!r}, ...), but the {count} images of {self.where!r} "
            "have no names to join them by: give a folder of images, or an .npz with 'images' and names in 'stimuli'"
        )


def find_stimuli(path: Path) -> Shown:
    """The stimuli of a folder of images, or of a file.

    ``.npy`` has images ``[n, height, width(, channels)]`` or ``[n, channels, height, width]`` (or, where it can only be
    that, ``[height, width, channels, n]``), uint8, uint16, bool, or
    floats from 0 to 1 (or whole numbers to 255); ``.npz`` and HDF5 perhaps names beside them (``stimuli``). In a
    ``.mat`` file images are the field of an array of structs, a cell array, or one array, the number of the image as
    its first axis or its last.

    Raises:
        ValueError: if there are no images, or they cannot be told from other arrays or have no agreed range.
        ImportError: for HDF5 without h5py.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise ValueError(f"--stimuli {str(path)!r} is no folder and no file")
    if path.suffix.lower() not in ENDS:
        raise ValueError(f"cannot read stimuli {str(path)!r}: give a folder of images, or a file in {', '.join(ENDS)}")
    if path.suffix.lower() in (".npy", ".npz"):
        images, beside = _named_images(load_numpy(path, "images", "stimuli "), path)
        return _shown(path, _pictures(images, str(path)), beside)
    return _in_tree(load_tree(path), path)


def read_stimuli(path: Path, recorded: Recordings, size: int, channels: int) -> tuple[Tensor, list[str]]:
    """``[stimuli, channels, size, size]`` between 0 and 1, in the order of the responses, and what to say of it.

    Raises:
        ValueError: as :func:`find_stimuli` and :meth:`Shown.places` do, and for images that cannot be read.
    """
    shown = find_stimuli(path)
    order, notes = shown.places(recorded.stimuli, recorded.values.shape[-2], recorded.where)
    return shown.decoded(size, channels, order), [*shown.notes, *notes]


# ---------------------------------------------------------------------- folders


def _in_folder(folder: Path) -> Shown:
    found = find_images(folder)
    files = sorted((path for path in found.images if path.parent == folder), key=lambda path: natural_key(path.name))
    below = len(found.images) - len(files)
    notes = found.notes(folder)
    if below:
        notes.append(f"{below} images in subfolders of {str(folder)!r} are passed over")
    if not files:
        raise ValueError("; ".join([f"--stimuli {str(folder)!r} holds no images", *notes]))
    return Shown(str(folder), files, [path.name for path in files], notes)


def _stem(name: str) -> str:
    """A name without the ending of an image."""
    return PurePath(name).stem if PurePath(name).suffix.lower() in image_suffixes() else name


def _numbered(names: list[str], asked: list[str]) -> dict[str, int]:
    """The image of each name that is a number, where images differ in one number only (``18`` and ``stim_018.png``)."""
    stems = [_stem(name) for name in names]
    alike = {re.sub(r"\d+", "#", stem) for stem in stems}
    images = {int(found[0]): i for i, stem in enumerate(stems) if (found := re.search(r"\d+", stem))}
    if len(alike) > 1 or alike.pop().count("#") != 1 or len(images) < len(names):
        return {}
    numbers = {name: int(match[1]) for name in asked if (match := NUMBER.fullmatch(name))}
    return {name: images[number] for name, number in numbers.items() if number in images}


def _decoded(picture: Path | NDArray[np.uint8], size: int, channels: int) -> Tensor:
    if not isinstance(picture, Path):
        image = optional("reading images needs", "PIL.Image", "brain").fromarray(picture)
        return image_to_tensor(image, size, channels)
    try:
        return decode_image(str(picture), size, channels)
    except ValueError as error:
        raise ValueError(f"cannot read image {str(picture)!r}: {error}") from error


# ---------------------------------------------------------------------- arrays


def _shown(
    path: Path, pictures: list[NDArray[np.uint8]], beside: Mapping[str, Any], notes: Sequence[str] = ()
) -> Shown:
    """Images with the names beside them."""
    keys, unread = _keys_beside(beside, len(pictures))
    names = [key.names for key in keys]
    return Shown(str(path), pictures, names[0] if names else None, list(notes), names[1:], unread)


def _named_images(arrays: dict[str, Any], path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """The one array of images, and what lies beside it."""
    likely = [name for name, value in arrays.items() if isinstance(value, np.ndarray) and value.ndim in (3, 4)]
    called = [name for name in likely if STIMULI.fullmatch(plain_name(name))]
    chosen = likely if len(likely) == 1 else called
    if len(chosen) != 1:
        held = ", ".join(f"{name} {list(np.shape(value))}" for name, value in arrays.items()) or "nothing"
        raise ValueError(f"{str(path)!r} must hold one array of images, [n, height, width, channels], it has {held}")
    return arrays[chosen[0]], {name: value for name, value in arrays.items() if name != chosen[0]}


def _keys_beside(arrays: Mapping[str, Any], count: int) -> tuple[list[Key], str]:
    """What names ``count`` images, by preference; and a list beside them that may and is not called so, or ""."""
    named, unread = [], ""
    for name, value in arrays.items():
        found = names_in(value)
        is_stimuli = STIMULI.fullmatch(plain_name(name)) is not None
        fits = found is not None and len(found[0]) == count
        is_distinct = found is not None and first_twice(found[0]) is None
        if fits and is_called_after_names(name) and (is_stimuli or is_distinct):
            named.append(Key(name, *(found or ([], False)), is_called=is_stimuli))
        elif is_called_after_names(name) and value is None:
            unread = unread or name
        elif found is None:
            # Numbers that are not whole, say, where there is one for each image.
            is_list = isinstance(value, np.ndarray | list) and np.ndim(value) == 1 and len(value) == count
            unread = unread or (name if is_stimuli and is_list else "")
        elif (fits and is_distinct and not count_rows(found[0])) or (is_stimuli and not fits and len(found[0]) > 2):
            unread = unread or name
    return preferred(sorted(named, key=lambda key: not key.is_called)), unread


def _pictures(values: NDArray[Any], where: str, last: bool = False) -> list[NDArray[np.uint8]]:
    """Images one by one; with ``last``, their number may as well be the last axis, as MATLAB's users put it."""
    shapes: list[tuple[int, ...]] = []
    if values.ndim == 4:
        shapes += [(0, 1, 2, 3)] * (values.shape[3] in _CHANNELS) + [(0, 2, 3, 1)] * (values.shape[1] in _CHANNELS)
        shapes += [(3, 0, 1, 2)] * ((last or not shapes) and values.shape[2] in _CHANNELS)
    else:
        shapes += [(0, 1, 2)] if not last or values.shape[1] == values.shape[2] else []
        shapes += [(2, 0, 1)] if last and values.shape[0] == values.shape[1] else []
    if len(shapes) != 1:
        raise ValueError(
            f"images of {where!r} have shape {list(values.shape)}: it must be [n, height, width], "
            "[n, height, width, channels] or [n, channels, height, width], 1, 3 or 4 channels, and only one of them"
        )
    return list(_as_bytes(values.transpose(shapes[0]), where))


def _as_bytes(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Pixels as bytes ``[..., height, width(, channels)]``; floats are from 0 to 1, or whole numbers to 255."""
    if values.dtype.kind == "f":
        low, high = float(np.min(values)), float(np.max(values))
        # MATLAB's numbers are doubles, those of pixels too.
        is_bytes = low >= 0 and 1 < high <= 255 and bool((values == np.floor(values)).all())
        values = values / 255 if is_bytes else values
        if not is_bytes and not (low >= 0 and high <= 1):
            raise ValueError(
                f"images of {where!r} are floats from {low:g} to {high:g}: give floats from 0 to 1, or whole "
                "numbers to 255"
            )
        values = np.rint(values * 255).astype(np.uint8)
    try:
        found: NDArray[np.uint8] = as_bytes(np.ascontiguousarray(values)).numpy()
    except (TypeError, ValueError) as error:
        raise ValueError(f"images of {where!r}: {reason_of(error)}") from error
    return found[..., 0] if found.shape[-1] == 1 else found


# ---------------------------------------------------------------------- structs


def _in_tree(tree: dict[str, Any], path: Path) -> Shown:
    lists = {name: node for name, node in _lists(tree, "") if _image_field(node) is not None}
    if not lists:
        images, beside = _named_images(_around_images(tree), path)
        return _shown(path, _pictures(images, str(path), last=path.suffix.lower() == ".mat"), beside)
    if len(lists) > 1:
        raise ValueError(f"{str(path)!r} holds several lists of images: {', '.join(lists)}: leave one")
    (label, nodes), where = next(iter(lists.items())), str(path)
    key = _image_field(nodes)
    if not key:
        around = tree
        for name in label.split(".")[:-1]:
            around = around[name]
        beside = {name: node for name, node in around.items() if node is not nodes}
        return _shown(path, [_as_bytes(node, where) for node in nodes], beside, [f"images are {label!r} of {where!r}"])
    beside = {name: [node.get(name) for node in nodes] for name in nodes[0] if name != key}
    return _shown(
        path, [_as_bytes(node[key], where) for node in nodes], beside, [f"images are '{label}.{key}' of {where!r}"]
    )


def _around_images(tree: dict[str, Any]) -> dict[str, Any]:
    """The variables, or the fields of the only struct where no variable can be images."""
    plain = {name: node for name, node in tree.items() if isinstance(node, np.ndarray | list)}
    structs = [node for node in tree.values() if isinstance(node, dict)]
    has_images = any(isinstance(node, np.ndarray) and node.ndim in (3, 4) for node in plain.values())
    return plain if has_images or len(structs) != 1 else _around_images(structs[0])


def _lists(node: Any, label: str) -> list[tuple[str, list[Any]]]:
    if isinstance(node, dict):
        return [found for name, part in node.items() for found in _lists(part, f"{label}.{name}" if label else name)]
    return [(label, node)] if isinstance(node, list) and len(node) > 1 else []


def _image_field(nodes: list[Any]) -> str | None:
    """The field that holds an image in each of many structs; "" where they are images themselves."""
    if all(_is_image(node) for node in nodes):
        return ""
    if not all(isinstance(node, dict) for node in nodes):
        return None
    fields = [name for name in nodes[0] if all(_is_image(node.get(name)) for node in nodes)]
    called = [name for name in fields if STIMULI.fullmatch(plain_name(name))]
    return next(iter(called or fields), None)


def _is_image(node: Any) -> bool:
    """Whether an array may be a picture: of bytes, or of three channels. Matrices of other numbers are not."""
    if not isinstance(node, np.ndarray) or node.ndim not in (2, 3) or min(node.shape[:2]) < 2:
        return False
    return node.dtype == np.uint8 if node.ndim == 2 else node.shape[2] in _CHANNELS
