"""Files that commands write: looked at before the work begins, and written whole or not at all."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any


def check_file(flag: str, given: str | os.PathLike[str], suffixes: Collection[str] = ()) -> Path:
    """The path of a file that is going to be written.

    Args:
        flag: what named it, for errors.
        given: the path.
        suffixes: what it may end in, such as ``[".md"]``; anything if none are given.

    Raises:
        ValueError: if it ends in something else, is a folder, or lies where nothing can be written.
    """
    path = Path(given)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{flag} {str(path)!r}: give it a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"{flag} {str(path)!r} is a folder: name a file")
    if not path.parent.exists():
        raise ValueError(f"{flag} {str(path)!r}: there is no folder {str(path.parent)!r}")
    _check_writable(flag, path, path.parent)
    return path


def check_folder(flag: str, given: str | os.PathLike[str]) -> Path:
    """The path of a folder that is going to be written to, and made where it is not there.

    Raises:
        ValueError: if it is a file, or lies where nothing can be written.
    """
    path = Path(given)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{flag} {str(path)!r} is a file: name a folder")
    _check_writable(flag, path, next(p for p in (path, *path.absolute().parents) if p.exists()))
    return path


def check_new_folder(flag: str, given: str | os.PathLike[str]) -> Path:
    """The path of a folder that is going to be made; an empty one may be there.

    Raises:
        ValueError: as :func:`check_folder`, and if there is something in the folder, or no folder to make it in.
    """
    path = check_folder(flag, given)
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{flag} {str(path)!r} is not empty: name a new folder")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{flag} {str(path)!r}: there is no folder {str(path.parent)!r}")
    return path


def check_different(outputs: Mapping[str, str | None]) -> None:
    """Raise ValueError if two flags, each with the file it names (or None), name the same one."""
    seen: dict[Path, str] = {}
    for flag, given in outputs.items():
        if given and seen.setdefault(Path(given).resolve(), flag) != flag:
            raise ValueError(f"{seen[Path(given).resolve()]} and {flag} name the same file, {given!r}")


def _check_writable(flag: str, path: Path, folder: Path) -> None:
    """Whether a file can be made in a folder is known only once one has been made: permissions are not all there is."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".trying"):
            pass
    except OSError as error:
        raise ValueError(f"{flag} {str(path)!r}: cannot write in {str(folder)!r} ({error.strerror})") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside the one given, to write to; it takes its place if the block ends, and is removed if not.

    Raises:
        OSError: naming ``path``, where it cannot be written (a full disk).
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # A temporary file is private; what is kept is as readable as any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


@contextlib.contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """A folder beside the one given, to write to; it becomes that one if the block ends, and is removed if not.

    Raises:
        OSError: naming ``path``, where it cannot be written, or something has come to lie there.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}"))
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o777 & ~mask)
        os.rename(temporary, path)  # an empty folder gives way, one with files does not
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        OSError: naming ``path``, where it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def finite(value: Any) -> Any:
    """Plain values with None in place of numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
