"""``colgraph rsa``: from words on a command line to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colgraph.analysis.arrays import check_choice
from colgraph.analysis.dissimilarity import RDM_METRICS
from colgraph.analysis.signals import SIGNALS, check_signal
from colgraph.brain.comparison import METHODS, check_method
from colgraph.brain.encode import check_json_and_figure
from colgraph.brain.figure import draw_similarities
from colgraph.brain.networks import control_runs, line_up
from colgraph.brain.rdm_files import Rdms, read_rdms
from colgraph.brain.similarity import Choices, Similarities, check_other_recordings, given_twice, joined, similarities
from colgraph.brain.stimuli import Shown, find_stimuli
from colgraph.extras import optional
from colgraph.output import check_file, write_text
from colgraph.report.activity import as_signal
from colgraph.report.loading import load_run
from colgraph.script import OneLineParser
from colgraph.training import RunFolder
from colgraph.viz.style import save_figure


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="colgraph rsa",
        description="How alike the dissimilarities of a run's states and those of a brain are, beside controls.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder")
    formats = ".npy, .npz, .mat, .csv, or rsatoolbox's .hdf5"
    parser.add_argument("--rdms", required=True, nargs="+", metavar="FILE", help=f"recorded dissimilarities: {formats}")
    parser.add_argument(
        "--stimuli",
        required=True,
        metavar="PATH",
        help="a folder of images, or an .npy, .npz, .h5 or .mat file of them",
    )
    parser.add_argument("--models", nargs="+", default=[], metavar="FILE", help="dissimilarities of other models")
    parser.add_argument(
        "--controls", nargs="+", default=[], metavar="RUN", help="runs to compare with, besides those beside this one"
    )
    parser.add_argument("--no-search", action="store_true", help="only the controls that --controls names")
    parser.add_argument(
        "--signal", default="normed", metavar="S[,S]", help=f"{', '.join(SIGNALS)}, or a channel (normed)"
    )
    parser.add_number("--step", "N", "the step that is the default, from 1 (the last one)", least=1)
    parser.add_argument(
        "--choose-on",
        nargs="+",
        default=[],
        metavar="FILE",
        help="other recordings, on which the default step is chosen",
    )
    parser.add_argument(
        "--times", metavar="T", help="of [subjects, times, ...]: each, mean, or ranges averaged, such as 1:10,11:20"
    )
    parser.add_argument("--metric", default="correlation", metavar="M", help=f"{', '.join(RDM_METRICS)} (correlation)")
    parser.add_argument("--method", default="spearman", metavar="M", help=f"{', '.join(METHODS)} (spearman)")
    parser.add_number("--bootstraps", "N", "samples of subjects and stimuli (1000)", least=20, default=1000)
    parser.add_number(
        "--images", "N", "held-out images for equal accuracy, half to choose by (1000)", least=2, default=1000
    )
    parser.add_number("--seed", "N", "of everything drawn (0)", least=0, default=0)
    parser.add_argument("-o", "--output", metavar="FILE", help="JSON to write (default: RUN/rsa.json)")
    return parser


def run_rsa(arguments: list[str]) -> None:
    """``colgraph rsa RUN``."""
    known = _parser().parse_args(arguments)
    check_method(known.method)
    check_choice("metric", known.metric, RDM_METRICS)
    signals = tuple(dict.fromkeys(as_signal(word.strip()) for word in known.signal.split(",")))
    if known.step is not None and known.choose_on:
        raise ValueError("--step and --choose-on both say which step is the default: give one of them")
    optional("comparing dissimilarities needs", "rsatoolbox", "brain")
    if known.output:
        _check_outputs(Path(known.output))
    run = load_run(known.run, images=0)
    for signal in signals:
        check_signal(run.net, signal, run.config.dim)
    if known.step is not None and known.step > run.net.steps:
        raise ValueError(f"--step {known.step}: the run has the steps 1 to {run.net.steps}")
    out = Path(known.output) if known.output else _check_outputs(RunFolder(run.path).rsa)
    shown = find_stimuli(Path(known.stimuli))
    recordings, models, chosen_on, notes = _read_all(known, shown)
    controls, missing = control_runs(run, known.controls, not known.no_search)
    if controls:
        run = load_run(known.run, images=known.images, seed=known.seed)
    choices = Choices(
        signals, known.step, known.metric, known.method, known.bootstraps, known.seed, progress=sys.stderr.isatty()
    )
    images = shown.decoded(run.config.image_size, run.config.channels)
    sys.stderr.write("".join(f"note: {note}\n" for note in notes))
    found = similarities(line_up(run, controls, missing, known.seed), images, recordings, models, chosen_on, choices)
    # Here searchlight_of(run, images, recordings) joins in: maps over the sheet, from the same images and recordings.
    about = {"notes": notes, "missing": found.missing, "differences": found.differences}
    write_text(out, json.dumps(found.rows, indent=2, allow_nan=False) + "\n")
    write_text(_beside(out), json.dumps(about, indent=2, allow_nan=False) + "\n")
    save_figure(draw_similarities(found.rows, f"Similarity to recordings: {run.path.name}"), out.with_suffix(".png"))
    _print(found)
    print(f"{out}, {_beside(out)}, {out.with_suffix('.png')}")


def _read_all(known: Any, shown: Shown) -> tuple[list[Rdms], list[Rdms], list[Rdms], list[str]]:
    """Recordings, models, and recordings to choose the step on, in the order of the images; and what to say of them."""
    both = {Path(file).resolve() for file in known.rdms} & {Path(file).resolve() for file in known.choose_on}
    if both:
        raise ValueError(
            f"{str(min(both))!r} is given to --rdms and --choose-on: a step is chosen on other recordings than it is "
            "compared with"
        )
    count, notes = len(shown.pictures), list(shown.notes)

    def read(files: Sequence[str], models: bool = False) -> list[Rdms]:
        found, more = joined([one for file in files for one in _read(Path(file), count, known.times, models)], shown)
        notes.extend(note for note in more if note not in notes)
        return found

    recordings, models, chosen_on = read(known.rdms), read(known.models, models=True), read(known.choose_on)
    check_other_recordings(recordings, chosen_on)
    return recordings, models, chosen_on, [*notes, *given_twice(recordings, models)]


def _read(path: Path, count: int, times: str | None, models: bool) -> list[Rdms]:
    return read_rdms(path, count, times=times, models=models)


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}-differences.json")


def _check_outputs(out: Path) -> Path:
    check_json_and_figure(out)
    check_file("the differences beside --output,", _beside(out), [".json"])
    return out


def _print(found: Similarities) -> None:
    for row in found.rows:
        if not row["default"]:
            continue
        low, high = row["interval"]
        ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
        ceiling = "" if row["ceiling"] is None else "ceiling {:.3f} to {:.3f}".format(*row["ceiling"])
        step = "" if row["step"] is None else f", step {row['step']}"
        if row["model"] == "run":
            print("  ".join(word for word in (f"{row['recording']}:", ceiling) if word))
        print(f"  {row['model']}{step}: {row['similarity']:.3f}{ends}")
    for each in found.missing:
        sys.stderr.write(f"left out: {each['name']}: {each['reason']}\n")
