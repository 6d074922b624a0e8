"""Everything about one run: each analysis beside its controls, written to the run's ``analysis`` folder."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from colgraph.analysis import Result
from colgraph.report.catalogue import CATALOGUE, NO_CONTROL, Analysis
from colgraph.report.context import Context, ProbeSet, Settings, make_probes
from colgraph.report.controls import Control, find_controls
from colgraph.report.figures import draw_with_controls
from colgraph.report.loading import Run, load_run
from colgraph.report.measures import orientation_of

__all__ = ["FORMAT", "analyse", "write_text"]

FORMAT = 2


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
        only: names of analyses (all if not given).
        say: is told what is going on.

    Returns:
        What ``RUN/analysis/results.json`` holds; figures and maps lie beside it.

    Raises:
        ValueError: for a folder that is no run, lacks its checkpoint, or an unknown analysis.
    """
    settings = settings or Settings()
    chosen = _chosen(only)
    start = perf_counter()
    run = load_run(path)
    probes = make_probes(run, settings)
    say(f"{run.sheet.num_columns:,} columns, {len(probes.gratings)} gratings, {len(probes.natural)} natural images")
    main = _context("run", run, run, probes, settings)
    contexts, missing = [main], []
    untrained = _context("untrained", run, run, probes, settings, net=run.untrained())
    main.shared["attention before"] = untrained.attention
    contexts += [untrained, main.shuffled()]
    for control in find_controls(run):
        found = _control_context(control, run, probes, settings)
        contexts.extend([] if found is None else [found])
        if control.path is None:
            missing.append({"name": control.name, "reason": control.reason})
    out = run.path / "analysis"
    (out / "figures").mkdir(parents=True, exist_ok=True)
    entries = [_entry(item, contexts, out / "figures", say) for item in chosen]
    results = {
        "format": FORMAT,
        "columns": run.sheet.num_columns,
        "finished": bool(run.summary),
        "settings": asdict(settings),
        "probes": {name: len(getattr(probes, name)) for name in ("gratings", "natural", "noise")},
        "controls": [context.name for context in contexts[1:]],
        "missing": missing,
        "inactive_columns": int((~main.active).sum()),
        "analyses": entries,
        "seconds": round(perf_counter() - start, 1),
    }
    write_text(out / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    np.savez_compressed(out / "maps.npz", **_maps(main))  # type: ignore[arg-type]
    say(f"wrote {out} in {results['seconds']} s")
    return results


def _chosen(only: Iterable[str] | None) -> list[Analysis]:
    if only is None:
        return list(CATALOGUE)
    from colgraph.analysis.arrays import check_choice

    wanted = list(only)
    for name in wanted:
        check_choice("analysis", name, [item.key for item in CATALOGUE])
    return [item for item in CATALOGUE if item.key in wanted]


def _context(name: str, source: Run, run: Run, probes: ProbeSet, settings: Settings, net: Any = None) -> Context:
    network = source.net if net is None else net
    positions = source.sheet.pos.numpy().astype(np.float64)
    return Context(name, network, source.sheet, positions, probes, settings, run, run.net)


def _control_context(control: Control, run: Run, probes: ProbeSet, settings: Settings) -> Context | None:
    if control.path is None:
        return None
    other = load_run(control.path, images=2)
    return _context(control.name, other, run, probes, settings)


def _entry(item: Analysis, contexts: list[Context], figures: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """One analysis of the run and of its controls: numbers, and the figure's file."""
    start = perf_counter()
    entry: dict[str, Any] = {
        "key": item.key,
        "title": item.title,
        "family": item.family,
        "reading": item.reading,
        "result": None,
        "why_not": None,
        "controls": {},
        "figures": [],
    }
    result, why_not = _attempt(item, contexts[0])
    entry["why_not"] = why_not
    if result is not None:
        entry["result"] = result.summary()
        others: dict[str, Result] = {}
        for context in contexts[1:]:
            if context.kind not in item.controls:
                entry["controls"][context.name] = {"why_not": NO_CONTROL[context.kind]}
                continue
            found, reason = _attempt(item, context)
            entry["controls"][context.name] = {"why_not": reason} if found is None else found.summary()
            others |= {} if found is None else {context.name: found}
        entry["figures"] = draw_with_controls(item.title, result, others, figures, item.key)
    entry["seconds"] = round(perf_counter() - start, 1)
    say(f"{item.title}: {why_not or _line(result)} ({entry['seconds']} s)")
    return entry


def _line(result: Result | None) -> str:
    """The number with what it would be by chance, short enough for a terminal."""
    if result is None:
        return ""
    low, high = result.interval
    text = f"{result.value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else "")
    return text + (f", by chance {result.null.mean():.3g}, p = {result.p_value:.2g}" if len(result.null) else "")


def _attempt(item: Analysis, context: Context) -> tuple[Result | None, str | None]:
    """A result, or why the analysis does not apply; a missing package is a reason, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return item.compute(context), None
    except (ValueError, ImportError) as error:
        return None, " ".join(str(error).split())


def _maps(c: Context) -> dict[str, np.ndarray]:
    """Arrays for the interactive sheet."""
    sheet = c.sheet
    maps: dict[str, np.ndarray] = {
        "pos": sheet.pos.numpy(),
        "face": sheet.face.numpy().T,
        "edges": c.edges.astype(np.int32),
        "attention": c.attention.astype(np.float32),
        "layer": sheet.layer.numpy(),
        "inputs": (sheet.input_rank >= 0).numpy(),
        "outputs": sheet.output_mask.numpy(),
        "activity": c.natural_states.mean(0).astype(np.float32),
        "examples": c.natural_states[:: max(1, len(c.natural_states) // 6)][:6].astype(np.float32),
        "active": c.active,
    }
    if c.active.any():
        try:
            orientation = orientation_of(c)
        except ValueError:
            return maps
        for name, values in (("orientation", orientation.preference), ("selectivity", orientation.selectivity)):
            maps[name] = np.full(len(c.active), np.nan, dtype=np.float32)
            maps[name][c.active] = values
    if "fields" in c.shared:
        columns, result = c.shared["fields"]
        maps["field_columns"] = columns.astype(np.int32)
        maps["fields"] = result.field.mean(1).astype(np.float16)
    return maps


def write_text(path: Path, text: str) -> None:
    """A text file, written whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
