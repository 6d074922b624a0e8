"""``colgraph rsa``: from words on a command line to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from colgraph.analysis import sheet_regions
from colgraph.analysis.arrays import check_choice
from colgraph.analysis.dissimilarity import RDM_METRICS
from colgraph.analysis.signals import SIGNALS, check_signal
from colgraph.brain.comparison import METHODS, check_method
from colgraph.brain.encode import check_json_and_figure
from colgraph.brain.figure import draw_similarities
from colgraph.brain.lights import LightSettings, searchlight_of, write_searchlight
from colgraph.brain.networks import control_runs, line_up
from colgraph.brain.rdm_files import read_rdms
from colgraph.brain.rdm_parts import Rdms
from colgraph.brain.similarity import (
    Choices,
    OtherData,
    Similarities,
    check_other_recordings,
    given_twice,
    joined,
    similarities,
    unique_names,
)
from colgraph.brain.stimuli import find_stimuli
from colgraph.extras import optional
from colgraph.output import check_file, write_text
from colgraph.report.activity import as_signal
from colgraph.report.loading import Run, load_run
from colgraph.script import OneLineParser
from colgraph.training import RunFolder
from colgraph.viz.style import save_figure

LIGHT_METHODS = {"spearman": "spearman", "corr": "pearson"}
"""rsatoolbox's names of the measures that a searchlight knows, and its own."""


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
        "--choose-stimuli", metavar="PATH", help="what was shown in those, where it is not what --stimuli says"
    )
    parser.add_argument(
        "--times", metavar="T", help="of [subjects, times, ...]: each, mean, or ranges averaged, such as 1:10,11:20"
    )
    parser.add_argument(
        "--regions",
        metavar="X",
        help="areas, layers, or bands:K from inputs to outputs (areas where a sheet has them, or layers)",
    )
    parser.add_argument("--metric", default="correlation", metavar="M", help=f"{', '.join(RDM_METRICS)} (correlation)")
    parser.add_argument("--method", default="spearman", metavar="M", help=f"{', '.join(METHODS)} (spearman)")
    parser.add_number("--bootstraps", "N", "samples of subjects and stimuli (1000)", least=20, default=1000)
    parser.add_number(
        "--images", "N", "held-out images for equal accuracy, half to choose by (1000)", least=2, default=1000
    )
    parser.add_number("--seed", "N", "of everything drawn (0)", least=0, default=0)
    parser.add_argument(
        "--searchlight", action="store_true", help="maps of where on the sheet recordings are found, into RUN"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="JSON to write (default: RUN/rsa.json)")
    return parser


def run_rsa(arguments: list[str]) -> None:
    """``colgraph rsa RUN``."""
    known = _parser().parse_args(arguments)
    choices = _choices(known)
    optional("comparing dissimilarities needs", "rsatoolbox", "brain")
    if known.output:
        _check_outputs(Path(known.output))
    RunFolder(Path(known.run)).check_sheet("compared with recordings")
    run = load_run(known.run, images=0)
    _check_run(run, choices)
    out = Path(known.output) if known.output else _check_outputs(RunFolder(run.path).rsa)
    size = run.config.image_size, run.config.channels
    images, recordings, notes = _read(known.stimuli, known.rdms, known.times, size)
    _check_times(recordings)
    _, models, more = _read(known.stimuli, known.models, known.times, size, models=True)
    chosen_on = _chosen_on(known, recordings, size, more)
    notes = list(dict.fromkeys([*notes, *more, *given_twice(recordings, models), *_one_region(run, choices)]))
    sys.stderr.write("".join(f"note: {note}\n" for note in notes))
    controls, missing = control_runs(run, known.controls, not known.no_search)
    if controls:
        run = load_run(known.run, images=known.images, seed=known.seed)
    networks = line_up(run, controls, missing, known.seed)
    found = similarities(networks, images, recordings, models, choices, chosen_on)
    about = {"notes": notes, "missing": found.missing, "differences": found.differences}
    write_text(out, json.dumps(found.rows, indent=2, allow_nan=False) + "\n")
    write_text(_beside(out), json.dumps(about, indent=2, allow_nan=False) + "\n")
    save_figure(draw_similarities(found.rows, f"Similarity to recordings: {run.path.name}"), out.with_suffix(".png"))
    files = [out, _beside(out), out.with_suffix(".png")]
    if known.searchlight:
        files += _searchlight(run, images, recordings, found, choices)
    _print(found)
    print(", ".join(map(str, files)))


