"""The ``colgraph`` command: one table of commands, and those about geometries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from colgraph.geometry import NEIGHBORHOODS, option_names
from colgraph.hints import did_you_mean
from colgraph.output import check_file
from colgraph.script import OneLineParser, run_script, spelled_as

# The commands: a line of help, and the function that takes the words behind the name. It is imported when it is called,
# so that no command waits for the packages of another.
COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("geometries with their options, and the files that can be read", "colgraph.cli:run_list"),
    "describe": ("a report on the sheet of a geometry, plug-in or file", "colgraph.cli:run_describe"),
    "view": ("draw the sheet of a geometry, plug-in or file", "colgraph.cli:run_view"),
    "data": ("make data that need thinking, and write them as parquet files", "colgraph.data.commands:run_data"),
    "train": ("train a model on images, and write a run folder", "colgraph.training.command:run_train"),
    "sweep": ("train configs x seeds in a queue, and write a table", "colgraph.experiments.commands:run_sweep"),
    "results": ("tables of finished runs and results.json files", "colgraph.experiments.commands:run_results"),
    "trade-off": ("accuracy against wire, and what nothing else beats", "colgraph.experiments.trade_off:run_trade_off"),
    "evaluate": ("accuracy, calibration, confusions and speed of a run", "colgraph.experiments.commands:run_evaluate"),
    "share": ("a run's model as a folder that others can load", "colgraph.experiments.commands:run_share"),
    "analyze": ("every analysis of a run, beside its controls", "colgraph.report.commands:run_analyse"),
    "report": ("one page about a run, with its sheet to turn and click", "colgraph.report.commands:run_report"),
    "compare": ("analyzed runs of several seeds: intervals over seeds", "colgraph.report.commands:run_compare"),
    "encode": ("predict recorded brain responses from a run's columns", "colgraph.brain.encode:run_encode"),
    "rsa": ("compare a run with recorded dissimilarities, beside its controls", "colgraph.brain.commands:run_rsa"),
    "rsa-table": ("what rsa found over runs of several seeds", "colgraph.brain.over_seeds:run_rsa_table"),
}
_SHEET_FLAGS = ("neighbors", "metric", "mask", "axis", "num_inputs", "num_outputs", "inputs", "outputs")


def main() -> None:
    """The entry point of the ``colgraph`` command."""
    run_script(lambda: run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> None:
    """Run one command line.

    Raises:
        ValueError: for anything that is not one of the commands with its flags.
    """
    words = list(arguments)
    words[:1] = [spelled_as(word, COMMANDS) for word in words[:1]]
    _check_command(words)
    if words[0] not in COMMANDS:
        _parser().parse_args(words)
        return
    module, function = COMMANDS[words[0]][1].split(":")
    getattr(import_module(module), function)(words[1:])


def _check_command(words: Sequence[str]) -> None:
    first = words[0] if words else ""
    if first in COMMANDS or first in ("-h", "--help", "--version"):
        return
    hint = did_you_mean(first, COMMANDS, "; ", str)
    said = f"unknown command {first!r}" if first else "no command"
    raise ValueError(f"{said}, expected one of {', '.join(COMMANDS)} (see colgraph --help){hint}")


def _parser() -> OneLineParser:
    """What answers ``--help`` and ``--version``; each command has a parser of its own."""
    import colgraph

    parser = OneLineParser(
        prog="colgraph",
        description="Columnformer sheets: geometries, reports and pictures, and what trained ones have learned.",
        epilog="colgraph COMMAND --help says more.",
    )
    parser.add_argument("--version", action="version", version=f"colgraph {colgraph.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, _) in COMMANDS.items():
        commands.add_parser(name, help=summary)
    return parser


def _sheet_parser(command: str) -> OneLineParser:
    parser = OneLineParser(
        prog=f"colgraph {command}",
        description=COMMANDS[command][0],
        argument_default=argparse.SUPPRESS,
        others=option_names(),
        epilog=f"Options of the geometry are flags too: colgraph {command} stack --widths 8,8,8",
    )
    parser.add_argument("source", metavar="GEOMETRY", help="a name from `colgraph list`, a file, or file.py:function")
    parser.add_argument("--neighbors", metavar="X", help=f"{NEIGHBORHOODS}, or several joined by |")
    parser.add_argument("--metric", metavar="X", help="what distance means")
    parser.add_argument(
        "--mask", metavar="FILE", help="label file (or indices: 0-99,120) that says which columns to keep"
    )
    parser.add_argument("--axis", metavar="X", help="x, y, z, -x (write --axis=-x), ...: from inputs to outputs")
    parser.add_argument("--num-inputs", metavar="P", type=int, help="make the lowest columns on the axis inputs")
    parser.add_argument("--num-outputs", metavar="K", type=int, help="read out the highest columns on the axis")
    parser.add_argument("--inputs", metavar="X", help="the input columns: indices such as 0-15,20, or a label file")
    parser.add_argument("--outputs", metavar="X", help="the columns to read out: indices, or a label file")
    return parser


def run_list(words: list[str]) -> None:
    """``colgraph list``."""
    _, extra = OneLineParser(prog="colgraph list", description=COMMANDS["list"][0]).parse_known_args(words)
    if extra:
        raise ValueError(f"colgraph list takes no arguments, got {extra[0]!r}")
    print(_listing())


def run_describe(words: list[str]) -> None:
    """``colgraph describe GEOMETRY``."""
    print(_sheet(*_sheet_parser("describe").parse_with_options(words)).describe())


def run_view(words: list[str]) -> None:
    """``colgraph view GEOMETRY``."""
    from colgraph.viz import draw_sheet, picture_suffixes, save_figure

    parser = _sheet_parser("view")
    parser.add_argument("-o", "--output", metavar="FILE", default="sheet.png", help="picture to write (png, svg, pdf)")
    parser.add_number(
        "--max-edges", "M", "draw at most this many edges in grey (2500; of stacks 0, of networks 1500)", least=0
    )
    known, options = parser.parse_with_options(words)
    check_file("--output", known.output, picture_suffixes())
    print(save_figure(draw_sheet(_sheet(known, options), max_edges=known.max_edges), known.output))


def _sheet(known: argparse.Namespace, options: Mapping[str, Any]) -> Any:
    from colgraph.geometry import build_sheet

    settings = {name: getattr(known, name) for name in _SHEET_FLAGS if hasattr(known, name)}
    return build_sheet(known.source, **settings, **options)


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
