"""Opening files: whole contents as bytes, decompressed, with one-line errors that name the file."""

from __future__ import annotations

import gzip
import os
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from colgraph import extras
from colgraph.hints import in_one_line
from colgraph.text import decode_text

# Which package of which extra a reader needs.
optional = partial(extras.optional, "this needs the package")


@dataclass(frozen=True)
class Source:
    """A file that has been read.

    Attributes:
        path: where it is, as the user gave it.
        data: its contents, decompressed.
    """

    path: Path
    data: bytes

    @property
    def name(self) -> str:
        """The file name without ``.gz``: what geometries are called."""
        name = self.path.name
        return name[:-3] if name.lower().endswith(".gz") else name

    @property
    def suffix(self) -> str:
        """The last suffix without ``.gz`` and the dot, in lower case."""
        return Path(self.name).suffix.lower().removeprefix(".")

    @property
    def text(self) -> str:
        """The contents as text (:func:`colgraph.text.decode_text`)."""
        return decode_text(self.data)

    @contextmanager
    def on_disk(self) -> Iterator[str]:
        """A path to the decompressed contents, for libraries that read nothing but files."""
        if self.path.name == self.name:
            yield str(self.path)
            return
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / self.name
            plain.write_bytes(self.data)
            yield str(plain)


def open_source(path: str | os.PathLike[str]) -> Source:
    """Read a whole file, decompressing ``.gz``.

    Raises:
        ValueError: if it is missing, a directory, empty, unreadable, or not the gzip file its name says.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a directory: give the path of one file")
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is no complete gzip file: {one_line(error)}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {one_line(error)}") from error
    if not data.strip():
        raise ValueError(f"{str(path)!r} is empty")
    return Source(path, data)


@contextmanager
def parsing(what: str, own: bool = False) -> Iterator[None]:
    """Turn whatever a parser raises into a ValueError: libraries meet broken files with every kind of exception.

    Readers of our ``own`` say what is wrong, or which package is missing, and are left to say it.
    """
    try:
        yield
    except Exception as error:
        if own and isinstance(error, ValueError | ImportError):
            raise
        raise ValueError(
            f"not readable as {what} (broken, cut short, or of another kind): {one_line(error)}"
        ) from error


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Turn whatever a reader raises into a ValueError of one line that names the file; a missing package stays one."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"{str(source.path)!r}: {one_line(error)}") from error


def check_unique(values: Sequence[Any], what: str) -> None:
    """Raise ValueError for a node's name or number that is used more than once."""
    value, count = Counter(values).most_common(1)[0] if values else (None, 1)
    if count > 1:
        raise ValueError(f"{what} {value!r} is used {count} times: nodes must not be duplicated")


def refuse(what: str, **options: Any) -> None:
    """Raise ValueError for an option that is given (is not None) and means nothing for what is read."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"the option {name!r} means nothing for {what}")


def one_line(error: BaseException) -> str:
    """The message of an error on one line, with its type where it has no message of its own."""
    text = in_one_line(error)
    if not text:
        return type(error).__name__
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 200 else text[:197] + "..."


def warn(name: str, notes: list[str]) -> None:
    """One warning about what was changed while reading ``name``; none if ``notes`` is empty."""
    if notes:
        warnings.warn(f"{name}: {'; '.join(notes)}", UserWarning, stacklevel=2)
