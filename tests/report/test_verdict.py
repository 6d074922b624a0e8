"""The beginning of a page: what is shown, what is not, and against which control; and what can be downloaded."""

from __future__ import annotations

import base64
import csv
import io
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

from colgraph.report.page_parts import csv_link, duration, in_unit, picture
from colgraph.report.provenance import summary_facts
from colgraph.report.verdict import against_controls, entry_rows, judge, verdict


def number(value: float, half: float | None = 0.1, p: float | None = 0.001, **more: Any) -> dict[str, Any]:
    low, high = (None, None) if half is None else (value - half, value + half)
    null = {"null_mean": None if p is None else 0.0, "null_std": None if p is None else 0.1}
    return {
        "name": "n",
        "unit": "",
        "tail": "greater",
        "value": value,
        "low": low,
        "high": high,
        "p_value": p,
        **null,
        **more,
    }


def entry(key: str, result: dict[str, Any] | None, **controls: dict[str, Any]) -> dict[str, Any]:
    named = {name.replace("_", " "): found for name, found in controls.items()}
    return {"key": key, "title": f"Measure {key}", "result": result, "controls": named}


LEARNED = entry("a", number(1.0), untrained=number(0.5), input=number(0.0))
GIVEN = entry("b", number(1.0), untrained=number(0.5), input=number(0.95))
CHANCE = entry("c", number(1.0, p=0.001, p_fdr=0.2), untrained=number(0.5))
FEW = entry("few", number(1.0, p=1 / 11, z=17.5), untrained=number(0.5))
UNASKED = entry("d", number(1.0, p=None), tied_weights=number(0.5))
NOTED = entry("e", number(1.0), untrained=number(0.5, note="columns are all alike"), input={"why_not": "no"})


@pytest.mark.parametrize(
    ("given", "group"),
    [
        (LEARNED, "learned"),
        (GIVEN, "given"),
        (CHANCE, "chance"),
        (FEW, "undecided"),
        (UNASKED, "unasked"),
        (NOTED, "unasked"),
    ],
)
def test_measures_are_shown_only_beside_what_they_must_exceed(given: dict[str, Any], group: str) -> None:
    one = judge(given)
    assert one is not None
    assert one.group == group


@pytest.mark.parametrize(
    ("tail", "value", "said"),
    [
        ("greater", 0.5, "Beyond chance, but not shown to be learned 0.5, as untrained, less than input"),
        ("greater", 1.5, "Shown 1.5"),
        ("less", 1.5, "Beyond chance, but not shown to be learned 1.5, more than untrained, input"),
        ("less", 0.1, "Shown 0.1"),
        ("two-sided", 1.5, "Shown 1.5, more than untrained, input"),
        ("two-sided", 0.8, "Shown 0.8, more than untrained, less than input"),
        (None, 0.1, "Shown 0.1, less than untrained, input"),
    ],
)
def test_what_an_untrained_network_or_the_input_has_more_of_is_not_learned(
    tail: str | None, value: float, said: str
) -> None:
    """On the side that is tested, a control that is farther off is no less a reason than one that is as far."""
    given = entry("x", number(value, tail=tail), untrained=number(0.5), input=number(1.1))
    text = plain(verdict(results(given)))
    found = re.search(r"(Shown|Beyond chance[^(]*) \(1 of 1;[^)]*\): Measure x \(([^)]*)\)", text)
    assert found is not None
    assert " ".join(found.groups()) == said


def test_untrained_networks_of_either_weights_count() -> None:
    both = entry("f", number(1.0), untrained=number(0.5), input=number(0.0))
    both["controls"]["untrained, independent weights"] = number(1.05)
    one = judge(both)
    assert one is not None
    assert one.group == "given"
    assert one.not_apart() == ["untrained, independent weights"]


def test_differences_have_a_direction_and_need_intervals() -> None:
    one = judge(entry("g", number(1.0), more=number(0.5), less=number(2.0), same=number(1.15), none=number(0.0, None)))
    assert one is not None
    assert one.against == {"more": "more", "less": "less", "same": "same", "none": None}
    assert judge(entry("h", None)) is None


