"""``colgraph analyze``, ``report``, ``compare`` and ``encode``: from words on a command line to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colgraph.analysis import compare, encode_table, responses
from colgraph.analysis.encoding import EncodingTable
from colgraph.analysis.signals import SIGNALS
from colgraph.output import check_file, write_text
from colgraph.report.activity import as_signal
from colgraph.report.analyse import analyse, is_analysed, read_results
from colgraph.report.context import Settings
from colgraph.report.loading import Run, load_run
from colgraph.report.recordings import read_regions, read_responses, read_stimuli
from colgraph.report.seeds import compare_seeds, seeds_json, seeds_table
from colgraph.script import OneLineParser
from colgraph.training import RunFolder
from colgraph.viz.style import new_figure, picture_suffixes, save_figure


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
    if known.only is not None or not is_analysed(Path(known.run)):
        _analyse(known)
    else:
        _check_amounts(Path(known.run), given)
    print(write_page(known.run, known.output))


def _check_amounts(run: Path, given: Mapping[str, Any]) -> None:
    """Raise ValueError if a run was analysed with other settings than those that are asked for."""
    stored = read_results(run).get("settings", {})
    for name, value in given.items():
        if stored.get(name) != value:
            flag = f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            raise ValueError(
                f"{flag}: {str(run)!r} has been analysed with {name}={stored.get(name)}: leave the flag out, or run "
                f"colgraph analyze {run} {flag} first"
            )


def run_compare(arguments: list[str]) -> None:
    """``colgraph compare RUN RUN ...``."""
    parser = OneLineParser(
        prog="colgraph compare",
        description="Analysed runs of several seeds: means with intervals over seeds, beside their controls.",
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


# ---------------------------------------------------------------------- encoding


def run_encode(arguments: list[str]) -> None:
    """``colgraph encode RUN``."""
    parser = _parser("encode", "How well a run's columns predict recorded responses, per region and step.")
    parser.add_argument(
        "--responses", required=True, metavar="FILE", help=".npy, .npz, .h5 or a table: [stimuli, targets]"
    )
    parser.add_argument("--stimuli", required=True, metavar="FOLDER", help="images, one per stimulus")
    parser.add_argument("--regions", metavar="FILE", help="a table: target, region")
    parser.add_number("--columns", "N", "columns used as features, at most (512)", least=1, default=512)
    parser.add_number("--folds", "N", "folds of the cross-validation (5)", least=2, default=5)
    parser.add_number("--permutations", "N", "shuffles of each null (200)", least=1, default=200)
    parser.add_argument("-o", "--output", metavar="FILE", help="JSON to write (default: RUN/encoding.json)")
    known = parser.parse_args(arguments)
    if known.output:
        _check_encoding(Path(known.output))
    run = load_run(known.run, images=0)
    out = Path(known.output) if known.output else _check_encoding(RunFolder(run.path).encoding)
    recorded = read_responses(Path(known.responses))
    size, channels = run.config.image_size, run.config.channels
    stimuli, notes = read_stimuli(Path(known.stimuli), recorded, size, channels)
    regions, more = (None, []) if known.regions is None else read_regions(Path(known.regions), recorded)
    notes = [*recorded.notes, *notes, *more]
    sys.stderr.write("".join(f"note: {note}\n" for note in notes))
    amounts = known.columns, known.folds, known.permutations
    content, table = encoding_of(run, stimuli, recorded.values, regions, *amounts)
    content["notes"] = notes
    write_text(out, json.dumps(content, indent=2, allow_nan=False) + "\n")
    figure = new_figure(7.0, 4.0, f"Encoding: {run.path.name}")
    table.plot(figure.subplots())
    save_figure(figure, out.with_suffix(".png"))
    for row in content["cells"]:
        share = row["value_normalised"]
        text = "" if share is None else f", {share:.2f} of the ceiling"
        print(f"{row['features']}, {row['region']}: held-out r = {row['value']:.3f}{text}, CKA {row['cka']:.3f}")
    print(f"{out}, {out.with_suffix('.png')}")


def _check_encoding(path: Path) -> Path:
    """The path of a JSON file beside which a figure is written."""
    check_file("--output", path, [".json"])
    check_file("the figure beside --output,", path.with_suffix(".png"), picture_suffixes())
    return path


def encoding_of(
    run: Run, stimuli: torch.Tensor, recorded: np.ndarray, regions: Any, columns: int, folds: int, permutations: int
) -> tuple[dict[str, Any], EncodingTable]:
    """Ridge per step and region, with RSA and CKA beside it, as plain values; and the table, to draw.

    Beside the steps stand two controls: the pixels, and the last step of the untrained network.
    """
    some = np.sort(np.random.default_rng(0).permutation(run.sheet.num_columns)[:columns])
    show = sys.stderr.isatty()
    states = responses(run.net, stimuli, steps="all", columns=some, progress=show)
    # Pixels and an untrained network predict recordings of vision as well, to a degree: the rest is what counts.
    features: dict[str, Any] = {
        "pixels": stimuli.flatten(1).numpy(),
        "untrained": responses(run.untrained(), stimuli, columns=some, progress=show),
        **{f"step {t + 1}": states[:, t] for t in range(states.shape[1])},
    }
    table = encode_table(
        features, recorded, regions=regions, controls=("pixels", "untrained"), folds=folds, permutations=permutations
    )
    mean = recorded.mean(0) if recorded.ndim == 3 else recorded
    labels = np.full(mean.shape[1], "all") if regions is None else np.asarray(regions)
    areas = {str(name): mean[:, labels == name] for name in table.regions}
    alike = compare(features, areas, permutations=20)
    similar = (
        compare(features, {k: v for k, v in areas.items() if v.shape[1] > 2}, method="rsa", permutations=50)
        if (any(v.shape[1] > 2 for v in areas.values()))
        else None
    )
    cells = []
    for (name, region), found in table.results.items():
        key = (name, str(region))
        rsa = None if similar is None or key not in similar.results else similar.results[key].value
        extra = {"cka": alike.results[key].value, "rsa": rsa}
        cells.append({"features": name, "region": str(region), **found.summary(), **extra})
    return {"columns": len(some), "folds": folds, "stimuli": len(stimuli), "cells": cells}, table
