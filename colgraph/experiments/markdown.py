"""Tables of results: Markdown and CSV, and Markdown between the markers of a document."""

from __future__ import annotations

import csv
import fnmatch
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from colgraph.experiments.results import summarize

_MARKER = re.compile(r"<!-- results: *(?P<patterns>[^>]*?) *-->\n(?P<old>.*?)<!-- end of results -->", re.DOTALL)
_OPEN = "<!-- results:"
_CSV = (
    *("config", "data", "seeds", "test_accuracy", "test_accuracy_se", "test_accuracy_interval", "train_accuracy"),
    "best_val_accuracy",
    *("parameters", "flops_per_image", "train_flops", "seconds", "cpu_seconds", "images_per_second"),
    *("peak_memory_bytes", "wiring_cost", "wiring_cost_in_spacings", "commit", "command"),
)
_PERFECT = "perfect (%)"


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Results per config, and below them how each was made."""
    entries = summarize(rows)
    perfect = _has_perfect(entries)
    columns = {name: cell for name, cell in RESULT_COLUMNS.items() if perfect or name != _PERFECT}
    note = f"{_NOTE} {_PERFECT_NOTE}" if perfect else _NOTE
    return f"{table(columns, entries)}\n\n{note}\n\n{table(_ORIGIN_COLUMNS, entries, _ORIGIN_COLUMNS)}\n"


def _has_perfect(entries: Sequence[Mapping[str, Any]]) -> bool:
    return any(entry["perfect"] is not None for entry in entries)


def against_table(entries: Sequence[Mapping[str, Any]], config: str) -> str:
    """What :func:`colgraph.experiments.against.compare_with` found."""
    columns: dict[str, Any] = {
        f"against {config}": lambda e: e["config"],
        "seeds": lambda e: " and ".join(map(str, e["seeds"])),
        "images": lambda e: f"{e['images']:,}",
        "difference (points)": lambda e: f"{100 * e['difference']:+.1f}",
        "95% interval": lambda e: " to ".join(f"{100 * end:+.1f}" for end in e["interval"]),
        "p": lambda e: f"{e['p']:.2g}",
        "p, corrected": lambda e: f"{e['holm']:.2g}",
        "test": lambda e: e["test"],
    }
    return f"{table(columns, entries, list(columns)[:1])}\n\n{_AGAINST_NOTE.format(config=config)}\n"


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per config, in plain units: fractions, counts, seconds, bytes, the sheet's units of distance."""
    text, entries = io.StringIO(newline=""), summarize(rows)
    writer = csv.writer(text, lineterminator="\n")
    names = (*_CSV, *(("perfect",) if _has_perfect(entries) else ()))
    writer.writerow(names)
    for entry in entries:
        values = [entry[name] for name in names]
        writer.writerow([" ".join(map(str, value)) if isinstance(value, list) else value for value in values])
    return text.getvalue()