def _searchlight(
    run: Run, images: Tensor, recordings: Sequence[Rdms], found: Similarities, choices: Choices
) -> list[Path]:
    """Maps of the sheet at the run's default step, for its report."""
    how = LightSettings(
        step=found.rows[0]["step"] - 1,
        signal=choices.signals[0],
        metric=choices.metric,
        method=LIGHT_METHODS[choices.method],
        seed=choices.seed,
    )
    named = list(zip(unique_names(recordings), [each.values for each in recordings], strict=True))
    return write_searchlight(run, searchlight_of(run, images, named, how))


def _choices(known: Any) -> Choices:
    """What the command line asks for, or a ValueError for what contradicts itself or is not there."""
    check_method(known.method)
    check_choice("metric", known.metric, RDM_METRICS)
    if known.searchlight and known.method not in LIGHT_METHODS:
        raise ValueError(
            f"--method {known.method}: maps of --searchlight are made with {' or '.join(LIGHT_METHODS)}: give one of "
            "these, or leave --searchlight out"
        )
    if known.step is not None and known.choose_on:
        raise ValueError("--step and --choose-on both say which step is the default: give one of them")
    if known.choose_stimuli and not known.choose_on:
        raise ValueError(f"--choose-stimuli {known.choose_stimuli} are those of --choose-on, which is not given")
    signals = tuple(dict.fromkeys(as_signal(word.strip()) for word in known.signal.split(",")))
    shown = sys.stderr.isatty()
    how = known.metric, known.regions, known.method, known.bootstraps, known.seed
    return Choices(signals, known.step, *how, progress=shown)


def _check_run(run: Run, choices: Choices) -> None:
    """Raise ValueError for signals, regions and steps that the run does not have."""
    sheet_regions(run.sheet, choices.regions)
    for signal in choices.signals:
        check_signal(run.net, signal, run.config.dim)
    if choices.step is not None and choices.step > run.net.steps:
        raise ValueError(f"--step {choices.step}: the run has the steps 1 to {run.net.steps}")


def _one_region(run: Run, choices: Choices) -> list[str]:
    """What to say where regions that were asked for are one: it has no rows of its own."""
    found = list(sheet_regions(run.sheet, choices.regions))
    if choices.regions is None or len(found) > 1:
        return []
    return [f"--regions {choices.regions}: the sheet has one, {found[0]!r}, and so no rows by region"]


def _read(
    stimuli: str, files: Sequence[str], times: str | None, size: tuple[int, int], **how: Any
) -> tuple[Tensor, list[Rdms], list[str]]:
    """Images, dissimilarities in their order (read as ``how`` says), and what to say of them."""
    shown = find_stimuli(Path(stimuli))
    count = len(shown.pictures)
    read = [one for file in files for one in read_rdms(Path(file), count, times=times, **how)]
    found, notes = joined(read, shown)
    return shown.decoded(*size), found, [*shown.notes, *notes]


def _check_times(recordings: Sequence[Rdms]) -> None:
    """Raise ValueError where ``--times`` is of the only axis of one file, and of the second of another."""
    movie = next((each for each in recordings if each.is_movie), None)
    other = next((each for each in recordings if not each.is_movie), None)
    if movie is not None and other is not None and other.where != movie.where:
        raise ValueError(
            f"--times: {movie.where!r} has its one axis beside stimuli taken as times, and {other.where!r} "
            "has another form: give them to two commands"
        )


def _chosen_on(known: Any, recordings: list[Rdms], size: tuple[int, int], notes: list[str]) -> OtherData | None:
    """The recordings that the default step is chosen on; what is said of them joins the notes."""
    if not known.choose_on:
        return None
    both = {Path(file).resolve() for file in known.rdms} & {Path(file).resolve() for file in known.choose_on}
    if both:
        raise ValueError(
            f"{str(min(both))!r} is given to --rdms and --choose-on: a step is chosen on other recordings than it is "
            "compared with"
        )
    # One axis beside stimuli is the same in both.
    how = {"lone_axis": "times" if any(each.is_movie for each in recordings) else "subjects", "needs_times": False}
    images, found, more = _read(known.choose_stimuli or known.stimuli, known.choose_on, known.times, size, **how)
    check_other_recordings(recordings, found)
    notes += more
    return OtherData(found, images)


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
