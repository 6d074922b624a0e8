"""The page of command lines, from the parsers that read them."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
from typing import NoReturn
from unittest import mock

from colgraph import cli

HEAD = """\
Command lines
=============

Each command prints this with ``--help``. A wrong flag, file or value ends with exit code 2 and one line that names it.

"""


class _Found(BaseException):
    """Stops a command whose parser has been seen."""


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command's words go to, caught as it is about to print its help."""
    seen: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, file: object = None) -> NoReturn:
        seen.append(parser)
        raise _Found

    with mock.patch.object(argparse.ArgumentParser, "print_help", catch), contextlib.suppress(_Found):
        cli.run([command, "--help"])
    return seen[0]


def page() -> str:
    """The page, in reStructuredText."""
    return HEAD + "\n".join(_section(command, parser_of(command)) for command in cli.COMMANDS)


def _section(command: str, parser: argparse.ArgumentParser) -> str:
    title = f"colgraph {command}"
    lines = [f".. _{command}-command:", "", title, "-" * len(title), "", *_paragraphs(parser.description or ""), ""]
    lines += [".. code-block:: text", "", *(f"   {line}" for line in parser.format_usage().split("\n")), ""]
    lines += [f".. program:: {title}", ""]
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            lines += [f".. option:: {_call(action)}", "", f"   {_plain(_help(action, parser))}", ""]
    return "\n".join([*lines, _plain(parser.epilog or ""), ""])


def _call(action: argparse.Action) -> str:
    """How an option is written, with the name of its value."""
    takes = action.nargs != 0
    names = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    name = action.metavar if isinstance(action.metavar, str) else names
    if not action.option_strings:
        return name
    several = {"*": f" [{name} ...]", "+": f" {name} [{name} ...]", "?": f" [{name}]"}
    value = several.get(str(action.nargs), f" {name}") if takes else ""
    return ", ".join(f"{flag}{value}" for flag in action.option_strings)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    values = {**vars(action), "prog": parser.prog}
    return (action.help or "") % values


def _paragraphs(text: str) -> list[str]:
    """A description, whose indented lines are commands to copy."""
    lines = []
    for indented, group in itertools.groupby(text.strip().splitlines(), lambda line: line.startswith("    ")):
        block = "\n".join(group).strip("\n")
        lines += ["::", "", block, ""] if indented else [*map(_plain, block.split("\n\n")), ""]
    return lines


def _plain(text: str) -> str:
    """Text as reStructuredText that shows as it is; what stands in backticks is code."""
    parts = re.split(r"`([^`\n]+)`", text)
    parts[::2] = [re.sub(r"([\\*_|`])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [rf"\ ``{part}``\ " for part in parts[1::2]]
    return re.sub(r"\n(?=\S)", " ", "".join(parts)).strip()
