"""What tells runs of one name apart that are no seeds of one experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from colgraph.training.folder import RunFolder
from colgraph.training.resume import ON_RESUME, images_a_step

_FACTS = ("task", "epochs", "steps", "columns", "train_images", "test_images")
"""Of rows, whether or not their folders are there. Edges and parameters may differ by seed: some graphs are drawn."""

_BY_SEED = {"seed", "split_seed", "init", "data", "devices", "sheet_parallel"}
"""Settings in which seeds of one experiment may differ: ``data`` is in every row, in words of its own."""


def names_apart(config: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each row of one config: where they differ in more than the seed, with what they differ in.

    Facts that some rows do not know (older ones, or of a file of results) tell nothing apart, and neither do settings
    that have no effect on what is learned. Settings are compared where the folders of all rows are there.
    """
    known = [{"task": "classify"} | {name: row[name] for name in _FACTS if row.get(name) is not None} for row in rows]
    settings = [_settings_of(row) for row in rows]
    if all(each is not None for each in settings):
        known = [{**(each or {}), **facts} for each, facts in zip(settings, known)]
    shared = [name for name in known[0] if all(name in each for each in known)]
    apart = [name for name in shared if len({json.dumps(each[name], sort_keys=True) for each in known}) > 1]
    apart.sort(key=lambda name: (_FACTS.index(name) if name in _FACTS else len(_FACTS), name))
    words = [", ".join(f"{name.replace('_', '-')} {_said(each[name])}" for name in apart) for each in known]
    return [f"{config} ({text})" if text else config for text in words]


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _settings_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run was trained with; None where its folder is not there, or does not say."""
    if "folder" not in row:
        return None
    try:
        folder = RunFolder(row["folder"])
        config, results = folder.record().config, folder.results()
    except (ImportError, OSError, ValueError):  # without pyyaml, facts have to do
        return None
    flat = config.flat()
    options = {name: value for name, value in (flat.get("options") or {}).items() if name != "seed"}
    flat |= {"options": options, "batch_size": images_a_step(config)}
    unnamed = {name for name, what in ON_RESUME.items() if what == "applied"} | _BY_SEED
    kept = {name: value for name, value in flat.items() if name not in unnamed}
    # Seeds begin with a run of one task each, or none does; a network of one's own is what its file says, not its name.
    network, begun = results.get("network_sha256"), results.get("init")
    kept["pretrained"] = "no" if begun is None else begun["task"]
    return kept if network is None else kept | {"network": network[:8]}
