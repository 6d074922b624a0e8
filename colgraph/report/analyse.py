"""Everything about one run: each analysis beside its controls, written to the run's ``analysis`` folder."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from colgraph.analysis import Result, varying
from colgraph.analysis.signals import check_signal
from colgraph.models import OwnColumns
from colgraph.output import check_folder, replacing, write_text
from colgraph.report.catalogue import Analysis, attempt, no_control
from colgraph.report.confusion_figure import draw_answers
from colgraph.report.context import Context
from colgraph.report.equal_accuracy import EqualAccuracy
from colgraph.report.figures import draw_with_controls
from colgraph.report.line_up import line_up
from colgraph.report.loading import Run, load_run
from colgraph.report.measures import CATALOGUE, orientation, reverse_correlation
from colgraph.report.multiple_comparisons import correct_entries
from colgraph.report.notes import about, note_of
from colgraph.report.paired_accuracy import paired_accuracies
from colgraph.report.shown import Settings, make_probes
from colgraph.report.spreading import spread_and_draw
from colgraph.training import RunFolder, gone_on_to
from colgraph.viz.style import picture_suffixes

FORMAT = 7
"""Of ``results.json``; another one where numbers of the same name mean something else."""


def analyse(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    only: Iterable[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Analyse a run and its controls.

    Args:
        path: the run folder.
        settings: how much is computed.
        only: names of analyses (all if not given). Others that the folder holds are kept, if they are of the same
            checkpoint, and their controls are the networks that they were.
        say: is told what is going on.

    Returns:
        What ``RUN/analysis/results.json`` holds; figures and maps lie beside it.

    Raises:
        ValueError: for a folder that is no run, lacks its checkpoint, an unknown analysis, or a channel that the run
            does not have; and for a part of the analyses with other settings than the folder's, which belong together.
    """
    settings = settings or Settings()
    chosen = _chosen(only)
    start = perf_counter()
    kept, maps = _kept(Path(path), chosen, settings)
    run = load_run(path, seed=settings.seed)
    _check_signal(run, settings)
    out = check_folder("the folder of analyses", RunFolder(run.path).analysis)
    picture_suffixes()  # what draws figures is missed now, or after the first analysis
    probes = make_probes(run, settings)
    without = "columns" in run.lacks
    if without:
        say(f"{run.lacks['columns']}: what is asked of columns is left out")
    else:
        shown = f"{len(probes.gratings)} gratings, {len(probes.natural)} natural images"
        say(f"{run.sheet.num_columns:,} columns, {shown}")
    compared = line_up(run, probes, settings)
    contexts, main = compared.contexts, compared.contexts[0]
    networks = compared.networks
    kept = _beside_these(kept, networks, say)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    entries = {item.key: _entry(item, contexts, out / "figures", say) | {"networks": networks} for item in chosen}
    equal = EqualAccuracy(compared)
    for item in chosen:
        if item.family == "robustness" and entries[item.key]["result"] is not None:
            entries[item.key]["equal_accuracy"] = equal.of(item)
    spread, arrays = spread_and_draw(run, settings, out / "figures")
    say(f"{spread['title']}: {spread['why_not'] or spread['overall'][spread['trained'] - 1]}")
    entries |= kept
    correct_entries(entries.values())
    names = {context.name for context in contexts[1:]}
    if any(set(entry["controls"]) != names for entry in kept.values() if entry["result"]):
        say("note: what is kept was made beside other controls; without --only all of it is made again")
    results = {
        "format": FORMAT,
        "columns": None if without else run.sheet.num_columns,
        "lacks": dict(run.lacks),
        "finished": bool(run.summary),
        "optimizer_steps": run.optimizer_steps,
        "settings": asdict(settings),
        "activity": None if without else main.activity.label,
        "probes": {name: len(getattr(probes, name)) for name in ("gratings", "natural", "noise")},
        "controls": [context.name for context in contexts[1:]],
        "about": {context.name: about(context) for context in contexts[1:]},
        "missing": compared.missing,
        "test_accuracy": paired_accuracies(compared) | {"confusion": draw_answers(run.path, out / "figures")},
        "spreading": spread,
        "inactive_columns": 0 if without else int((~main.active).sum()),
        "analyses": [entries[item.key] for item in CATALOGUE if item.key in entries],
        "seconds": round(perf_counter() - start, 1),
    }
    maps |= _maps(main) | arrays
    # Results last: where they are, the rest is.
    with replacing(out / "maps.npz") as partial:
        np.savez_compressed(partial, **maps)  # type: ignore[arg-type]
    write_text(out / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    say(f"wrote {out} in {results['seconds']} s" + (f"; {len(kept)} other analyses are kept" if kept else ""))
    return results


def _check_signal(run: Run, settings: Settings) -> None:
    if "columns" in run.lacks:
        if settings.signal != Settings().signal:
            raise ValueError(f"signal {settings.signal!r} is of columns, and {run.lacks['columns']}: leave it out")
        return
    net: Any = run.net.net
    if isinstance(net, OwnColumns):
        if settings.signal in net.lacks:
            raise ValueError(f"signal {settings.signal!r}: {net.lacks[str(settings.signal)]}")
        check_signal(run.net, settings.signal, net.channels)
        return
    check_signal(run.net, settings.signal, net.model.dim)
    head = net.options.head
    if settings.signal == "evidence" and head != "linear":
        raise ValueError(
            f"signal 'evidence': in task {run.config.task} an {head} answers to the mean over columns, which have no "
            "evidence by themselves: give another signal, such as hidden"
        )


def is_analyzed(run: Path) -> bool:
    """Whether a run has been analyzed since it was last trained."""
    results = RunFolder(run).analysis / "results.json"
    if not results.is_file():
        return False
    try:
        measured = json.loads(results.read_text(encoding="utf-8")).get("optimizer_steps")
    except (OSError, ValueError, AttributeError):
        measured = None  # the file's age is known, and whoever reads it says what is wrong with it
    return gone_on_to(RunFolder(run), measured, results) is None


def _kept(path: Path, chosen: list[Analysis], settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The folder's analyses of this checkpoint that are not made again, by name, and its maps."""
    if len(chosen) == len(CATALOGUE) or not is_analyzed(path):
        return {}, {}
    try:
        earlier = read_results(path)
    except ValueError:
        return {}, {}
    others = {item.key for item in CATALOGUE} - {item.key for item in chosen}
    kept = {entry["key"]: entry for entry in earlier["analyses"] if entry["key"] in others}
    for name in ("probes", "permutations", "nulls", "seed", "signal"):
        mine, theirs = getattr(settings, name), earlier["settings"].get(name)
        if kept and mine != theirs:
            raise ValueError(
                f"{str(RunFolder(path).analysis)!r} holds {len(kept)} other analyses with {name}={theirs}, "
                f"which would be lost: give the same here (got {mine}), or analyse all"
            )
    return kept, read_maps(RunFolder(path).analysis) if kept else {}


def _beside_these(
    kept: Mapping[str, dict[str, Any]], networks: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Those of the kept analyses whose controls are still the same networks, as far as they say which they were."""
    others = {
        key: [name for name, was in entry.get("networks", {}).items() if networks.get(name, was) != was]
        for key, entry in kept.items()
    }
    changed = list(dict.fromkeys(name for names in others.values() for name in names))
    if changed:
        count = sum(bool(names) for names in others.values())
        say(
            f"note: {count} other analyses are not kept, they were made beside another "
            f"{' and another '.join(changed)}: without --only they are made again"
        )
    return {key: entry for key, entry in kept.items() if not others[key]}


def read_results(run: Path) -> dict[str, Any]:
    """What :func:`analyse` found of a run.

    Raises:
        ValueError: where the run has not been analyzed, or what was written is broken or of another version.
    """
    place = RunFolder(run).analysis / "results.json"
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{str(run)!r} has not been analyzed: run colgraph analyze {run}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {str(place)!r}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        has = content.get("format") if isinstance(content, dict) else None
        raise ValueError(
            f"{str(place)!r} is of another version of colgraph (format {has}, this one reads {FORMAT}): run colgraph "
            f"analyze {run}"
        )
    return content


def read_maps(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the interactive sheet.

    Raises:
        ValueError: if there are none, or they are broken.
    """
    try:
        with np.load(folder / "maps.npz", allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {str(folder / 'maps.npz')!r}: {error}") from error


def _chosen(only: Iterable[str] | None) -> list[Analysis]:
    if only is None:
        return list(CATALOGUE)
    from colgraph.analysis.arrays import check_choice

    wanted = list(only)
    for name in wanted:
        check_choice("analysis", name, [item.key for item in CATALOGUE])
    return [item for item in CATALOGUE if item.key in wanted]


def _entry(item: Analysis, contexts: list[Context], figures: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """One analysis of the run and of its controls: numbers, and the figure's file."""
    start = perf_counter()
    entry: dict[str, Any] = {
        "key": item.key,
        "title": item.title,
        "family": item.family,
        "reading": contexts[0].said(item.reading),
        "result": None,
        "why_not": None,
        "controls": {},
        "figures": [],
    }
    result, why_not = attempt(item, contexts[0])
    entry["why_not"] = why_not
    if result is not None:
        entry["result"] = result.summary()
        others: dict[str, Result] = {}
        before: tuple[str, Result] | None = None
        for context in contexts[1:]:
            reason = no_control(item, context.kind)
            found, reason = (None, reason) if reason else attempt(item, context)
            entry["controls"][context.name] = (
                {"why_not": reason} if found is None else _of_control(found, item, context)
            )
            others |= {} if found is None else {context.name: found}
            if context.kind == "untrained" and found is not None:
                before = "all columns alike" if context.run.starts_alike else "", found
        on = None if "columns" in contexts[0].run.lacks else (contexts[0].sheet, contexts[0].active)
        entry["figures"] = draw_with_controls(item.title, result, others, before, figures, item.key, on=on)
    entry["seconds"] = round(perf_counter() - start, 1)
    if why_not is None or why_not != contexts[0].run.lacks.get("columns"):  # which is said once
        say(f"{item.title}: {why_not or _line(result)} ({entry['seconds']} s)")
    return entry


def _of_control(result: Result, item: Analysis, context: Context) -> dict[str, Any]:
    more = {"seed": context.seed, "note": note_of(item, context)}
    return result.summary() | {name: value for name, value in more.items() if value is not None}


def _line(result: Result | None) -> str:
    """The number with what it would be by chance, short enough for a terminal."""
    if result is None:
        return ""
    low, high = result.interval
    text = f"{result.value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else "")
    return text + (f", by chance {result.null.mean():.3g}, p = {result.p_value:.2g}" if len(result.null) else "")


def _maps(c: Context) -> dict[str, np.ndarray]:
    """Arrays for the interactive sheet; none without a sheet."""
    if "columns" in c.run.lacks:
        return {}
    sheet = c.sheet
    maps: dict[str, np.ndarray] = {
        "pos": sheet.pos.numpy(),
        "face": sheet.face.numpy().T,
        "edges": c.edges.astype(np.int32),
        "distance": c.distance.astype(np.float32),
        "layer": sheet.layer.numpy(),
        "inputs": (sheet.input_rank >= 0).numpy(),
        "outputs": sheet.output_mask.numpy(),
        "activity": c.natural_states.mean(0).astype(np.float32),
        "examples": c.natural_states[:: max(1, len(c.natural_states) // 6)][:6].astype(np.float32),
        "active": c.active,
    }
    if "attention" not in c.run.lacks:
        maps["attention"] = c.attention.astype(np.float32)
    if c.active.any():
        try:
            found = orientation(c)
        except ValueError:
            return maps
        for name, values in (("orientation", found.preference), ("selectivity", found.selectivity)):
            maps[name] = np.full(len(c.active), np.nan, dtype=np.float32)
            maps[name][c.active] = values
    if "reverse_correlation" in c.shared:
        maps["field_columns"] = np.flatnonzero(varying(c.noise)).astype(np.int32)
        maps["fields"] = reverse_correlation(c).field.mean(1).astype(np.float16)
    return maps
