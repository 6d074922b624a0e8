"""Two runs on the same images: what each has answered, joined by image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from colgraph.analysis import accuracy, accuracy_difference, join_predictions
from colgraph.report.line_up import LineUp
from colgraph.report.multiple_comparisons import false_discovery
from colgraph.training import RunFolder


def _read(run: Path) -> dict[str, NDArray[Any]]:
    """The predictions of a run, or a ValueError."""
    found = RunFolder(run).predicted()
    if found is None:
        raise ValueError(f"{str(run)!r} has no {RunFolder(run).predictions.name}: colgraph evaluate {run} writes it")
    return found


def right_on_the_same(runs: list[Path]) -> NDArray[Any]:
    """``[runs, images]``: which of their test images each run has answered rightly, or how well.

    Raises:
        ValueError: for a run without predictions, with broken ones, or on other images than another's.
    """
    read = [_read(run) for run in runs]
    try:
        return join_predictions(*read)
    except ValueError as error:
        raise ValueError(f"the predictions of {', '.join(run.name for run in runs)}: {error}") from error


def paired_accuracies(compared: LineUp) -> dict[str, Any]:
    """The run's accuracy on its test images, and how far each trained control lies from it on the same images.

    Returns:
        ``run`` (a summary of :func:`colgraph.analysis.accuracy`) and ``controls``: by name the ``folder`` (beside the
        run's), the control's ``accuracy``, and a summary of :func:`colgraph.analysis.accuracy_difference`, the run's
        less the control's, with ``p_fdr``; or ``why_not``.
    """
    run = compared.paths["run"]
    try:
        mine = accuracy(right_on_the_same([run])).summary()
    except ValueError as error:
        mine = {"why_not": str(error)}
    controls = {context.name: _paired(run, compared.paths[context.name]) for context in compared.trained}
    tested = {name: found["p_value"] for name, found in controls.items() if "p_value" in found}
    for name, p in false_discovery(tested).items():
        controls[name]["p_fdr"] = p
    return {"run": mine, "controls": controls}


def _paired(run: Path, control: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"folder": control.name}
    try:
        mine, theirs = right_on_the_same([run, control])
    except ValueError as error:
        return found | {"why_not": str(error)}
    return found | {"accuracy": float(theirs.mean())} | accuracy_difference(mine, theirs).summary()
