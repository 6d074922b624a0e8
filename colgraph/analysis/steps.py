"""When and where a sheet comes to represent something: similarity to a model, step by step and area by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_array, as_labels, region_names
from colgraph.analysis.dissimilarity import Rsa, rdm, rsa
from colgraph.analysis.result import Result
from colgraph.output import finite

_MOST_TICKS = 16


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StepsByArea(Result):
    """What :func:`rsa_by_step` returns; the value is that of all columns after the last step.

    Attributes:
        matrix: ``[steps, areas]``; NaN where all columns of an area are still silent.
        areas: names.
        attainable: the largest value that dissimilarities can have with this model, see
            :class:`colgraph.analysis.dissimilarity.Rsa`.
        input_value: the same similarity of the input itself; NaN where it was not given.
        partial: the value given the input's dissimilarities; None where it was not given.
    """

    matrix: Array
    areas: tuple[str, ...]
    attainable: float
    input_value: float
    partial: Rsa | None

    def summary(self) -> dict[str, Any]:
        """The same with ``attainable``, ``input`` and the summary of ``partial``."""
        more = finite({"attainable": float(self.attainable), "input": float(self.input_value)})
        return super().summary() | more | {"partial": self.partial and self.partial.summary()}

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw each area over steps, beside the input itself and the largest value there can be."""
        ax = plotting.axes(ax)
        step = np.arange(len(self.matrix)) + 1
        if len(self.null):
            low, high = np.quantile(self.null, [0.025, 0.975])
            ax.axhspan(low, high, color=plotting.GREY, alpha=0.35, linewidth=0, label="by chance (95%)")
        colors = plotting.spread(len(self.areas))
        for name, curve, color in zip(self.areas, self.matrix.T, colors, strict=True):
            ax.plot(step, curve, color=color, marker="o", markersize=4, label=name)
        lines = ((self.input_value, plotting.ORANGE, "--", "input"), (self.attainable, plotting.INK, ":", "attainable"))
        for value, color, style, name in lines:
            if np.isfinite(value):
                ax.axhline(value, color=color, linestyle=style, linewidth=1.2, label=f"{name} {value:.3g}")
        title = f"{self.name}: {self.value:.3f}"
        title += f", given the input {self.partial.value:.3f}" if self.partial else ""
        ax.set(xlabel="step", ylabel="rank correlation of RDMs", title=title)
        ax.set_xticks(step[:: -(-len(step) // _MOST_TICKS)])
        ax.legend(frameon=False, fontsize=8, ncols=2)
        return ax


def rsa_by_step(
    states: Any,
    areas: Any,
    model: Any,
    *,
    inputs: Any | None = None,
    method: str = "spearman",
    permutations: int = 200,
    seed: int = 0,
) -> StepsByArea:
    """How alike the dissimilarities of states and of a model are, after each step, in each area.

    Each cell is :func:`colgraph.analysis.rsa` of the model and of the correlation distances between the states of an
    area's columns after one step. Source: Kriegeskorte, Mur and Bandettini (2008), "Representational similarity
    analysis"; over time as Cichy, Pantazis and Oliva (2014), "Resolving human object recognition in space and time".

    What the network was shown is like the model, too, and no dissimilarities reach 1 with a model of few values: with
    ``inputs`` the result holds the similarity of the input, and the partial correlation given it, beside the largest
    value there can be.

    Null (Mantel) and interval (jackknife over stimuli) are those of all columns after the last step.

    Args:
        states: ``[stimuli, steps, columns, channels]``.
        areas: ``[columns]`` a label per column; below 0 of none.
        model: ``[pairs]`` or ``[stimuli, stimuli]`` dissimilarities, such as :func:`category_rdm`.
        inputs: ``[stimuli, ...]`` what the network was shown, such as pixels.
        method: "spearman", "kendall" (not with ``inputs``) or "pearson".
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for shapes that do not fit, NaN, or states that do not differ between stimuli after the last step.
    """
    x = as_array(states, "states")
    if x.ndim != 4:
        raise ValueError(f"states must have shape [stimuli, steps, columns, channels], got {list(x.shape)}")
    label = as_labels(areas, x.shape[2], "areas", "column")
    names = region_names(label, "areas")
    options: dict[str, Any] = {"method": method, "permutations": permutations, "seed": seed}
    last = rdm(x[:, -1])
    whole = rsa(last, model, **options)
    shown = None if inputs is None else _input_rdm(inputs, len(x))

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
        attainable=whole.attainable,
        input_value=float("nan") if shown is None else rsa(shown, model, **options | {"permutations": 1}).value,
        partial=None if shown is None else rsa(last, model, given=shown, **options),
    )


def _input_rdm(inputs: Any, stimuli: int) -> Array:
    pixels = as_array(getattr(inputs, "images", inputs), "inputs")
    if pixels.ndim < 2 or len(pixels) != stimuli:
        raise ValueError(f"inputs must have one row for each of the {stimuli} stimuli, got shape {list(pixels.shape)}")
    try:
        return rdm(pixels.reshape(stimuli, -1))
    except ValueError as error:
        raise ValueError(f"inputs: {error}") from error
