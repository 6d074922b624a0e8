"""Where a page's numbers come from: commit, version, dates, command and settings; a run's results in their units."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from colgraph.report.page_parts import duration, short
from colgraph.training import RunFolder


def summary_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ``summary.json`` says of a run, each with its unit."""
    found = []
    for name, how in _FACTS.items():
        value = summary.get(name)
        if isinstance(value, int | float):
            found.append((_CALLED.get(name, name.replace("_", " ")), how(value)))
    spacings = summary.get("wiring_cost_in_spacings")
    if isinstance(spacings, float):
        found.append(("wiring cost", f"{spacings:.3g} spacings listened through"))
    return found


_CALLED = {"seconds": "training time"}
_FACTS: dict[str, Any] = {
    "test_accuracy": lambda value: f"{100 * value:.1f}%",
    "test_loss": lambda value: f"{value:.3g} nats",
    "parameters": short,
    "columns": short,
    "edges": short,
    "seconds": duration,
    "seed": str,
}


def provenance(folder: Path, results: Mapping[str, Any]) -> str:
    """The section of a page from which its numbers can be made again."""
    run = RunFolder(folder)
    summary = run.results()
    versions = summary.get("versions") or {}
    kept = [
        ("colgraph", _version()),
        ("commit of the run", summary.get("commit")),
        ("command of the run", summary.get("command")),
        ("resumed from step", summary.get("resumed_from_step")),
        ("run ended", _when(run.summary)),
        ("data", summary.get("data")),
        ("network's file (SHA-256)", summary.get("network_sha256")),
        ("parameters (SHA-256)", summary.get("parameters_sha256")),
        ("sheet (fingerprint)", summary.get("fingerprint")),
        ("machine", ", ".join(str(summary[key]) for key in ("device", "processor") if summary.get(key))),
        ("packages", ", ".join(f"{name} {number}" for name, number in versions.items())),
        ("analyzed", _when(run.analysis / "results.json")),
        ("analysis took", duration(results["seconds"]) if "seconds" in results else None),
        ("settings of the analysis", ", ".join(f"{name} {value}" for name, value in results["settings"].items())),
        ("page written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in kept
        if value not in (None, "")
    )
    text = "Times are those of the run's files."
    return (
        f"<section id='provenance'><h2>Provenance</h2><p class='quiet'>{text}</p>"
        f"<table class='provenance'><tbody>{rows}</tbody></table></section>"
    )


def _version() -> str:
    try:
        return version("colgraph")
    except PackageNotFoundError:
        return "a source tree that was never installed"


def _when(path: Path) -> str | None:
    if not path.is_file():
        return None
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
