"""One self-contained page about a run, that opens from disk without a network."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.output import check_file, write_text
from colgraph.report.analyse import read_maps, read_results
from colgraph.report.light_maps import MODELS, light_maps, read_lights
from colgraph.report.spreading import spreading_from
from colgraph.sheet import Sheet
from colgraph.training import RunFolder
from colgraph.viz.step_answers import spreading_viewer
from colgraph.viz.viewer import SheetMap, viewer_html, viewer_views

_FAMILIES = {
    "topography": "Topography: does place matter?",
    "connectivity": "Connectivity: who listens to whom?",
    "representation": "Representation: what do the steps do?",
    "fields": "Receptive fields: what does a column see?",
    "robustness": "Robustness: what does it withstand?",
}
_ROLES = ("neither", "input", "read out", "both")
_SUMMARY = ("test_accuracy", "train_loss", "wiring_cost", "parameters", "seconds", "seed", "fingerprint")
_SETTINGS = ("data", "geometry", "neighbors", "dim", "steps", "untied", "wiring", "epochs", "inject")


def write_page(run: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write the page of a run that has been analysed.

    Raises:
        ValueError: where the analysis is missing, broken or of another version, or the page cannot be written.
    """
    folder, path = Path(run), check_page(out)
    results, maps = read_results(folder), read_maps(RunFolder(folder).analysis)
    lights = read_lights(folder, len(maps["pos"]))
    geometry = str(RunFolder(folder).results().get("geometry", ""))
    body = "\n".join(
        [
            _head(folder, results),
            f"<section><h2>The sheet</h2>{_viewer(maps, results['activity'], light_maps(lights), geometry)}</section>",
            _spreading(results.get("spreading"), maps, folder),
            _curves(folder),
            _accuracy(results["test_accuracy"]),
            _recordings(RunFolder(folder).rsa),
            *(_family(name, title, results, folder) for name, title in _FAMILIES.items()),
            _searchlight(lights, folder),
        ]
    )
    write_text(path, fill_page(f"colgraph: {folder.name}", body))
    return path


def fill_page(title: str, body: str) -> str:
    """A whole page, from its title and the HTML of its body."""
    empty = files("colgraph.report").joinpath("page.html").read_text(encoding="utf-8")
    return empty.replace("{title}", escape(title)).replace("{body}", body)


def check_page(out: str | os.PathLike[str]) -> Path:
    """The path of a page, or a ValueError that says why none can be written there."""
    return check_file("--output", out, [".html", ".htm"])


def _viewer(maps: dict[str, NDArray[Any]], activity: str, more: list[SheetMap], geometry: str) -> str:
    n = len(maps["pos"])
    edges, attention = maps["edges"], maps["attention"].astype(np.float64)
    other = edges[0] != edges[1]
    spoken = np.bincount(edges[0][other], attention[other], n)
    heard = np.bincount(edges[1][other], attention[other], n)
    shown = [
        SheetMap("activity (mean)", maps["activity"], f"{activity}, mean over natural images"),
        *(
            SheetMap(f"activity, image {i + 1}", one, f"{activity}, for one natural image")
            for i, one in enumerate(maps["examples"])
        ),
        SheetMap("in-strength", heard, "attention to others (the rest goes to itself)"),
        SheetMap("out-strength", spoken, "attention of others"),
        SheetMap("wire", np.bincount(edges[1], attention * maps["distance"], n), "expected length listened through"),
        SheetMap("layer", maps["layer"], "layer or hemisphere", "labels"),
        SheetMap("inputs and outputs", maps["inputs"] + 2 * maps["outputs"], "", "labels", _ROLES),
        *more,
    ]
    if "orientation" in maps:
        shown.insert(
            0,
            SheetMap(
                "preferred orientation",
                maps["orientation"],
                "of the bars: 0\u00b0 horizontal, 90\u00b0 vertical; grey: none",
                "cyclic",
            ),
        )
        shown.insert(1, SheetMap("orientation selectivity", maps["selectivity"], "0 to 1"))
    fields = (maps["field_columns"], maps["fields"]) if "fields" in maps else None
    views = viewer_views(_sheet(maps, geometry))
    return viewer_html(
        maps["pos"], shown, edges=edges, attention=attention, faces=maps["face"], fields=fields, views=views
    )


