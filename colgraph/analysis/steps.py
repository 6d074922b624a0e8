"""When and where a sheet comes to represent something: similarity to a model, step by step and area by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_array, as_labels
from colgraph.analysis.representation import rdm, rsa
from colgraph.analysis.result import Result

__all__ = ["StepsByArea", "category_rdm", "rsa_by_step"]


def category_rdm(labels: Any) -> Array:
    """``[stimuli (stimuli - 1) / 2]``: 0 for two stimuli of one category, 1 for two of different ones.

    Raises:
        ValueError: if all stimuli, or no two, are of one category.
    """
    label = as_labels(labels, np.size(labels), "labels")
    index = np.unique(label, return_inverse=True)[1]
    first, second = np.triu_indices(len(index), 1)
    differ = (index[first] != index[second]).astype(np.float64)
    if not differ.size or not np.ptp(differ):
        raise ValueError("labels need two stimuli of one category, and two of different ones")
    return differ


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StepsByArea(Result):
    """What :func:`rsa_by_step` returns; the value is that of all columns after the last step.

    Attributes:
        matrix: ``[steps, areas]``; NaN where all columns of an area are still silent.
        areas: names.
    """

    matrix: Array
    areas: tuple[str, ...]

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the matrix with its numbers: steps downwards, areas to the right."""
        ax = plotting.axes(ax)
        reach = max(float(np.nanmax(np.abs(self.matrix), initial=0)), 1e-3)
        image = ax.imshow(self.matrix, cmap="PuOr", vmin=-reach, vmax=reach, aspect="auto")
        ax.set_xticks(range(len(self.areas)), self.areas)
        ax.set_yticks(range(len(self.matrix)), [str(t + 1) for t in range(len(self.matrix))])
        if self.matrix.size <= 80:
            for (t, a), value in np.ndenumerate(self.matrix):
                strong = bool(abs(value) > 0.6 * reach)
                text = f"{value:.2f}" if np.isfinite(value) else "silent"
                ax.text(a, t, text, ha="center", va="center", fontsize=8, color="white" if strong else plotting.INK)
        ax.set(xlabel="area", ylabel="step", title=f"{self.name}: {self.value:.3f}")
        ax.figure.colorbar(image, ax=ax, label="rank correlation of RDMs")
        return ax


def rsa_by_step(
    states: Any, areas: Any, model: Any, *, method: str = "spearman", permutations: int = 200, seed: int = 0
) -> StepsByArea:
    """How alike the dissimilarities of states and of a model are, after each step, in each area.

    Each cell is :func:`colgraph.analysis.rsa` of the model and of the correlation distances between the states of an
    area's columns after one step. Source: Kriegeskorte, Mur and Bandettini (2008), "Representational similarity
    analysis"; over time as Cichy, Pantazis and Oliva (2014), "Resolving human object recognition in space and time".

    Null (Mantel) and interval (jackknife over stimuli) are those of all columns after the last step.

    Args:
        states: ``[stimuli, steps, columns, channels]``.
        areas: ``[columns]`` a label per column.
        model: ``[pairs]`` or ``[stimuli, stimuli]`` dissimilarities, such as :func:`category_rdm`.
        method: "spearman", "kendall" or "pearson".
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for shapes that do not fit, NaN, or states that do not differ between stimuli after the last step.
    """
    x = as_array(states, "states")
    if x.ndim != 4:
        raise ValueError(f"states must have shape [stimuli, steps, columns, channels], got {list(x.shape)}")
    label = as_labels(areas, x.shape[2], "areas")
    names = np.unique(label)
    whole = rsa(rdm(x[:, -1]), model, method=method, permutations=permutations, seed=seed)

    def cell(step: int, area: Any) -> float:
        part = x[:, step][:, label == area]
        # Columns that the image has not reached yet answer every stimulus alike, and have no dissimilarities.
        if not np.ptp(part, axis=0).max() > 1e-6 * max(float(np.abs(part).max()), 1e-300):
            return float("nan")
        return rsa(rdm(part), model, method=method, permutations=1, seed=seed).value

    matrix = np.array([[cell(t, area) for area in names] for t in range(x.shape[1])])
    return StepsByArea(
        name="similarity to the model",
        value=whole.value,
        null=whole.null,
        interval=whole.interval,
        matrix=matrix,
        areas=tuple(str(name) for name in names),
    )
