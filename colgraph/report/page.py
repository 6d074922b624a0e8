"""One self-contained page about a run, that opens from disk without a network."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.output import check_file, write_text
from colgraph.report.analyse import read_maps, read_results
from colgraph.report.light_maps import light_maps, read_lights
from colgraph.report.needs import WITHOUT
from colgraph.report.page_parts import absent, cells, csv_link, in_unit, interval, p_text, picture, short, table
from colgraph.report.page_recordings import recordings, searchlight
from colgraph.report.provenance import provenance, summary_facts
from colgraph.report.spreading import spreading_from
from colgraph.report.verdict import against_controls, entry_rows, verdict
from colgraph.sheet import Sheet
from colgraph.tasks import make_task
from colgraph.training import RunFolder
from colgraph.viz.step_answers import spreading_viewer
from colgraph.viz.viewer import SheetMap, viewer_html, viewer_views, whole_page

_FAMILIES = {
    "topography": "Topography: does place matter?",
    "connectivity": "Connectivity: who listens to whom?",
    "representation": "Representation: what do the steps do?",
    "fields": "Receptive fields: what does a column see?",
    "robustness": "Robustness: what does it withstand?",
}
_ROLES = ("neither", "input", "read out", "both")
_SETTINGS = ("data", "geometry", "neighbors", "dim", "steps", "untied", "wiring", "epochs", "inject")
_OF_BASELINES = ("model", "data", "dim", "depth", "steps", "epochs", "batch_size", "lr", "augment")


def write_page(run: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write the page of a run that has been analyzed.

    Raises:
        ValueError: where the analysis is missing, broken or of another version, or the page cannot be written.
    """
    folder, path = Path(run), check_page(out)
    results, maps = read_results(folder), read_maps(RunFolder(folder).analysis)
    without = "pos" not in maps
    lights = None if without else read_lights(folder, len(maps["pos"]))
    geometry = str(RunFolder(folder).results().get("geometry", ""))
    sheet = "" if without else _viewer(maps, results["activity"], light_maps(lights), geometry)
    sections = [
        _section("sheet", "The sheet", sheet) if sheet else "",
        _spreading(results.get("spreading"), maps, folder),
        _accuracy(results["test_accuracy"], folder),
        against_controls(results, folder.name),
        _training(folder),
        recordings(RunFolder(folder)),
        *(_family(name, title, results, folder) for name, title in _FAMILIES.items()),
        searchlight(lights, RunFolder(folder)),
        _without_sheet(results) if without else "",
        _reading(results),
        provenance(folder, results),
    ]
    body = "\n".join([_head(folder, results), _contents(sections), *sections])
    write_text(path, fill_page(f"colgraph: {folder.name}", body))
    return path


def _section(name: str, title: str, body: str) -> str:
    return f"<section id='{name}'><h2>{escape(title)}</h2>{body}</section>"


def _contents(sections: list[str]) -> str:
    """Links to the sections that there are, by their headings, each with those below it."""
    found = []
    for section in sections:
        head = re.match(r"<section id='([^']+)'><h2>(.*?)</h2>", section)
        if head is not None:
            below = re.findall(r"<article id='([^']+)'><h3>(.*?)</h3>", section)
            inner = ", ".join(f"<a href='#{name}'>{title}</a>" for name, title in below)
            within = f"<span>{inner}</span>" if inner else ""
            found.append(f"<li><a href='#{head[1]}'>{head[2].partition(':')[0]}</a>{within}</li>")
    return f"<nav aria-label='Contents'><h2>Contents</h2><ul>{''.join(found)}</ul></nav>"


def fill_page(title: str, body: str) -> str:
    """A whole page, from its title and the HTML of its body."""
    return whole_page(title, files("colgraph.report").joinpath("page.css").read_text("utf-8"), body)


def check_page(out: str | os.PathLike[str]) -> Path:
    """The path of a page, or a ValueError that says why none can be written there."""
    return check_file("--output", out, [".html", ".htm"])


def _viewer(maps: dict[str, NDArray[Any]], activity: str, more: list[SheetMap], geometry: str) -> str:
    edges = maps["edges"]
    shown = [
        SheetMap("activity (mean)", maps["activity"], f"{activity}, mean over natural images"),
        *(
            SheetMap(f"activity, image {i + 1}", one, f"{activity}, for one natural image")
            for i, one in enumerate(maps["examples"])
        ),
        *_wired(maps),
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
        maps["pos"], shown, edges=edges, attention=maps.get("attention"), faces=maps["face"], fields=fields, views=views
    )


