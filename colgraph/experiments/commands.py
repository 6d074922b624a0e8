"""``colgraph sweep``, ``results``, ``evaluate`` and ``share``: from words on a command line to runs and tables."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colgraph.experiments.against import compare_with
from colgraph.experiments.jobs import Job, parse_seeds, parse_share, plan
from colgraph.experiments.markdown import against_table, csv_table, fill_markers, markdown_table
from colgraph.experiments.queue import Outcome, run_jobs
from colgraph.experiments.results import read_results, summarize, write_rows
from colgraph.experiments.slurm import parse_parameters, run_on_slurm
from colgraph.output import check_different, check_file, check_folder, write_text
from colgraph.script import OneLineParser, ScriptError
from colgraph.training.folder import RunFolder, finished_runs
from colgraph.training.lock import check_settled
from colgraph.viz import picture_suffixes


def run_sweep(arguments: Sequence[str]) -> None:
    """Run configs x seeds and write their table.

    Raises:
        ValueError: for flags, settings or folders that do not fit, before the first run begins.
        ScriptError: if a run failed; all others have been run.
    """
    known = _sweep_parser().parse_args(list(arguments))
    out, seeds = Path(known.out) if known.dry_run else check_folder("--out", known.out), parse_seeds(known.seeds)
    jobs = plan(known.configs, seeds, out, sets=known.set, script=known.script)
    if known.only:
        share, shares = parse_share(known.only)
        jobs = jobs[share - 1 :: shares]
    if known.dry_run:
        for job in jobs:
            print(f"{'finished' if job.finished else 'to run'}: {job.text()}")
        return
    if known.slurm and known.executor != "slurm":
        raise ValueError(f"--slurm {known.slurm[0]} needs --executor slurm")
    picture_suffixes()  # what draws the table is missed now, or after all runs
    out.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"begun": _say_begun, "ended": lambda outcome: _ended(outcome, out)}
    if known.executor == "slurm":
        outcomes = run_on_slurm(jobs, out, known.jobs, parse_parameters(known.slurm), **told)
    else:
        outcomes = run_jobs(jobs, out, known.jobs or 1, **told)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    _write_tables(out, plot=True)
    counts = Counter(outcome.state for outcome in outcomes)
    print(", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing to run")
    if (out / "results.json").is_file():
        print(f"tables in {out}: results.md, results.csv, results.json, results.png")
    if failed:
        raise ScriptError(f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again")


def run_results(arguments: Sequence[str]) -> None:
    """Merge results and write them as JSON, Markdown, CSV, a plot, or into a document.

    Raises:
        ValueError: for files or folders that hold no results, documents without markers, or a config to compare with
            that is not there or without predictions.
    """
    known = _results_parser().parse_args(list(arguments))
    _check_outputs(known)
    rows = read_results(known.paths)
    table = markdown_table(rows)
    if known.against:
        table += f"\n{_compared(rows, known.against)}"
    document = _filled(Path(known.into), rows) if known.into else ""
    if known.json:
        write_rows(Path(known.json), rows)
    for path, text in ((known.output, table), (known.csv, csv_table(rows))):
        if path:
            write_text(Path(path), text)
    if known.plot:
        _plot(summarize(rows), Path(known.plot))
    if known.into:
        write_text(Path(known.into), document)
    written = [path for path in (known.json, known.output, known.csv, known.plot, known.into) if path]
    print("\n".join(written) if written else table, end="\n" if written else "")


def run_evaluate(arguments: Sequence[str]) -> None:
    """Measure a run's model on images; prints what it found and writes JSON and a figure.

    Raises:
        ValueError: if the run or the data cannot be read, or do not fit each other.
    """
    from colgraph.experiments.by_task import step_numbers
    from colgraph.experiments.evaluate import check_outputs, evaluate_split, figure_file, open_run

    known = _evaluate_parser().parse_args(list(arguments))
    steps = step_numbers(known.steps) if known.steps is not None else []
    if known.harder and known.output:
        raise ValueError("--harder writes a file for each harder test set: leave out --output")
    if known.output:
        figures = {f"its figure {name}": str(figure_file(Path(known.output), name)) for name in _FIGURES}
        check_different({"--output": known.output, **figures})
        check_file("--output", known.output)
    run, checkpoint = _run_and_checkpoint(Path(known.run), known.best)

    def file(split: str) -> Path:
        return Path(known.output) if known.output else RunFolder(run).evaluation(known.data, split, checkpoint)

    RunFolder(run).checkpoint(checkpoint)
    check_outputs(file(known.split), bool(steps))
    subject = open_run(run, known.data, checkpoint, steps)
    harder = [name for name in subject.harder if name != known.split] if known.harder else []
    if known.harder and not subject.harder:
        raise ValueError(f"--harder: {subject.images.source!r} has no harder test sets: leave it out")
    for split in (known.split, *harder):
        found = evaluate_split(subject, split, file(split), batch_size=known.batch_size, steps=steps)
        _say_evaluated(found, known.best)
        drawn = [name for name, content in _FIGURES.items() if content in found]
        print("\n".join(map(str, [file(split), *(figure_file(file(split), name) for name in drawn)])))


def _evaluate_parser() -> OneLineParser:
    from colgraph.experiments.evaluate import SPLITS

    parser = OneLineParser(
        prog="colgraph evaluate",
        description="Accuracy and what else a task measures, confusions, and accuracy after more steps than were "
        "trained, into RUN/evaluation.json; of classes of images top-5, calibration and accuracy per step as well.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder, or a file in its checkpoints")
    parser.add_argument("--data", metavar="X", help="images of the same classes (default: those of the run)")
    text = f"{', '.join(SPLITS)}, or the name of a harder test set (test)"
    parser.add_argument("--split", default="test", metavar="X", help=text)
    parser.add_argument("--harder", action="store_true", help="all harder test sets that the data have as well")
    text = "also after so many steps each, such as 5,10,20,40, whatever was trained"
    parser.add_argument("--steps", metavar="N,N", help=text)
    parser.add_argument(
        "--best", action="store_true", help="best.ckpt, chosen on validation images, instead of last.ckpt"
    )
    parser.add_number("--batch-size", "B", "images at a time (256, or the batch of training if larger)", least=1)
    output = "JSON to write; figures go beside it (RUN/evaluation[-best][-SPLIT][-DATA].json)"
    parser.add_argument("-o", "--output", metavar="FILE", help=output)
    return parser


_FIGURES = {"confusion": "confusion", "steps": "accuracy_by_steps"}
_NO_MEASURES = ("images", "step", "loss", "calibration_error", "images_per_second")
_SHARES = ("accuracy", "perfect")


def _say_evaluated(found: Mapping[str, Any], best: bool) -> None:
    classes = f", {len(found['classes'])} classes" if "confusion" in found else ""
    print(f"{found['images']:,} {found['split']} images of {found['data']}{classes}")
    for name, value in found.items():
        if name.endswith(_SHARES) and isinstance(value, float):
            print(f"{name:20} {value:.2%}")
        elif isinstance(value, float) and name not in _NO_MEASURES:
            print(f"{name:20} {value:.4f}")
    if "accuracy_is" in found:
        print(f"{'accuracy is':20} {found['accuracy_is']}\n{'loss':20} {found['loss']:.4f}")
    if "calibration_error" in found:
        print(f"{'calibration error':20} {found['calibration_error']:.4f}")
    if found.get("accuracy_per_step"):
        print(f"{'accuracy per step':20} {'  '.join(f'{value:.1%}' for value in found['accuracy_per_step'])}")
    if found["images_per_second"]:
        print(f"{'images per second':20} {found['images_per_second']:,.0f}")
    if best:
        print(f"{'chosen':20} {found['chosen']}")
    for entry in found.get("accuracy_by_steps", ()):
        perfect = f"  perfect {entry['perfect']:.2%}" if "perfect" in entry else ""
        print(f"steps {entry['steps']}  accuracy {entry['accuracy']:.2%}{perfect}")


def _run_and_checkpoint(path: Path, best: bool) -> tuple[Path, str]:
    """The run folder, and which of its checkpoints: that of a file, where one is named, there or not."""
    if not path.is_file() and path.suffix != RunFolder(path).last.suffix:
        return path, "best" if best else "last"
    if best:
        raise ValueError(f"--best chooses a checkpoint of a run folder, and {str(path)!r} is one: leave it out")
    run = RunFolder(path.parent.parent)
    if run.checkpoints / f"{path.stem}{run.last.suffix}" != path:
        raise ValueError(f"{str(path)!r} is no checkpoint in a run folder (RUN/checkpoints/NAME.ckpt)")
    return run.path, path.stem


def run_share(arguments: Sequence[str]) -> None:
    """Write a run's model as a folder that the ``from_pretrained`` of its class reads.

    Raises:
        ValueError: if the run cannot be read, or the folder already holds a model.
    """
    from colgraph.training import load_trained

    parser = OneLineParser(prog="colgraph share", description="A run's model with its sheet, config and card.")
    parser.add_argument("run", metavar="RUN", help="a run folder, or a checkpoint file")
    parser.add_argument("folder", metavar="FOLDER", help="where to write (upload it with `hf upload`)")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that the folder holds")
    known = parser.parse_args(list(arguments))
    check_folder("FOLDER", known.folder)
    check_settled(Path(known.run))
    print(load_trained(known.run).net.save_pretrained(known.folder, overwrite=known.overwrite))


def _sweep_parser() -> OneLineParser:
    parser = OneLineParser(
        prog="colgraph sweep",
        description="Train configs x seeds and write a table. Finished runs are kept, broken ones go on.",
        epilog="Several machines: start the same command on each on one shared folder, or give each --only i/n.",
    )
    parser.add_argument(
        "configs", nargs="+", metavar="CONFIG", help="YAML files of settings, or presets: digits-tied, 'digits*'"
    )
    parser.add_argument("--seeds", default="0", metavar="N,N", help="0,1,2 or 0-4 (default: 0)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the run folders and the tables")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs; again for more"
    )
    parser.add_number("--jobs", "N", "runs at a time; here each has cores/N threads (1; slurm: no limit)", least=1)
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="where runs go (local)")
    text = "slurm: a parameter of sbatch, such as partition=gpu or time=2:00:00; again for more"
    parser.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=text)
    parser.add_argument("--only", metavar="i/n", help="the i-th of n shares of the runs, for a scheduler's array jobs")
    parser.add_argument("--script", metavar="FILE", help="a training script in place of `colgraph train`")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs, as commands")
    return parser


def _results_parser() -> OneLineParser:
    parser = OneLineParser(
        prog="colgraph results",
        description="Tables from finished runs and from results.json files. Without a file to write, prints Markdown.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, folders of them, or results.json files")
    text = "add differences to this config on the same test images, from predictions.npz in run folders"
    parser.add_argument("--against", metavar="CONFIG", help=text)
    parser.add_argument("-o", "--output", metavar="FILE", help="write the Markdown tables here")
    parser.add_argument("--json", metavar="FILE", help="write all rows here, one per config and seed")
    parser.add_argument("--csv", metavar="FILE", help="write one line per config here")
    parser.add_argument("--plot", metavar="FILE", help="draw accuracies and costs here (png, svg, pdf)")
    parser.add_argument("--into", metavar="FILE.md", help="replace the tables between a document's markers")
    return parser


# ---------------------------------------------------------------------- sweep


def _say_begun(job: Job) -> None:
    how = "goes on" if "--resume" in job.command() else "begins"
    print(f"{job.name} {how}", flush=True)


def _ended(outcome: Outcome, out: Path) -> None:
    text = f"{outcome.job.name} {outcome.state}"
    if outcome.state in ("done", "finished before"):
        (row,) = read_results([outcome.job.folder])
        text += f": test accuracy {row['test_accuracy']:.1%}" + (
            f", {outcome.seconds:,.0f} s" if outcome.seconds else ""
        )
        _write_tables(out)
    if outcome.reason:
        text += f": {outcome.reason}"
    print(text, flush=True, file=sys.stderr if outcome.state == "failed" else sys.stdout)


def _write_tables(out: Path, plot: bool = False) -> None:
    """The tables of all finished runs in the folder, those of other sweeps and machines among them."""
    if not finished_runs(out):
        return
    rows = read_results([out])
    write_rows(out / "results.json", rows)
    write_text(out / "results.md", markdown_table(rows))
    write_text(out / "results.csv", csv_table(rows))
    if plot:
        _plot(summarize(rows), out / "results.png")


# ---------------------------------------------------------------------- results


def _plot(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    from colgraph.viz import draw_results, save_figure

    data = list(dict.fromkeys(str(entry["data"]) for entry in entries))
    named = (
        entries
        if len(data) == 1
        else [{**e, "config": f"{e['config']} ({Path(str(e['data'])).name})"} for e in entries]
    )
    save_figure(draw_results(named, title=data[0] if len(data) == 1 else None), path)


def _compared(rows: Sequence[Mapping[str, Any]], config: str) -> str:
    """The table of differences to a config; says which others are left out."""
    entries, notes = compare_with(rows, config)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    return against_table(entries, config)


def _check_outputs(known: Any) -> None:
    """Raise ValueError unless every file that is asked for can be written."""
    outputs = {f"--{name}": getattr(known, name) for name in ("output", "json", "csv", "plot", "into")}
    check_different(outputs)
    for flag, given in outputs.items():
        if given:
            check_file(flag, given)
    if known.plot:
        check_file("--plot", known.plot, picture_suffixes())


def _filled(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """The document with its tables made anew."""
    try:
        document = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read --into {str(path)!r}: {error}") from error
    try:
        text, missing = fill_markers(document, rows)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    for pattern in missing:
        sys.stderr.write(f"note: no config matches {pattern!r} in {path}\n")
    return text
