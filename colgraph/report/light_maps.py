"""The searchlight of a run on its page: maps of the sheet to turn, numbers beside the controls, and the figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from colgraph.training import RunFolder
from colgraph.viz.viewer import SheetMap

FORMAT = 1

MODELS = {
    "run": "this run",
    "run-given-pixels": "this run, given the pixels",
    "untrained": "untrained",
    "untrained-independent": "untrained, independent",
    "input": "input (patches)",
}
"""Whose maps a searchlight has, and what they are called."""


def read_lights(run: Path, columns: int) -> dict[str, Any] | None:
    """What ``searchlight.json`` of a run says; None if there is none.

    Raises:
        ValueError: if it is broken, of another version, or of another number of columns.
    """
    path = RunFolder(run).searchlight
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found, count = content["format"], content["columns"]
        complete = all({"name", "subjects", "models"} <= set(one) for one in content["recordings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error or type(error).__name__}") from error
    if found != FORMAT or not complete:
        raise ValueError(f"{str(path)!r} is of another version of colgraph (format {found}, this one reads {FORMAT})")
    if count != columns:
        raise ValueError(f"{str(path)!r} is of {count} columns, the analyzed sheet has {columns}: make it again")
    return dict(content)


def light_maps(content: dict[str, Any] | None) -> list[SheetMap]:
    """A map for each recording, by its name: that of the run, with how far its controls come."""
    return [] if content is None else [_map(one) for one in content["recordings"]]


def _map(recording: dict[str, Any]) -> SheetMap:
    by_model = {one["model"]: one for one in recording["models"] if "map" in one}
    run = by_model["run"]
    others = ", ".join(
        f"{MODELS[name]} {by_model[name]['mean']:.3f}" for name in ("untrained", "input") if name in by_model
    )
    unit = (
        f"correlation of each neighborhood's dissimilarities with the recording's: mean {run['mean']:.3f} ({others}), "
        f"{run['significant']} of {run['columns']} columns above chance"
    )
    values = np.array(run["map"], dtype=np.float64)
    return SheetMap(f"searchlight: {recording['name']}", values, unit, "signed")