def _sheet(maps: Mapping[str, NDArray[Any]], geometry: str) -> Sheet:
    """The sheet of which the arrays are, as far as it is seen."""
    return Sheet.from_edges(
        maps["edges"].astype(np.int64),
        len(maps["pos"]),
        edge_distance=maps["distance"],
        pos=maps["pos"],
        inputs=np.flatnonzero(maps["inputs"]),
        layer=maps["layer"],
        face=maps["face"].T,
        geometry=geometry,
    )


def _spreading(entry: dict[str, Any] | None, maps: dict[str, NDArray[Any]], folder: Path) -> str:
    """The slider over steps; nothing where an earlier version has analysed the run."""
    if entry is None:
        return ""
    head = f"<section id='answers'><h2>{escape(entry['title'])}</h2>"
    if entry["why_not"]:
        return f"{head}<p class='quiet'>Left out: {escape(entry['why_not'])}.</p></section>"
    text = (
        "What columns say of a few held-out images after each step, up to twice as many as were trained. White is "
        "undecided; a dot marks a column whose answer is wrong. "
        f"Accuracy is the {escape(entry['accuracy_is'])}."
    )
    still = _image(RunFolder(folder).analysis / entry["figure"]["file"], entry["figure"]["alt"])
    viewer = spreading_viewer(spreading_from(entry, maps))
    return f"{head}<p>{text}</p>{viewer}<noscript>{still}</noscript></section>"


def _searchlight(lights: dict[str, Any] | None, folder: Path) -> str:
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
    if lights["older"]:
        parts.append("<p><b>The run has gone on since</b>: this is of an earlier checkpoint.</p>")
    for recording in lights["recordings"]:
        people = "" if recording["subjects"] == 1 else f" (mean of {recording['subjects']} subjects)"
        rows = "".join(_light_row(one) for one in recording["models"])
        picture = _image(folder / recording.get("figure", ""), f"searchlight: {recording['name']}")
        parts.append(f"<h3>{escape(recording['name'])}{people}</h3>{picture}{_table(heads, rows)}")
    return "".join([*parts, "</section>"])


def _light_row(one: Mapping[str, Any]) -> str:
    name = MODELS[one["model"]]
    if "map" not in one:
        return _absent(name, one["why_not"])
    chance = f"{_short(one['null_mean'])} &plusmn; {_short(one['null_std'])}"
    above = f"{one['significant']:,} of {one['columns']:,}"
    cells = [_short(one["mean"]), _short(one["value"]), chance, _p(one["p_value"]), above]
    return f"<tr><th scope='row'>{escape(name)}</th>{_cells(cells)}</tr>"


def _head(folder: Path, results: dict[str, Any]) -> str:
    summary, config = RunFolder(folder).results(), RunFolder(folder).settings()
    rows = [(name.replace("_", " "), summary[name]) for name in _SUMMARY if name in summary]
    rows = [(name, str(value)[:12] if name == "fingerprint" else value) for name, value in rows]
    rows += [(name, config[name]) for name in _SETTINGS if config.get(name) is not None]
    cells = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(_short(v))}</dd></div>" for k, v in rows)
    missing = "".join(f"<li><b>{escape(m['name'])}</b>: {escape(m['reason'])}</li>" for m in results["missing"])
    idle = results["inactive_columns"]
    note = f"<p>{idle:,} columns answer no probe and are left out of the maps.</p>" if idle else ""
    if not results["finished"]:
        note += "<p><b>The run had not ended when it was analysed</b>: this is its last checkpoint.</p>"
    lacking = (
        f"<details open><summary>Controls that are missing</summary><ul>{missing}</ul></details>" if missing else ""
    )
    about = "".join(f"<li><b>{escape(n)}</b>: {escape(text)}</li>" for n, text in results["about"].items())
    about = f"<details open><summary>What each control takes away</summary><ul>{about}</ul></details>"
    probes = ", ".join(f"{count} {name}" for name, count in results["probes"].items())
    return (
        f"<header><h1>{escape(folder.name)}</h1><dl class='facts'>{cells}</dl></header>"
        f"<section><h2>How to read this page</h2><p>Every number stands beside what chance gives (the grey null) and "
        f"beside its controls. Where a control gives a number by the way it is made, a note says so. A map of a sheet "
        f"with local edges looks smooth before any training; only what differs from the controls was learned. What a "
        f"map shows of a column is the {escape(results['activity'])}. Intervals are 95%, over stimuli or blocks of the "
        f"sheet, of this one run; a cell is empty where there is no null, or too few images or columns for one. "
        f"Of many p-values some are small by chance: the last column corrects them for the number of measures of the "
        f"same network (the false discovery "
        f"rate of Benjamini and Hochberg). Probes: {escape(probes)}.</p>{note}{about}{lacking}</section>"
    )


