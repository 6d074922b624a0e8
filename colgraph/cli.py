"""The ``colgraph`` command: list geometries, describe a sheet, draw it."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any

from colgraph.geometry import option_names
from colgraph.script import OneLineParser, parse_options, run_script

__all__ = ["main", "run"]

COMMANDS = ("list", "describe", "view")
_SHEET_FLAGS = ("neighbors", "metric", "mask", "axis", "num_inputs", "num_outputs")


def main() -> None:
    """The entry point of the ``colgraph`` command."""
    run_script(lambda: run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> None:
    """Run one command line.

    Raises:
        ValueError: for anything that is not one of the commands with its flags.
    """
    _check_command(arguments)
    known, extra = _parser().parse_known_args(list(arguments))
    if known.command == "list":
        if extra:
            raise ValueError(f"colgraph list takes no arguments, got {extra[0]!r}")
        print(_listing())
    elif known.command == "describe":
        print(_sheet(known, extra).describe())
    else:
        _view(known, extra)


def _check_command(arguments: Sequence[str]) -> None:
    first = arguments[0] if arguments else ""
    if first in COMMANDS or first in ("-h", "--help", "--version"):
        return
    near = difflib.get_close_matches(first, COMMANDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    said = f"unknown command {first!r}" if first else "no command"
    raise ValueError(f"{said}, expected one of {', '.join(COMMANDS)} (see colgraph --help){hint}")


def _parser() -> OneLineParser:
    import colgraph

    parser = OneLineParser(prog="colgraph", description="Columnformer sheets: geometries, reports and pictures.")
    parser.add_argument("--version", action="version", version=f"colgraph {colgraph.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("list", help="geometries with their options, and the files that can be read")
    described = commands.add_parser("describe", help="a report on the sheet of a geometry, plug-in or file")
    viewed = commands.add_parser("view", help="draw the sheet of a geometry, plug-in or file")
    for command in (described, viewed):
        command.argument_default = argparse.SUPPRESS
        command.epilog = "Options of the geometry are flags too: colgraph describe stack --widths 8,8,8"
        command.add_argument(
            "source", metavar="GEOMETRY", help="a name from `colgraph list`, a file, or file.py:function"
        )
        command.add_argument(
            "--neighbors", metavar="X", help="knn:K, radius:R, given, complete, or several joined by |"
        )
        command.add_argument("--metric", metavar="X", help="what distance means")
        command.add_argument("--mask", metavar="FILE", help="label file that says which columns to keep")
        command.add_argument("--axis", metavar="X", help="x, y, z, -x (write --axis=-x), ...: from inputs to outputs")
        command.add_argument("--num-inputs", metavar="P", type=int, help="make the lowest columns on the axis inputs")
        command.add_argument("--num-outputs", metavar="K", type=int, help="read out the highest columns on the axis")
    viewed.add_argument("-o", "--output", metavar="FILE", default="sheet.png", help="picture to write (png, svg, pdf)")
    viewed.add_argument("--max-edges", metavar="M", type=int, default=2500, help="draw at most this many edges")
    return parser


def _sheet(known: argparse.Namespace, extra: Sequence[str]) -> Any:
    from colgraph.geometry import build_sheet

    flags = ["--output", "--max-edges", *("--" + name.replace("_", "-") for name in _SHEET_FLAGS)]
    options = parse_options(extra, flags, option_names())
    settings = {name: getattr(known, name) for name in _SHEET_FLAGS if hasattr(known, name)}
    return build_sheet(known.source, **settings, **options)


def _view(known: argparse.Namespace, extra: Sequence[str]) -> None:
    from colgraph.viz import draw_sheet, save_figure

    if known.max_edges < 0:
        raise ValueError(f"--max-edges must not be negative, got {known.max_edges}")
    sheet = _sheet(known, extra)
    print(save_figure(draw_sheet(sheet, max_edges=known.max_edges), known.output))


def _listing() -> str:
    from colgraph.geometry import describe_geometries
    from colgraph.geometry.readers import FORMATS

    lines = ["Geometries (--name value sets an option):", ""]
    for info in describe_geometries():
        lines.append(f"  {info.name}: {info.summary}")
        lines += [f"      --{option.name.replace('_', '-')}{_typed(option)}" for option in info.options]
    lines += ["", "Files (.gz of each is read too; docs/files.md has the details):", ""]
    for form in FORMATS:
        lines.append(f"  {form.about}: {' '.join('.' + suffix for suffix in form.suffixes)}")
        if form.options:
            lines.append(f"      {' '.join('--' + name.replace('_', '-') for name in form.options)}")
    lines += ["", "Plug-ins: file.py:function, a function that returns a colgraph.Geometry."]
    return "\n".join(lines)


def _typed(option: Any) -> str:
    kind = f" {option.type}" if option.type else ""
    return f"{kind} (default: {option.default})" if option.default else kind


if __name__ == "__main__":
    main()