def _wired(maps: Mapping[str, NDArray[Any]]) -> list[SheetMap]:
    """What columns listen to, where that is known."""
    if "attention" not in maps:
        return []
    edges, attention, n = maps["edges"], maps["attention"].astype(np.float64), len(maps["pos"])
    other = edges[0] != edges[1]
    spoken = np.bincount(edges[0][other], attention[other], n)
    heard = np.bincount(edges[1][other], attention[other], n)
    wire = np.bincount(edges[1], attention * maps["distance"], n)
    return [
        SheetMap("in-strength", heard, "attention to others (the rest goes to itself)"),
        SheetMap("out-strength", spoken, "attention of others"),
        SheetMap("wire", wire, "expected length listened through"),
    ]


def _without_sheet(results: Mapping[str, Any]) -> str:
    """What a sheet would add, and which analyses are missing without one."""
    reason = escape(results["lacks"]["columns"])
    left_out = [
        escape(entry["title"]) for entry in results["analyses"] if entry["why_not"] == results["lacks"]["columns"]
    ]
    listed = f"<p class='quiet'>Left out, for want of columns: {'; '.join(left_out)}.</p>" if left_out else ""
    text = f"<p>{reason[0].upper()}{reason[1:]}. {escape(WITHOUT)}</p>{listed}"
    return _section("sheet", "No sheet", text)


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
    """The slider over steps; nothing without a sheet, and where an earlier version has analyzed the run."""
    if entry is None or not maps:
        return ""
    head = f"<section id='answers'><h2>{escape(entry['title'])}</h2>"
    if entry["why_not"]:
        return f"{head}<p class='quiet'>Left out: {escape(entry['why_not'])}.</p></section>"
    text = (
        "What columns say of a few held-out images after each step, up to twice as many as were trained. White is "
        "undecided; a dot marks a column whose answer is wrong. "
        f"Accuracy is the {escape(entry['accuracy_is'])}."
    )
    still = picture(RunFolder(folder).analysis / entry["figure"]["file"], entry["figure"]["alt"])
    viewer = spreading_viewer(spreading_from(entry, maps))
    return f"{head}<p>{text}</p>{viewer}<noscript>{still}</noscript></section>"


def _head(folder: Path, results: dict[str, Any]) -> str:
    config = RunFolder(folder).settings()
    rows = summary_facts(RunFolder(folder).results())
    rows += [(name, short(config[name])) for name in _settings(folder) if config.get(name) is not None]
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows)
    note = ""
    if not results["finished"]:
        note = "<p><b>The run had not ended when it was analyzed</b>: this is its last checkpoint.</p>"
    return f"<header><h1>{escape(folder.name)}</h1>{note}</header>{verdict(results)}<dl class='facts'>{facts}</dl>"


def _settings(folder: Path) -> list[str]:
    """The settings that are named first, those that play a part."""
    config = RunFolder(folder).record().config
    names = _SETTINGS if config.baseline is None else _OF_BASELINES
    return [name for name in names if config.lacks(name) is None]


def _reading(results: dict[str, Any]) -> str:
    if results["columns"] is None:
        return _reading_without(results)
    missing = "".join(f"<li><b>{escape(m['name'])}</b>: {escape(m['reason'])}</li>" for m in results["missing"])
    idle = results["inactive_columns"]
    note = f"<p>{idle:,} columns answer no probe and are left out of the maps.</p>" if idle else ""
    lacking = f"<details><summary>Controls that are missing</summary><ul>{missing}</ul></details>" if missing else ""
    about = "".join(f"<li><b>{escape(n)}</b>: {escape(text)}</li>" for n, text in results["about"].items())
    about = f"<details open><summary>What each control takes away</summary><ul>{about}</ul></details>"
    probes = ", ".join(f"{count} {name}" for name, count in results["probes"].items())
    return (
        f"<section id='reading'><h2>How to read this page</h2><p>Every number stands beside what chance gives (the "
        f"grey null) and beside its controls. Where a control gives a number by the way it is made, a note says so. A "
        f"map of a sheet with local edges looks smooth before any training; only what differs from the controls was "
        f"learned. What a map shows of a column is the {escape(results['activity'])}. Intervals are 95%, over stimuli "
        f"or blocks of the sheet, of this one run; a cell is empty where there is no null, or too few images or "
        f"columns for one. Of many p-values some are small by chance: the last column corrects them for the number of "
        f"measures of the same network (the false discovery rate of Benjamini and Hochberg). "
        f"Probes: {escape(probes)}.</p>"
        f"{note}{about}{lacking}</section>"
    )


