"""Which classes a run takes for which, on its test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from colgraph.data import IGNORED
from colgraph.training import RunFolder
from colgraph.viz import draw_confusion
from colgraph.viz.style import save_for_papers

_FILE = "confusion.png"


def draw_answers(run: Path, figures: Path) -> dict[str, str] | None:
    """The figure's file and what it shows; None where no classes were answered, or nothing says which.

    Args:
        run: the run folder.
        figures: the folder of the figure.
    """
    try:
        found = RunFolder(run).predicted()
    except ValueError:
        return None  # said where accuracies are read
    if found is None or "label" not in found:
        return None
    label, said, names = (found[name] for name in ("label", "prediction", "classes"))
    counted = label != IGNORED
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (label[counted], said[counted]), 1)
    what = "images" if label.ndim == 1 else "columns"
    title = f"{matrix.trace() / max(matrix.sum(), 1):.1%} of {matrix.sum():,} {what} right"
    figure = draw_confusion(matrix, [str(name) for name in names], title=title, counted=what)
    save_for_papers(figure, figures / _FILE)
    return {"file": f"{figures.name}/{_FILE}", "alt": f"which classes are taken for which: {title}"}
