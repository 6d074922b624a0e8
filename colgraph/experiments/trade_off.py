"""``colgraph trade-off``: accuracy against wire over finished runs, and which configs nothing else beats in both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colgraph.experiments.markdown import RESULT_COLUMNS, table
from colgraph.experiments.results import groups_of, read_results, summarize
from colgraph.output import check_different, check_file, write_text
from colgraph.script import OneLineParser
from colgraph.viz import picture_suffixes

AGAINST = {
    "wire": ("wire", "wire of all edges (spacings a column)"),
    "cost": ("wiring_cost_in_spacings", "distance listened over (spacings)"),
    "edges": ("edges", "edges a column"),
}
"""What accuracy is weighed against: where rows have it, and what figures call it."""


def run_trade_off(arguments: Sequence[str]) -> None:
    """Accuracy against wire, with the Pareto front, as a table, JSON and a figure.

    Raises:
        ValueError: for paths that hold no results, runs on several data, and runs without a sheet alone.
    """
    parser = OneLineParser(
        prog="colgraph trade-off",
        description="Accuracy against wire: weights of the wiring cost, budgets, neighborhoods, with the Pareto front.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, folders of them, or results.json files")
    parser.add_argument(
        "--against",
        choices=tuple(AGAINST),
        default="wire",
        help="wire: length of all edges; cost: the distance listened over, weighted by attention; edges (wire)",
    )
    parser.add_argument("-o", "--output", metavar="FILE.md", help="write the Markdown table here")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    parser.add_argument("--plot", metavar="FILE", help="draw it here (png, svg, pdf)")
    known = parser.parse_args(list(arguments))
    files = {"--output": known.output, "--json": known.json, "--plot": known.plot}
    check_different({flag: path for flag, path in files.items() if path})
    for flag, ends in (("--output", [".md"]), ("--json", [".json"])):
        if files[flag]:
            check_file(flag, files[flag], ends)
    if known.plot:
        check_file("--plot", known.plot, picture_suffixes())
    entries, left_out = trade_off(read_results(known.paths), known.against)
    table = table_of(entries, left_out, known.against)
    if known.json:
        write_text(Path(known.json), json.dumps(entries, indent=2, allow_nan=False) + "\n")
    if known.output:
        write_text(Path(known.output), table)
    if known.plot:
        from colgraph.viz import draw_trade_off, save_figure

        save_figure(draw_trade_off(entries, AGAINST[known.against][1]), known.plot)
    written = [path for path in files.values() if path]
    print("\n".join(written) if written else table, end="\n" if written else "")


def trade_off(rows: Sequence[Mapping[str, Any]], against: str = "wire") -> tuple[list[dict[str, Any]], list[str]]:
    """Each config's accuracy and cost, from the least cost to the most, and the configs that have no such cost.

    Args:
        rows: of :func:`colgraph.experiments.results.read_results`.
        against: one of :data:`AGAINST`. Wire and edges are those at the end of training, a column.

    Returns:
        Entries of ``config``, ``seeds``, ``test_accuracy``, ``test_accuracy_se``, ``test_accuracy_interval``,
        ``test_accuracies``, ``cost``, ``costs`` of each seed, and ``on_front``: no other config is at least as accurate
        at no more cost, and better in one of them, in the means.

    Raises:
        ValueError: for runs on several data or of several tasks, or none with such a cost.
    """
    data = list(dict.fromkeys(row["data"] for row in rows))
    if len(data) > 1:
        raise ValueError(f"runs on {data[0]!r} and on {data[1]!r} cannot be weighed against each other")
    tasks = list(dict.fromkeys(row.get("task") or "classify" for row in rows))
    if len(tasks) > 1:
        raise ValueError(f"runs of task {tasks[0]} and of task {tasks[1]} cannot be weighed against each other")
    members = list(groups_of(rows).values())
    entries, left_out = [], []
    for summary, those in zip(summarize(rows), members, strict=True):
        costs = [_cost(row, against) for row in those]
        if None in costs:
            left_out.append(summary["config"])
            continue
        names = ("config", "seeds", "test_accuracy", "test_accuracy_se", "test_accuracy_interval", "test_accuracies")
        mean = sum(costs) / len(costs)  # type: ignore[arg-type]
        entries.append({name: summary[name] for name in names} | {"cost": mean, "costs": costs})
    if not entries:
        raise ValueError(f"no run says its {against}: baselines without a sheet have none, nor have older runs")
    for entry in entries:
        entry["on_front"] = not any(_beats(other, entry) for other in entries)
    return sorted(entries, key=lambda entry: (entry["cost"], -entry["test_accuracy"])), left_out


def table_of(entries: Sequence[Mapping[str, Any]], left_out: Sequence[str], against: str) -> str:
    """The entries as Markdown."""
    most = max(entry["cost"] for entry in entries)
    columns = {name: RESULT_COLUMNS[name] for name in ("config", "seeds", "test accuracy (%)", "95% interval")}
    columns |= {
        AGAINST[against][1]: lambda e: f"{e['cost']:.3g}",
        "of the most (%)": lambda e: f"{100 * e['cost'] / most:.0f}" if most > 0 else "",
        "front": lambda e: "yes" if e["on_front"] else "",
    }
    lines = [
        table(columns, entries, ("config", "front")),
        "",
        "On the *front*: no other config is as accurate at no more cost, in the means over seeds; within the intervals "
        "the order may be chance.",
    ]
    if left_out:
        lines.append(f"Without a sheet, or without a record of it: {', '.join(left_out)}.")
    return "\n".join(lines) + "\n"


def _cost(row: Mapping[str, Any], against: str) -> float | None:
    if against == "cost":
        value = row.get("wiring_cost_in_spacings")
        return None if value is None else float(value)
    columns, spacing = row.get("columns"), row.get("spacing")
    value = row.get(AGAINST[against][0])
    if value is None or not columns or (against == "wire" and not spacing):
        return None
    return float(value) / columns / (float(spacing) if against == "wire" and spacing else 1)


def _beats(other: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    better = other["test_accuracy"] - entry["test_accuracy"], entry["cost"] - other["cost"]
    return min(better) >= 0 and max(better) > 0