def _reading_without(results: Mapping[str, Any]) -> str:
    """The same of a network without columns."""
    missing = "".join(f"<li><b>{escape(m['name'])}</b>: {escape(m['reason'])}</li>" for m in results["missing"])
    text = (
        "Numbers stand beside what chance gives, where there is such a number. Intervals are 95%, over images, of this "
        "one run; how much networks of other seeds differ, colgraph compare says. Networks that err more on clean "
        "images err more on all others: compare at equal accuracy."
    )
    lacking = f"<details><summary>Controls that are missing</summary><ul>{missing}</ul></details>"
    return _section("reading", "How to read this page", f"<p>{text}</p>{lacking}")


_TRAINING = {
    "curves.png": "accuracy, loss and wiring cost over epochs",
    "plasticity.png": "edges won and lost over the run",
    "attention_by_distance.png": "attention by distance, before and after training",
    "sheet.png": "the sheet, its inputs and columns that are read out",
    "column.png": "what one column listens to",
}


def _training(folder: Path) -> str:
    found = [one for name, what in _TRAINING.items() if (one := picture(RunFolder(folder).figures / name, what))]
    if not found:
        return ""
    return f"<section id='training'><h2>Training</h2>{_training_loss(RunFolder(folder))}{''.join(found)}</section>"


def _training_loss(run: RunFolder) -> str:
    """Why the training loss of a run is not comparable with the held-out one, where it smooths labels."""
    if not run.is_run:
        return ""
    config = run.record().config
    task = make_task(config)
    vectors = False
    if task.labels == "column" and task.smooths:
        # Whether columns are asked for classes the data say alone, and what was answered to them.
        predicted = None
        with contextlib.suppress(ValueError):
            predicted = run.predicted()
        vectors = predicted is None or "score" in predicted
    smoothing = task.smoothing(vectors)
    if not smoothing:
        return ""
    least = ", below whose entropy it cannot fall" if config.class_weights == "none" else " and weights of classes"
    images = "" if config.augment == "none" else ", and on augmented images"
    return (
        f"<p>The training loss is not comparable with the held-out one: it is taken with label smoothing of "
        f"{smoothing:g}{least}{images}.</p>"
    )


def _family(name: str, title: str, results: dict[str, Any], folder: Path) -> str:
    entries = [entry for entry in results["analyses"] if entry["family"] == name]
    if results["columns"] is None:  # what there is without columns; the rest is named with the sheet
        entries = [entry for entry in entries if entry["why_not"] != results["lacks"]["columns"]]
    if not entries:
        return ""
    return _section(f"family-{name}", title, "".join(_entry(entry, folder) for entry in entries))


def _entry(entry: dict[str, Any], folder: Path) -> str:
    head = f"<article id='{escape(entry['key'])}'><h3>{escape(entry['title'])}</h3>"
    if entry["result"] is None:
        return f"{head}<p class='quiet'>Does not apply: {escape(entry['why_not'])}.</p></article>"
    drawn = "".join(picture(RunFolder(folder).analysis / one["file"], one["alt"]) for one in entry["figures"])
    figure = f"<div class='pictures'>{drawn}</div>"
    rows = _row("this run", entry["result"])
    for control, found in entry["controls"].items():
        rows += _row(control, found) if "value" in found else absent(control, found["why_not"])
    numbers = csv_link(f"{folder.name}-{entry['key']}", entry_rows(entry))
    shown = table(("network", "value", "95% interval", "by chance", "p", "p, corrected"), rows, numbers)
    unit = f" ({escape(entry['result']['unit'])})" if entry["result"]["unit"] else ""
    name = f"<p><b>{escape(entry['result']['name'])}</b>{unit}</p>"
    equal = _equal(entry.get("equal_accuracy", {}))
    more = _beyond(entry["result"])
    numbers = f"<details><summary>Numbers of this run and its controls</summary>{shown}</details>"
    return f"{head}<p>{escape(entry['reading'])}</p>{figure}{name}{more}{numbers}{equal}</article>"