def results(*entries: dict[str, Any]) -> dict[str, Any]:
    accuracy = {
        "run": {"value": 0.608, "low": 0.599, "high": 0.618, "images": 10_000},
        "controls": {
            "tied weights": {"value": 0.047, "p_value": 1e-9, "p_fdr": 1e-8},
            "random graph": {"value": -0.02, "p_value": 0.001, "p_fdr": 0.002},
            "no wiring cost": {"value": -0.004, "p_value": 0.03, "p_fdr": 0.06},
            "gone": {"why_not": "no predictions"},
        },
    }
    names = list(dict.fromkeys(name for one in entries for name in one["controls"]))
    return {"analyses": list(entries), "test_accuracy": accuracy, "controls": names}


def plain(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", "", html)).split())


def test_the_verdict_says_which_and_against_which_control() -> None:
    text = plain(verdict(results(LEARNED, GIVEN, CHANCE, UNASKED)))
    assert "60.8% correct on 10,000 test images (59.9 to 61.8%)" in text
    assert "above tied weights (+4.7 points); below random graph (-2.0 points)" in text
    assert "not told apart from no wiring cost (-0.4 points)" in text
    assert re.search(r"Shown \(1 of 4;[^)]*\): Measure a \(1\)", text)
    assert re.search(r"Beyond chance, but not shown to be learned \(1 of 4;[^)]*\): Measure b \(1, as input\)", text)
    assert re.search(r"Not shown \(1 of 4;.*\): Measure c", text)


def test_nothing_to_show_is_said() -> None:
    assert "No measure applies" in plain(verdict(results(entry("h", None))))
    assert against_controls(results(entry("h", None)), "run") == ""


def downloads(html: str) -> dict[str, bytes]:
    found = re.findall(r"download='([^']+)' href='data:[^;]+;base64,([^']+)'", html)
    return {name: base64.b64decode(content) for name, content in found}


def test_every_number_can_be_downloaded_unrounded() -> None:
    third = entry("i", number(1 / 3), untrained={"why_not": "answers by chance"})
    ((name, content),) = downloads(against_controls(results(LEARNED, third), "run")).items()
    assert name == "run-measures.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [(row["analysis"], row["network"]) for row in rows] == [
        *(("a", "this run"), ("a", "untrained"), ("a", "input")),
        *(("i", "this run"), ("i", "untrained")),
    ]
    assert float(rows[3]["value"]) == 1 / 3
    assert rows[4]["note"] == "answers by chance"
    assert rows[4]["value"] == ""
    assert rows == list(
        csv.DictReader(io.StringIO(downloads(csv_link("x", entry_rows(LEARNED) + entry_rows(third)))["x.csv"].decode()))
    )
    assert csv_link("x", []) == ""


def test_pictures_bring_their_pdf(tmp_path: Path) -> None:
    from colgraph.viz.style import new_figure, save_figure

    figure = new_figure(3, 2)
    figure.subplots().plot([1, 2])
    save_figure(figure, tmp_path / "one.png")
    alone = picture(tmp_path / "one.png", "a line")
    assert 'alt="a line"' in alone
    assert not downloads(alone)
    save_figure(figure, tmp_path / "one.pdf")
    assert downloads(picture(tmp_path / "one.png", "a line"))["one.pdf"].startswith(b"%PDF")
    assert picture(tmp_path / "none.png", "nothing") == ""


def test_results_have_units() -> None:
    facts = dict(
        summary_facts({"test_accuracy": 0.6083, "seconds": 1150.6, "parameters": 1_776_234, "test_loss": 1.1237})
    )
    assert facts == {
        "test accuracy": "60.8%",
        "training time": "19 min 11 s",
        "parameters": "1,776,234",
        "test loss": "1.12 nats",
    }
    assert duration(0.2) == "0 s"
    assert duration(7265) == "2 h 1 min"
    assert in_unit(0.1875, "share") == "18.8%"
