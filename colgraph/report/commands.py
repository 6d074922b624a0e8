"""``colgraph analyze``, ``report`` and ``compare``: from words on a command line to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colgraph.analysis.signals import SIGNALS
from colgraph.output import check_file, write_text
from colgraph.report.activity import as_signal
from colgraph.report.analyse import analyse, is_analyzed, read_results
from colgraph.report.seeds import compare_seeds, seeds_json, seeds_table
from colgraph.report.shown import Settings
from colgraph.script import OneLineParser


def _parser(name: str, about: str) -> OneLineParser:
    parser = OneLineParser(prog=f"colgraph {name}", description=about)
    parser.add_argument("run", metavar="RUN", help="a run folder")
    return parser


# Settings of analyses: the least of each, and what it is.
_AMOUNTS = {
    "probes": (40, "probe images in all"),
    "permutations": (1, "shuffles of each null, at most: where each takes long, fewer are made"),
    "seed": (0, "of everything drawn"),
    "batch_size": (1, "images at a time"),
}


def _amounts(parser: OneLineParser) -> None:
    for name, (least, text) in _AMOUNTS.items():
        usual = getattr(Settings(), name)
        parser.add_number(f"--{name.replace('_', '-')}", "N", f"{text} ({usual})", least=least)
    parser.add_argument(
        "--robustness", action="store_true", default=None, help="attacks and lesions on large sheets, too"
    )
    parser.add_argument(
        "--signal",
        metavar="S",
        help=f"what of a column is measured: {', '.join(SIGNALS)}, or the number of a channel (normed; "
        "maps of one number per column are then of evidence)",
    )
    parser.add_argument("--only", metavar="NAMES", help="analyses to (re)make, separated by commas; others are kept")


def _given(known: Any) -> dict[str, Any]:
    """The settings of analyses that the command line names."""
    given = {name: value for name in (*_AMOUNTS, "robustness") if (value := getattr(known, name)) is not None}
    return given if known.signal is None else {**given, "signal": as_signal(known.signal)}


def _analyse(known: Any) -> None:
    only = None if known.only is None else [name.strip() for name in known.only.split(",") if name.strip()]
    settings = Settings(**_given(known), progress=sys.stderr.isatty())
    if known.robustness and only is not None and not {"attack", "lesions", "activity_noise", "weight_noise"} & {*only}:
        raise ValueError(f"--robustness plays no part in --only {known.only}: leave it out")
    analyse(known.run, settings, only=only, say=print)


def run_analyse(arguments: list[str]) -> None:
    """``colgraph analyze RUN``."""
    parser = _parser("analyze", "Every analysis of a run beside its controls, into RUN/analysis.")
    _amounts(parser)
    _analyse(parser.parse_args(arguments))


def run_report(arguments: list[str]) -> None:
    """``colgraph report RUN``."""
    from colgraph.report.page import check_page, write_page

    parser = _parser(
        "report",
        "One page about a run that opens without a network; analyses the run first unless that has been done.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="report.html", help="page to write (report.html)")
    _amounts(parser)
    known = parser.parse_args(arguments)
    check_page(known.output)
    given = _given(known)
    if known.only is not None or not is_analyzed(Path(known.run)):
        _analyse(known)
    else:
        _check_amounts(Path(known.run), given)
    print(write_page(known.run, known.output))


def _check_amounts(run: Path, given: Mapping[str, Any]) -> None:
    """Raise ValueError if a run was analyzed with other settings than those that are asked for."""
    stored = read_results(run).get("settings", {})
    for name, value in given.items():
        if stored.get(name) != value:
            flag = f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            raise ValueError(
                f"{flag}: {str(run)!r} has been analyzed with {name}={stored.get(name)}: leave the flag out, or run "
                f"colgraph analyze {run} {flag} first"
            )


def run_compare(arguments: list[str]) -> None:
    """``colgraph compare RUN RUN ...``."""
    parser = OneLineParser(
        prog="colgraph compare",
        description="Analyzed runs of several seeds: means with intervals over seeds, beside their controls.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders that differ only in their seed")
    parser.add_argument("-o", "--output", metavar="FILE.md", help="write the Markdown table here")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here, those of each seed too")
    known = parser.parse_args(arguments)
    for flag, path, end in (("--output", known.output, ".md"), ("--json", known.json, ".json")):
        if path:
            check_file(flag, path, [end])
    compared = compare_seeds(known.runs)
    if known.json:
        write_text(Path(known.json), json.dumps(seeds_json(compared), indent=2, allow_nan=False) + "\n")
    if known.output:
        write_text(Path(known.output), seeds_table(compared))
    print("\n".join(path for path in (known.output, known.json) if path) or seeds_table(compared))