def _row(name: str, found: Mapping[str, Any]) -> str:
    unit = found.get("unit", "")
    chance, ends = "", ""
    if found.get("null_mean") is not None:
        chance = f"{in_unit(found['null_mean'], unit)} &plusmn; {in_unit(found['null_std'], unit)}"
    if found["low"] is not None:
        ends = f"{in_unit(found['low'], unit)} to {in_unit(found['high'], unit)}"
    note = f"<br><span class='quiet'>{escape(found['note'])}</span>" if "note" in found else ""
    texts = [in_unit(found["value"], unit), ends, chance, p_text(found["p_value"]), p_text(found.get("p_fdr"))]
    return f"<tr><th scope='row'>{escape(name)}{note}</th>{cells(texts)}</tr>"


def _beyond(found: Mapping[str, Any]) -> str:
    """The largest value that there can be, that of the input, and what is left given the input."""
    lines = []
    if found.get("attainable") is not None:
        lines.append(f"the largest value that can be had is {short(found['attainable'])}")
    if found.get("input") is not None:
        lines.append(f"that of the input is {short(found['input'])}")
    if found.get("partial"):
        partial = found["partial"]
        p = f", p = {p_text(partial['p_value'])}" if partial["p_value"] is not None else ""
        lines.append(f"given the input {short(partial['value'])} ({interval(partial)}{p}) is left")
    text = escape("; ".join(lines))
    return f"<p>{text[0].upper()}{text[1:]}.</p>" if lines else ""


def _equal(equal: Mapping[str, Any]) -> str:
    """Robustness where run and control are equally accurate."""
    rows = ""
    for name, found in equal.items():
        if "match" not in found:
            rows += absent(name, found["why_not"])
            continue
        match = found["match"]
        sides = (f"{short(found[side]['value'])} ({interval(found[side])})" for side in ("run", "control"))
        of = f"{'this run' if match['of'] == 'run' else 'the control'}: {escape(match['checkpoint'])}"
        clean = [f"{100 * one:.1f}%" for one in match["accuracy"]]
        rows += f"<tr><th scope='row'>{escape(name)}</th>{cells([*sides, *clean, of])}</tr>"
    if not rows:
        return ""
    heads = ("control", "this run", "control", "clean: this run", "clean: control", "an earlier checkpoint of")
    note = "At equal accuracy on clean images; the checkpoint was chosen on other images than these."
    return f"<p>{note}</p>{table(heads, rows)}"


def _accuracy(found: Mapping[str, Any], folder: Path) -> str:
    """The run and its trained controls on the same test images."""
    run = found["run"]
    if "why_not" in run:
        return f"<section id='accuracy'><h2>Accuracy</h2><p class='quiet'>{escape(run['why_not'])}</p></section>"
    share = f"{100 * run['value']:.1f}% on {run['images']:,} test images"
    means = f": {escape(found['accuracy_is'])}" if found.get("accuracy_is") else ""
    text = f"<p>{share} (95% interval {interval(run, 100)}, over images){means}.</p>"
    rows = ""
    for name, one in found["controls"].items():
        if "value" not in one:
            rows += absent(name, one["why_not"], 6)
            continue
        alone = "" if one["only_first"] is None else f"{one['only_first']:.0f} and {one['only_second']:.0f}"
        texts = [f"{100 * one['accuracy']:.1f}%", f"{100 * one['value']:+.1f}", interval(one, 100), alone]
        texts += [p_text(one["p_value"]), p_text(one["p_fdr"])]
        rows += f"<tr><th scope='row'>{escape(name)}</th>{cells(texts)}</tr>"
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
    numbers = csv_link(f"{folder.name}-accuracy", [{"control": key, **one} for key, one in found["controls"].items()])
    shown = f"<p>On the same images, in percentage points:</p>{table(heads, rows, numbers)}" if rows else ""
    answers = found.get("confusion")
    drawn = "" if answers is None else picture(RunFolder(folder).analysis / answers["file"], answers["alt"])
    drawn = f"<div class='pictures'>{drawn}</div>" if drawn else ""
    return f"<section id='accuracy'><h2>Accuracy</h2>{text}{shown}{drawn}</section>"
