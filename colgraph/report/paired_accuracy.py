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


_AS_ACCURATE = 0.005  # another machine may decide a draw otherwise


def _check_mean(run: Path, predicted: dict[str, NDArray[Any]]) -> None:
    """Raise ValueError unless the accuracy of a run that has scored images is the mean of the scores."""
    if "score" not in predicted:
        return
    summary = RunFolder(run).results()
    known = summary.get("test_accuracy")
    if known is None or abs(float(predicted["score"].mean()) - known) > _AS_ACCURATE:
        value = "unknown" if known is None else f"{known:.1%}"
        raise ValueError(
            f"the accuracy of task {summary.get('task')} ({value}: {summary.get('accuracy_is')}) is no mean over "
            "images, and is not compared image by image"
        )


def right_on_the_same(runs: list[Path]) -> NDArray[Any]:
    """``[runs, images]``: which of their test images each run has answered rightly, or how well.

    Raises:
        ValueError: for a run without predictions, with broken ones, or on other images than another's, and where
            accuracy is no mean over images, as explained variance is not.
    """
    read = [_read(run) for run in runs]
    for run, predicted in zip(runs, read, strict=True):
        _check_mean(run, predicted)
    try:
        return join_predictions(*read)
    except ValueError as error:
        raise ValueError(f"the predictions of {', '.join(run.name for run in runs)}: {error}") from error


def paired_accuracies(compared: LineUp) -> dict[str, Any]:
    """The run's accuracy on its test images, and how far each trained control lies from it on the same images.

    Returns:
        ``accuracy_is`` (what it means, None where an earlier version trained the run), ``run`` (a summary of
        :func:`colgraph.analysis.accuracy`) and ``controls``: by name the ``folder`` (beside the run's), the control's
        ``accuracy``, and a summary of :func:`colgraph.analysis.accuracy_difference`, the run's less the control's, with
        ``p_fdr``; or ``why_not``.
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
    return {"accuracy_is": RunFolder(run).results().get("accuracy_is"), "run": mine, "controls": controls}


def _paired(run: Path, control: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"folder": control.name}
    try:
        mine, theirs = right_on_the_same([run, control])
    except ValueError as error:
        return found | {"why_not": str(error)}
    return found | {"accuracy": float(theirs.mean())} | accuracy_difference(mine, theirs).summary()