def _curves(folder: Path) -> str:
    images = ("curves.png", "plasticity.png", "attention_by_distance.png", "sheet.png", "column.png")
    shown = [_image(RunFolder(folder).figures / name, name.split(".")[0].replace("_", " ")) for name in images]
    found = [one for one in shown if one]
    return f"<section class='wide'><h2>Training</h2>{''.join(found)}</section>" if found else ""


def _image(path: Path, what: str) -> str:
    if not path.is_file():
        return ""
    text = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{text}"></figure>'


def _family(name: str, title: str, results: dict[str, Any], folder: Path) -> str:
    entries = [entry for entry in results["analyses"] if entry["family"] == name]
    if not entries:
        return ""
    return f"<section><h2>{escape(title)}</h2>{''.join(_entry(entry, folder) for entry in entries)}</section>"


def _entry(entry: dict[str, Any], folder: Path) -> str:
    head = f"<article id='{escape(entry['key'])}'><h3>{escape(entry['title'])}</h3>"
    if entry["result"] is None:
        return f"{head}<p class='quiet'>Does not apply: {escape(entry['why_not'])}.</p></article>"
    shown = "".join(_image(RunFolder(folder).analysis / one["file"], one["alt"]) for one in entry["figures"])
    figure = f"<div class='pictures'>{shown}</div>"
    rows = _row("this run", entry["result"])
    for control, found in entry["controls"].items():
        rows += _row(control, found) if "value" in found else _absent(control, found["why_not"])
    table = _table(("network", "value", "95% interval", "by chance", "p", "p, corrected"), rows)
    unit = f" ({escape(entry['result']['unit'])})" if entry["result"]["unit"] else ""
    name = f"<p><b>{escape(entry['result']['name'])}</b>{unit}</p>"
    equal = _equal(entry.get("equal_accuracy", {}))
    more = _beyond(entry["result"])
    return f"{head}<p>{escape(entry['reading'])}</p>{figure}{name}{table}{more}{equal}</article>"


def _table(heads: Sequence[str], rows: str) -> str:
    cells = "".join(f"<th scope='col'>{head}</th>" for head in heads)
    return f"<div class='scroll'><table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"


def _row(name: str, found: Mapping[str, Any]) -> str:
    chance = (
        "" if found.get("null_mean") is None else f"{_short(found['null_mean'])} &plusmn; {_short(found['null_std'])}"
    )
    note = f"<br><span class='quiet'>{escape(found['note'])}</span>" if "note" in found else ""
    cells = [_short(found["value"]), _interval(found), chance, _p(found["p_value"]), _p(found.get("p_fdr"))]
    return f"<tr><th scope='row'>{escape(name)}{note}</th>{_cells(cells)}</tr>"


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _interval(found: Mapping[str, Any], times: float = 1) -> str:
    return "" if found["low"] is None else f"{_short(times * found['low'])} to {_short(times * found['high'])}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _absent(name: str, reason: str, columns: int = 5) -> str:
    cell = f"<td colspan='{columns}' class='quiet'>{escape(reason)}</td>"
    return f"<tr><th scope='row'>{escape(name)}</th>{cell}</tr>"


def _beyond(found: Mapping[str, Any]) -> str:
    """The largest value that there can be, that of the input, and what is left given the input."""
    lines = []
    if found.get("attainable") is not None:
        lines.append(f"The largest value that can be had is {_short(found['attainable'])}")
    if found.get("input") is not None:
        lines.append(f"that of the input is {_short(found['input'])}")
    if found.get("partial"):
        partial = found["partial"]
        p = f", p = {_p(partial['p_value'])}" if partial["p_value"] is not None else ""
        lines.append(f"given the input {_short(partial['value'])} ({_interval(partial)}{p}) is left")
    return f"<p>{escape('; '.join(lines))}.</p>" if lines else ""


