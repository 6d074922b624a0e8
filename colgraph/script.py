"""What command lines share: strict parsing, geometry options as flags, and errors of one line with an exit code."""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from colgraph.extras import missing_module
from colgraph.hints import in_one_line, nearest

_AMERICAN = {"analyse": "analyze", "colour": "color", "neighbour": "neighbor"}
_WORDS = {"true": True, "false": False, "none": None, "null": None}


_AFTER_YOU = 10.0  # seconds, in which whoever started a process ends it once the first one has failed


def spelled_as(name: str, known: Iterable[str]) -> str:
    """The known name that differs from this one only in being British or American; the name itself if none does."""
    return next((other for other in known if _american(other) == _american(name)), name)


def _american(name: str) -> str:
    for british, american in _AMERICAN.items():
        name = name.replace(british, american)
    return name


def from_here(path: Path) -> str:
    """A path below the working directory without what leads there, so that a command can be repeated elsewhere."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def flag_of(setting: str) -> str:
    """The flag of a setting: ``--least-steps``."""
    return "--" + setting.replace("_", "-")


class ScriptError(RuntimeError):
    """An error that ends a script with an exit code of its own."""

    exit_code = 1


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser without abbreviations, whose errors are ``ValueError``s of one line.

    Flags may be spelled as in Britain or America.

    Args:
        others: names of options that are not the parser's own, however much they resemble its flags.
        **kwargs: of argparse's.
    """

    def __init__(self, *, others: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs | {"allow_abbrev": False})
        self._others = set(others)
        self._least: dict[str, tuple[str, int]] = {}

    def add_number(self, flag: str, metavar: str, text: str, *, least: int, default: int | None = None) -> None:
        """Declare a flag that takes a whole number, and what is the least that it may be."""
        action = self.add_argument(flag, type=int, metavar=metavar, help=text, default=default)
        self._least[action.dest] = flag, least

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, with every flag in the spelling that it was declared in."""
        words = sys.argv[1:] if args is None else args
        known, extra = super().parse_known_args([self._spelled(word) for word in words], namespace)
        for name, (flag, least) in self._least.items():
            value = getattr(known, name)
            if value is not None and value < least:
                raise ValueError(f"{flag} must be at least {least}, got {value}")
        return known, extra

    def _spelled(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or _name(flag) in self._others:
            return word
        return spelled_as(flag, self._option_string_actions) + equals + value

    def parse_with_options(self, args: Any = None) -> tuple[argparse.Namespace, dict[str, Any]]:
        """What the parser knows, and the rest as options of a geometry; see :func:`parse_options`."""
        known, extra = self.parse_known_args(args)
        return known, parse_options(extra, self._option_string_actions, self._others)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but an unknown flag is answered by the one it resembles."""
        known, extra = self.parse_known_args(args, namespace)
        if not extra:
            return known
        near = nearest(extra[0].partition("=")[0], self._option_string_actions)
        what = f"unknown flag {extra[0]}" if extra[0].startswith("-") else f"unexpected {extra[0]!r}"
        raise ValueError(f"{what}; did you mean {near}?" if near else f"{what} (see {self.prog} --help)")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ValueError(in_one_line(message))


def parse_options(extra: Sequence[str], known: Iterable[str] = (), exact: Iterable[str] = ()) -> dict[str, Any]:
    """Left-over ``--name value`` pairs as options of a geometry: ``--widths 8,8,8`` is ``{"widths": [8, 8, 8]}``.

    A name without a value is true. Values are numbers, texts, true, false, none, or lists of them, with or without
    brackets.

    Args:
        extra: what a parser did not know.
        known: the parser's own flags, with their dashes; a word that resembles one is taken for a mistake.
        exact: option names that are none, however much they resemble a flag.

    Raises:
        ValueError: for a word that is not a flag, or that resembles a known flag.
    """
    options: dict[str, Any] = {}
    words, flags, fine = list(extra), list(known), set(exact)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise ValueError(f"unexpected {word!r}: every value follows the --flag that it belongs to")
        flag, equals, value = word.partition("=")
        name = _name(flag)
        near = nearest(flag.replace("_", "-"), flags, cutoff=0.8)
        if near and name not in fine:
            raise ValueError(f"unknown flag {flag}; did you mean {near}?")
        if not equals and words and not words[0].startswith("--"):
            value, equals = words.pop(0), "="
        options[name] = _value(value) if equals else True
    return options


def _name(flag: str) -> str:
    return flag[2:].replace("-", "_")


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
        return list(value) if isinstance(value, tuple) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parts = [part.strip() for part in text.split(",")]
        return [_value(part) for part in parts] if len(parts) > 1 and all(parts) else text


def run_script(main: Callable[[], Any]) -> None:
    """Run a script's ``main``; known errors become one line on stderr and an exit code, without a traceback.

    Exit codes: 0 done; 2 a bad flag, file or value, a full disk, or a missing package; 130 interrupted; those of
    :class:`ScriptError`. Warnings become one line each. Of several processes of one run, only the first prints.
    """
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.showwarning = _show_warning
        if is_helper_process():
            stack.enter_context(contextlib.redirect_stdout(None))
        try:
            main()
        except ScriptError as error:
            _leave(error, error.exit_code)
        except ImportError as error:
            _leave(missing_module(error), 2)
        except ValueError as error:
            _leave(error, 2)
        except BrokenPipeError:
            # The reader of our output (a pager, head) has left; there is nobody to tell.
            sys.stderr.close()
            raise SystemExit(1) from None
        except OSError as error:
            _leave(f"{str(error.filename)!r}: {error.strerror}" if error.filename else error, 2)
        except KeyboardInterrupt:
            _leave("interrupted", 130)


@contextlib.contextmanager
def on_stop_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM go to a handler, in the main thread; others may set none, and the caller's stay there."""
    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for each, usual in before.items():
            signal.signal(each, usual)


def is_helper_process() -> bool:
    """Whether this is not the first process of a run over several devices, each of which runs the whole script."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in ("RANK", "LOCAL_RANK"))


def _show_warning(message: Any, *where: Any, **more: Any) -> None:
    sys.stderr.write(f"warning: {in_one_line(message)}\n")


def _leave(error: object, code: int) -> None:
    if is_helper_process():
        # What is wrong is mostly wrong everywhere: let the first process say so, and be ended by whoever started us.
        time.sleep(_AFTER_YOU)
    sys.stderr.write(f"error: {in_one_line(error)}\n")
    raise SystemExit(code)
