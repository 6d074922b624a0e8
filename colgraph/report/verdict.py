"""What a run's analyses show, what they do not, and against which control: the beginning of its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from colgraph.report.page_parts import cells, csv_link, in_unit, interval, p_text, table

_UNTRAINED = "untrained"  # of whatever weights: the beginning of both names
_FAR = 3.0  # deviations of the null: few draws have no small p, however far from them a value is
_LEARNED = (_UNTRAINED, "input")
_SIGNS = {"more": "&#9650;", "less": "&#9660;", "same": "&asymp;"}
_THAN = {"same": "as", "more": "more than", "less": "less than"}
_BEYOND = {"greater": "less", "less": "more"}
"""By the side that is tested, what a run has beside a control that is farther on that side."""
_SAID = {"more": "the run has more", "less": "the run has less", "same": "no difference shown"}


@dataclass(frozen=True)
class Judgement:
    """One measure of a run, beside chance and its controls.

    Attributes:
        entry: of the analysis, as ``results.json`` has it.
        beyond_chance: whether its corrected p-value is below 0.05; None where it has no null.
        against: for each control "more", "less" or "same"; None where the measure was not asked of it.
        noted: controls from which a difference says little, because it follows from how they are made.
    """

    entry: Mapping[str, Any]
    beyond_chance: bool | None
    against: dict[str, str | None]
    noted: frozenset[str]

    def not_apart(self) -> list[str]:
        """The untrained networks and the input that have as much, as far as the intervals tell, or more.

        More is what lies farther on the side that the measure is tested for; one that is tested for both has no such
        side, and is apart from a control wherever the intervals are.
        """
        unlearned = {"same", _BEYOND.get(self.tail or "")}
        return [name for name in self._asked() if self.against[name] in unlearned]

    @property
    def tail(self) -> str | None:
        """Which side is tested: "greater", "less" or "two-sided"; None in files of versions that did not say."""
        tail: str | None = self.entry["result"].get("tail")
        return tail

    def beside(self) -> str:
        """Against which of them the run has as much, more or less, where the group alone does not say."""
        if self.group not in ("given", "learned"):
            return ""
        names = self.not_apart() if self.group == "given" else [] if self.tail in _BEYOND else self._asked()
        found = {how: [name for name in names if self.against[name] == how] for how in _THAN}
        return ", ".join(f"{_THAN[how]} {', '.join(those)}" for how, those in found.items() if those)

    def _asked(self) -> list[str]:
        return [
            name
            for name, how in self.against.items()
            if how is not None and name.startswith(_LEARNED) and name not in self.noted
        ]

    @property
    def group(self) -> str:
        """Which of :data:`GROUPS` it is in."""
        if self.beyond_chance is False:
            far = self.entry["result"].get("z")
            return "chance" if far is None or abs(far) < _FAR else "undecided"
        if self.beyond_chance is None or not self._asked():
            return "unasked"
        return "given" if self.not_apart() else "learned"


GROUPS = {
    "learned": ("Shown", "beyond chance, and apart from the untrained networks and the input: learned"),
    "given": ("Beyond chance, but not shown to be learned", "an untrained network or the input has as much or more"),
    "undecided": (
        "Not decided",
        "more than three deviations from chance, of too few draws for a corrected p below 0.05: take more",
    ),
    "chance": ("Not shown", "no more, or no less, than chance gives (corrected p of 0.05 or more)"),
    "unasked": ("Without such a control", "no null, or no untrained network or input of which it could be asked"),
}


def judge(entry: Mapping[str, Any]) -> Judgement | None:
    """A measure of ``results.json``; None where it does not apply to the run.

    A run differs from a control where their 95% intervals do not overlap. That is stricter than a test at 5%: of two
    equal numbers with independent errors it tells fewer than one in a hundred apart.
    """
    result = entry["result"]
    if result is None:
        return None
    corrected = result.get("p_fdr") if result.get("p_fdr") is not None else result["p_value"]
    against = {name: _how(result, found) for name, found in entry["controls"].items()}
    noted = frozenset(name for name, found in entry["controls"].items() if "note" in found)
    return Judgement(entry, None if corrected is None else bool(corrected < 0.05), against, noted)


def _how(run: Mapping[str, Any], control: Mapping[str, Any]) -> str | None:
    if "value" not in control or run["low"] is None or control["low"] is None:
        return None
    if run["low"] > control["high"]:
        return "more"
    return "less" if run["high"] < control["low"] else "same"


def verdict(results: Mapping[str, Any]) -> str:
    """The first screen of a page: accuracy, and the measures by what they show."""
    found = [one for entry in results["analyses"] if (one := judge(entry)) is not None]
    parts = [_accuracy(results["test_accuracy"])]
    for group, (title, meaning) in GROUPS.items():
        mine = [one for one in found if one.group == group]
        if mine:
            names = "; ".join(_named(one) for one in mine)
            parts.append(f"<p><b>{title}</b> ({len(mine)} of {len(found)}; {meaning}): {names}.</p>")
    if not found:
        parts.append("<p>No measure applies to this run: what follows describes it.</p>")
    lacks = results.get("lacks") or {}
    if "columns" in lacks:
        parts.append(
            f"<p><b>Not asked</b>: what columns do; {escape(lacks['columns'])} (<a href='#sheet'>more</a>).</p>"
        )
    over = "images" if "columns" in lacks else "stimuli or blocks of the sheet"
    parts.append(
        f"<p class='quiet'>Of one run: intervals are over {over}, not over seeds, which "
        "<code>colgraph compare</code> takes. A difference from a control counts where the 95% intervals do not "
        "overlap, and not where it follows from how the control is made.</p>"
    )
    return f"<section id='verdict'><h2>What this run shows</h2>{''.join(parts)}</section>"


def _named(one: Judgement) -> str:
    """A measure with its number, and how it lies beside those that it is not more than."""
    result = one.entry["result"]
    value = in_unit(result["value"], result["unit"])
    also = f", {escape(one.beside())}" if one.beside() else ""
    return f"<a href='#{escape(one.entry['key'])}'>{escape(one.entry['title'])}</a> ({value}{also})"


def _accuracy(found: Mapping[str, Any]) -> str:
    run = found["run"]
    if "why_not" in run:
        return f"<p><b>Accuracy</b>: {escape(run['why_not'])}.</p>"
    text = f"<b>{100 * run['value']:.1f}% correct</b> on {run['images']:,} test images ({interval(run, 100)}%)"
    if found.get("accuracy_is"):
        text += f", the {escape(found['accuracy_is'])}"
    apart: dict[str, list[str]] = {"more": [], "less": [], "same": []}
    for name, one in found["controls"].items():
        if "value" in one:
            tested = one.get("p_fdr") if one.get("p_fdr") is not None else one["p_value"]
            how = "same" if tested is None or tested >= 0.05 else "more" if one["value"] > 0 else "less"
            apart[how].append(f"{escape(name)} ({100 * one['value']:+.1f} points)")
    for how, said in (("more", "above"), ("less", "below"), ("same", "not told apart from")):
        if apart[how]:
            text += f"; {said} {', '.join(apart[how])}"
    return f"<p>{text}.</p>"


def against_controls(results: Mapping[str, Any], name: str) -> str:
    """Every measure beside chance and every control, in one table."""
    found = [one for entry in results["analyses"] if (one := judge(entry)) is not None]
    if not found:
        return ""
    order = list(GROUPS)
    found.sort(key=lambda one: order.index(one.group))
    controls = list(results["controls"])
    rows = "".join(_row(one, controls) for one in found)
    legend = ", ".join(f"{_SIGNS[how]} {said}" for how, said in _SAID.items())
    text = (
        f"{legend}; in brackets: follows from how the control is made, at least in part; empty: not asked. "
        "Beyond chance: the corrected p is below 0.05."
    )
    heads = ("measure", "value", "95% interval", "chance (p, corrected)", *map(escape, controls))
    download = csv_link(f"{name}-measures", measure_rows(results), "CSV of all numbers of all analyses")
    shown = table(heads, rows, download)
    return f"<section id='controls'><h2>Against which control</h2><p>{text}</p>{shown}</section>"


def _row(one: Judgement, controls: Sequence[str]) -> str:
    result = one.entry["result"]
    p = result.get("p_fdr") if result.get("p_fdr") is not None else result["p_value"]
    chance = ""
    if one.beyond_chance is not None:
        above = "more" if result["null_mean"] is None or result["value"] > result["null_mean"] else "less"
        chance = f"{_SIGNS[above if one.beyond_chance else 'same']} {p_text(p)}"
    unit = f"<br><span class='quiet'>{escape(result['unit'])}</span>" if result["unit"] not in ("", "share") else ""
    signs = [in_unit(result["value"], result["unit"]), _interval(result), chance]
    for name in controls:
        how = one.against.get(name)
        sign = "" if how is None else f"<span title='{_SAID[how]}'>{_SIGNS[how]}</span>"
        if sign and name in one.noted:
            sign = f"<span class='quiet' title='{escape(one.entry['controls'][name]['note'])}'>({sign})</span>"
        signs.append(sign)
    head = f"<a href='#{escape(one.entry['key'])}'>{escape(one.entry['title'])}</a>"
    return f"<tr class='{one.group}'><th scope='row'>{head}{unit}</th>{cells(signs)}</tr>"


def _interval(result: Mapping[str, Any]) -> str:
    if result["low"] is None:
        return ""
    return f"{in_unit(result['low'], result['unit'])} to {in_unit(result['high'], result['unit'])}"


_NUMBERS = ("value", "low", "high", "null_mean", "null_std", "p_value", "p_fdr")


def measure_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every number of every network that was analyzed, one row each, for a CSV."""
    return [row for entry in results["analyses"] if entry["result"] is not None for row in entry_rows(entry)]


def entry_rows(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of one analysis, of the run and of its controls; why there are none where there are none."""
    result = entry["result"]
    shared = {"analysis": entry["key"], "measure": result["name"], "unit": result["unit"]}
    rows = []
    for name, found in {"this run": result, **entry["controls"]}.items():
        numbers = {number: found.get(number) for number in _NUMBERS}
        rows.append({**shared, "network": name, **numbers, "note": found.get("note") or found.get("why_not", "")})
    return rows
