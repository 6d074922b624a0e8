"""``colgraph encode``: recorded responses predicted from a run's columns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colgraph.analysis import compare, encode_table, responses
from colgraph.analysis.encoding import EncodingTable
from colgraph.brain.regions import read_regions
from colgraph.brain.responses import read_responses
from colgraph.brain.stimuli import read_stimuli
from colgraph.output import check_file, write_text
from colgraph.report.loading import Run, load_run
from colgraph.script import OneLineParser
from colgraph.training import RunFolder
from colgraph.viz.style import new_figure, picture_suffixes, save_figure


def run_encode(arguments: list[str]) -> None:
    """``colgraph encode RUN``."""
    parser = OneLineParser(
        prog="colgraph encode",
        description="How well a run's columns predict recorded responses, per region and step.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--responses", required=True, metavar="FILE", help=".npy, .npz, .h5 or a table: [stimuli, targets]"
    )
    parser.add_argument(
        "--stimuli", required=True, metavar="FOLDER", help="images, one per stimulus; or a file of them"
    )
    parser.add_argument("--regions", metavar="FILE", help="a table: target, region")
    parser.add_number("--columns", "N", "columns used as features, at most (512)", least=1, default=512)
    parser.add_number("--folds", "N", "folds of the cross-validation (5)", least=2, default=5)
    parser.add_number("--permutations", "N", "shuffles of each null (200)", least=1, default=200)
    parser.add_argument("-o", "--output", metavar="FILE", help="JSON to write (default: RUN/encoding.json)")
    known = parser.parse_args(arguments)
    if known.output:
        check_json_and_figure(Path(known.output))
    RunFolder(Path(known.run)).check_sheet("compared with recordings")
    run = load_run(known.run, images=0)
    out = Path(known.output) if known.output else check_json_and_figure(RunFolder(run.path).encoding)
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


def check_json_and_figure(path: Path) -> Path:
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