def fill_markers(document: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Put tables between the markers of a Markdown document.

    A pair of markers is ``<!-- results: PATTERN, PATTERN -->`` and ``<!-- end of results -->`` on lines of their own.
    The table between them has the configs that match the patterns (as of file names), in the order of the patterns.
    A pattern that nothing matches leaves "not run".

    Returns:
        The document, and the patterns that no config matches.

    Raises:
        ValueError: if there are no markers, or one is not closed.
    """
    if document.count(_OPEN) != len(_MARKER.findall(document)) or _OPEN not in document:
        raise ValueError(
            "expected pairs of lines `<!-- results: PATTERN -->` and `<!-- end of results -->`, "
            f"found {document.count(_OPEN)} of the first and {document.count('<!-- end of results -->')} of the second"
        )
    missing: list[str] = []

    def fill(match: re.Match[str]) -> str:
        patterns = [word.strip() for word in match["patterns"].split(",") if word.strip()]
        chosen: dict[int, Mapping[str, Any]] = {}
        for pattern in patterns:
            hits = {i: row for i, row in enumerate(rows) if fnmatch.fnmatchcase(str(row["config"]), pattern)}
            missing.extend([] if hits else [pattern])
            chosen |= {i: row for i, row in hits.items() if i not in chosen}
        table = markdown_table(list(chosen.values())) if chosen else "not run\n"
        return f"<!-- results: {match['patterns']} -->\n\n{table}\n<!-- end of results -->"

    return _MARKER.sub(fill, document), missing


# ---------------------------------------------------------------------- cells


def table(
    columns: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], texts: Collection[str] = ("config",)
) -> str:
    """A line for each entry; columns are numbers, on the right, but for those of ``texts``."""
    lines = [" | ".join(columns), "|".join("---" if name in texts else "---:" for name in columns)]
    lines += [" | ".join(cell(entry) for cell in columns.values()) for entry in entries]
    return "\n".join(f"| {line} |" if i != 1 else f"|{line}|" for i, line in enumerate(lines))


def _percent(entry: Mapping[str, Any], name: str, error: str | None = None) -> str:
    if entry[name] is None:
        return ""
    spread = entry[error] if error else None
    return f"{100 * entry[name]:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _count(value: float | None) -> str:
    """A number with a prefix: 46.9 M."""
    if value is None:
        return ""
    for limit, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g}"


def _short(commits: Sequence[str]) -> str:
    return ", ".join(f"{commit[:10]}{'-dirty' if commit.endswith('-dirty') else ''}" for commit in commits) or "unknown"


def _machine(entry: Mapping[str, Any]) -> str:
    threads = "/".join(map(str, entry["threads"]))
    where = ", ".join(entry["processor"] or entry["device"])
    return f"{where}, {threads} thread{'' if threads == '1' else 's'}" if threads else where


RESULT_COLUMNS: dict[str, Any] = {
    "config": lambda e: e["config"],
    "seeds": lambda e: str(len(e["seeds"])),
    "test accuracy (%)": lambda e: _percent(e, "test_accuracy", "test_accuracy_se"),
    "95% interval": lambda e: _interval(e["test_accuracy_interval"]),
    _PERFECT: lambda e: _percent(e, "perfect"),
    "training accuracy (%)": lambda e: _percent(e, "train_accuracy"),
    "parameters": lambda e: _count(e["parameters"]),
    "FLOPs per image": lambda e: _count(e["flops_per_image"]),
    "training FLOPs": lambda e: _count(e["train_flops"]),
    "seconds": lambda e: "" if e["seconds"] is None else f"{e['seconds']:,.0f}",
    "peak memory": lambda e: "" if e["peak_memory_bytes"] is None else f"{e['peak_memory_bytes'] / 2**20:,.0f} MiB",
    "wiring cost": lambda e: "" if e["wiring_cost_in_spacings"] is None else f"{e['wiring_cost_in_spacings']:.2f}",
}

_ORIGIN_COLUMNS: dict[str, Any] = {
    "config": lambda e: e["config"],
    "data": lambda e: str(e["data"]),
    "seeds": lambda e: ", ".join(map(str, e["seeds"])),
    "command of the first seed": lambda e: f"`{e['command']}`" if e["command"] else "",
    "commit": lambda e: _short(e["commit"]),
    "machine": _machine,
}

_NOTE = (
    "Accuracies are means over seeds ± their standard error, which is for these very test images; the 95% interval "
    "is for other seeds and other test images (`accuracy` and `accuracy_interval` in `colgraph.analysis`). Two "
    "configs are tested on the same images, which tells far more of their difference than two intervals: `colgraph "
    "results --against`. Test accuracy is that of the last step; training accuracy is on augmented images, during "
    "the last epoch. FLOPs are those of forward and backward, two for a multiplication with its addition. Wiring "
    "cost is the mean distance listened over, in spacings (median distance of nearest neighbors)."
)

_PERFECT_NOTE = (
    "Accuracy of columns is the mean over classes of the share of their columns that are right; perfect is the share "
    "of test images without a wrong column."
)

_AGAINST_NOTE = (
    "Test accuracy less that of {config}, image by image. 95% intervals and p-values are for other images and, of "
    "configs with several seeds, for other seeds. Corrected p-values (Holm) allow for the number of lines."
)
