"""Recordings of brains on a report's page: similarity of each network, and where on the sheet it is found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from colgraph.report.light_maps import MODELS
from colgraph.report.page_parts import absent, cells, csv_link, p_text, picture, short, table
from colgraph.training import RunFolder, gone_on_to


def recordings(run: RunFolder) -> str:
    """Similarity to recorded brains, where ``colgraph rsa`` has measured it, and whether the run has gone on since.

    Raises:
        ValueError: for a file that ``colgraph rsa`` has not written.
    """
    path = run.rsa
    if not path.is_file():
        return ""
    try:
        rows = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["default"] or "default_step" in row]
        first, body = rows[0], "".join(map(_recorded, rows))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{str(path)!r} is not what colgraph rsa writes: make it anew, or move it away") from error
    text = (
        f"How alike dissimilarities of {first['stimuli']} stimuli are in networks and in brains ({first['method']}, "
        "the mean over subjects). Intervals are over subjects and stimuli; p-values are corrected for all pairs of "
        "models of a recording. The noise ceiling is what a perfect model of these subjects would have at least, and "
        "at most. Trained controls are at the run's accuracy (in brackets), as far as they kept a checkpoint of it."
    )
    figure = picture(path.with_suffix(".png"), "similarity of the run, its controls and given models to each recording")
    heads = ("network or model", "step", "similarity", "95% interval", "this run minus it", "p, corrected", "accuracy")
    numbers = csv_link(f"{run.path.name}-recordings", [_plain(row) for row in rows])
    shown = (
        f"<p>{escape(text)}</p>{_gone_on(run, first.get('optimizer_steps'), path)}{figure}{table(heads, body, numbers)}"
    )
    return f"<section id='recordings'><h2>Recordings of brains</h2>{shown}</section>"


def _gone_on(run: RunFolder, measured: int | None, written: Path) -> str:
    now = gone_on_to(run, measured, written)
    if now is None:
        return ""
    earlier = "an earlier checkpoint" if measured is None else f"the checkpoint after {measured} optimizer steps"
    return f"<p><b>The run has gone on since</b>: this is of {earlier}, its newest is after {now}.</p>"


def _recorded(row: Mapping[str, Any]) -> str:
    name = f"run, as accurate as {row['equal_to']}" if "equal_to" in row else row["model"]
    low, high = row["interval"]
    measured = row.get("accuracy", {})
    accuracy = f"{100 * measured['own']:.1f}% ({100 * measured['other']:.1f}%)" if "own" in measured else ""
    ends = "" if low is None else f"{short(low)} to {short(high)}"
    apart = row.get("run_minus_this", {})
    tested = [short(apart["difference"]), p_text(apart["p_corrected"])] if apart else ["", ""]
    texts, head = [row["step"] or "", short(row["similarity"]), ends, *tested, accuracy], ""
    if name == "run":
        about = f"{row['recording']}: {row['subjects']} subject{'s' * (row['subjects'] != 1)}"
        about += "" if row["ceiling"] is None else ", noise ceiling " + " to ".join(map(short, row["ceiling"]))
        head = f"<tr><th scope='rowgroup' colspan='7'>{escape(about)}</th></tr>"
    return f"{head}<tr><th scope='row'>{escape(name)}</th>{cells(map(str, texts))}</tr>"


def searchlight(lights: dict[str, Any] | None, run: RunFolder) -> str:
    """Where recordings are found on the sheet, beside the controls; nothing where none was searched."""
    if lights is None:
        return ""
    text = (
        f"For each column, how alike the dissimilarities of {lights['stimuli']} stimuli are in its neighborhood and in "
        f"the recording ({escape(lights['light']['method'])}). What a column sees is like the recording, too: only "
        "what is beyond the input and the untrained network was learned. By chance is the largest column of shuffled "
        "stimuli; columns above chance are those beyond 95% of these."
    )
    heads = ("network", "mean", "largest", "by chance", "p", "columns above chance")
    parts = [f"<section id='searchlight'><h2>Searchlight: where is a recording found?</h2><p>{text}</p>"]
    parts.append(_gone_on(run, lights.get("optimizer_steps"), run.searchlight))
    for recording in lights["recordings"]:
        people = "" if recording["subjects"] == 1 else f" (mean of {recording['subjects']} subjects)"
        rows = "".join(_light_row(one) for one in recording["models"])
        shown = picture(run.path / recording.get("figure", ""), f"searchlight: {recording['name']}")
        plain = [
            {key: value for key, value in one.items() if not isinstance(value, list | dict)}
            for one in recording["models"]
        ]
        numbers = csv_link(f"{run.path.name}-searchlight-{recording['name']}", plain)
        parts.append(f"<h3>{escape(recording['name'])}{people}</h3>{shown}{table(heads, rows, numbers)}")
    return "".join([*parts, "</section>"])


def _light_row(one: Mapping[str, Any]) -> str:
    name = MODELS[one["model"]]
    if "map" not in one:
        return absent(name, one["why_not"])
    chance = f"{short(one['null_mean'])} &plusmn; {short(one['null_std'])}"
    above = f"{one['significant']:,} of {one['columns']:,}"
    texts = [short(one["mean"]), short(one["value"]), chance, p_text(one["p_value"]), above]
    return f"<tr><th scope='row'>{escape(name)}</th>{cells(texts)}</tr>"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``rsa.json`` with a cell for each of its numbers."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}_{key}": one for key, one in value.items()}
        elif isinstance(value, list) and len(value) == 2:
            found |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif not isinstance(value, list):
            found[name] = value
    return found
