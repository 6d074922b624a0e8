"""Configs beside one of them, compared on the same test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import colgraph.analysis as an
from colgraph.experiments.results import NoMeanError, groups_of, predictions_of_runs
from colgraph.hints import closest

_Row = Mapping[str, Any]


def compare_with(rows: Sequence[_Row], config: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Differences in test accuracy between one config and every other that was tested on the same images.

    Args:
        rows: of run folders that have ``predictions.npz``.
        config: the one that the others are compared with.

    Returns:
        An entry per other config: ``config``, ``seeds`` (runs of it, and of the one), ``images``, ``difference`` (a
        fraction, its accuracy less that of the one), ``interval`` (95%), ``test``, ``p``, and ``holm``, the p-value
        corrected for the number of entries; see :func:`colgraph.analysis.accuracy_difference` and
        :func:`colgraph.analysis.correct_p_values`. Then what a user should know: which are left out, and why.

    Raises:
        ValueError: if there is no such config, its runs have no predictions or are not of the same images, or its
            accuracy is no mean over images.
    """
    groups = groups_of(rows)
    mine = [members for (name, _), members in groups.items() if name == config]
    if len(mine) != 1:
        if mine:
            raise ValueError(f"--against {config!r} is there for {len(mine)} sets of data: give the runs of one")
        known = closest(config, dict.fromkeys(name for name, _ in groups))
        raise ValueError(f"--against {config!r} is no config of these runs{known}")
    reference = predictions_of_runs(mine[0])
    if reference is None:
        raise ValueError(
            f"--against {config!r}: not all of its runs have predictions.npz: give run folders, and make the file for "
            "older ones with colgraph evaluate"
        )
    an.join_predictions(*reference)
    entries, unknown, elsewhere, no_means = [], [], [], []
    for (name, _), members in groups.items():
        try:
            predicted = predictions_of_runs(members) if name != config else []
        except NoMeanError:
            no_means.append(name)
            continue
        if predicted is None:
            unknown.append(name)
        elif predicted:
            try:
                right = an.join_predictions(*predicted, *reference)
            except ValueError:
                elsewhere.append(name)
            else:
                entries.append({"config": name, **_difference(*np.split(right, [len(predicted)]))})
    corrected = an.correct_p_values(dict(enumerate(entry["p"] for entry in entries)))
    found = [entry | {"holm": float(p)} for entry, p in zip(entries, corrected.holm, strict=True)]
    twice = len(reference[0]["image"]) - len(np.unique(reference[0]["image"]))
    notes = (
        (unknown, "without predictions.npz, left out: " + ", ".join(unknown)),
        (elsewhere, "tested on other images, left out: " + ", ".join(elsewhere)),
        (no_means, "of an accuracy that is no mean over images, left out: " + ", ".join(no_means)),
        (twice, f"{twice} of the {len(reference[0]['image'])} test images are there more than once"),
    )
    return found, [text for there, text in notes if there]


def _difference(first: NDArray[Any], second: NDArray[Any]) -> dict[str, Any]:
    found = an.accuracy_difference(first, second)
    sizes = {"seeds": (len(first), len(second)), "images": first.shape[1]}
    return sizes | {"difference": found.value, "interval": found.interval.tolist(), "test": found.test, "p": found.p}