def _equal(equal: Mapping[str, Any]) -> str:
    """Robustness where run and control are equally accurate."""
    rows = ""
    for name, found in equal.items():
        if "match" not in found:
            rows += _absent(name, found["why_not"])
            continue
        match = found["match"]
        sides = (f"{_short(found[side]['value'])} ({_interval(found[side])})" for side in ("run", "control"))
        of = f"{'this run' if match['of'] == 'run' else 'the control'}: {escape(match['checkpoint'])}"
        clean = [f"{100 * one:.1f}%" for one in match["accuracy"]]
        rows += f"<tr><th scope='row'>{escape(name)}</th>{_cells([*sides, *clean, of])}</tr>"
    if not rows:
        return ""
    heads = ("control", "this run", "control", "clean: this run", "clean: control", "an earlier checkpoint of")
    note = "At equal accuracy on clean images; the checkpoint was chosen on other images than these."
    return f"<p>{note}</p>{_table(heads, rows)}"


def _accuracy(found: Mapping[str, Any]) -> str:
    """The run and its trained controls on the same test images."""
    run = found["run"]
    if "why_not" in run:
        return f"<section><h2>Accuracy</h2><p class='quiet'>{escape(run['why_not'])}</p></section>"
    share = f"{100 * run['value']:.1f}% on {run['images']:,} test images"
    means = f": {escape(found['accuracy_is'])}" if found.get("accuracy_is") else ""
    text = f"<p>{share} (95% interval {_interval(run, 100)}, over images){means}.</p>"
    rows = ""
    for name, one in found["controls"].items():
        if "value" not in one:
            rows += _absent(name, one["why_not"], 6)
            continue
        alone = "" if one["only_first"] is None else f"{one['only_first']:.0f} and {one['only_second']:.0f}"
        cells = [f"{100 * one['accuracy']:.1f}%", f"{100 * one['value']:+.1f}", _interval(one, 100), alone]
        rows += f"<tr><th scope='row'>{escape(name)}</th>{_cells([*cells, _p(one['p_value']), _p(one['p_fdr'])])}</tr>"
    test = "McNemar" if all(one.get("only_first", 0) is not None for one in found["controls"].values()) else "t"
    heads = (
        "control",
        "its accuracy",
        "this run minus it",
        "95% interval",
        "right alone",
        f"p ({test})",
        "p, corrected",
    )
    table = f"<p>On the same images, in percentage points:</p>{_table(heads, rows)}" if rows else ""
    return f"<section><h2>Accuracy</h2>{text}{table}</section>"


def _recordings(path: Path) -> str:
    """Similarity to recorded brains, where ``colgraph rsa`` has measured it."""
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
    figure = _image(path.with_suffix(".png"), "similarity of the run, its controls and given models to each recording")
    heads = ("network or model", "step", "similarity", "95% interval", "this run minus it", "p, corrected", "accuracy")
    table = _table(heads, body)
    return f"<section id='recordings'><h2>Recordings of brains</h2><p>{escape(text)}</p>{figure}{table}</section>"


def _recorded(row: Mapping[str, Any]) -> str:
    name = f"run, as accurate as {row['equal_to']}" if "equal_to" in row else row["model"]
    low, high = row["interval"]
    measured = row.get("accuracy", {})
    accuracy = f"{100 * measured['own']:.1f}% ({100 * measured['other']:.1f}%)" if "own" in measured else ""
    ends = "" if low is None else f"{_short(low)} to {_short(high)}"
    apart = row.get("run_minus_this", {})
    tested = [_short(apart["difference"]), _p(apart["p_corrected"])] if apart else ["", ""]
    cells, head = [row["step"] or "", _short(row["similarity"]), ends, *tested, accuracy], ""
    if name == "run":
        about = f"{row['recording']}: {row['subjects']} subject{'s' * (row['subjects'] != 1)}"
        about += "" if row["ceiling"] is None else ", noise ceiling " + " to ".join(map(_short, row["ceiling"]))
        head = f"<tr><th scope='rowgroup' colspan='7'>{escape(about)}</th></tr>"
    return f"{head}<tr><th scope='row'>{escape(name)}</th>{_cells(map(str, cells))}</tr>"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)[:60]
