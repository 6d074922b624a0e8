"""Two runs on the same images: ``predictions.npz`` of both, joined by image."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from colgraph.report.corrected import false_discovery
from colgraph.report.line_up import LineUp

__all__ = ["Answers", "Mean", "bootstrap_of_difference", "mcnemar", "mean_over_seeds", "mean_over_seeds_and_images"]
__all__ += ["paired_accuracies", "read_answers", "right_on_the_same"]

_ARRAYS = ("image", "label", "prediction", "classes")
_DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class Answers:
    """Which held-out images a run has answered rightly.

    Attributes:
        path: the run.
        right: by the image's key, the name of its class, and how many alike came before it.
    """

    path: Path
    right: Mapping[tuple[str, str, int], bool]


def read_answers(path: Path) -> Answers:
    """Read a run's ``predictions.npz``.

    Raises:
        ValueError: where there is none, or it is broken, or not of the network that ``summary.json`` tells of.
    """
    file = path / "predictions.npz"
    if not file.is_file():
        raise ValueError(f"{str(path)!r} has no {file.name}: colgraph evaluate {path} writes it")
    try:
        with np.load(file, allow_pickle=False) as content:
            image, label, prediction, classes = (content[name] for name in _ARRAYS)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {str(file)!r}: {' '.join(str(error).split())}") from error
    numbers = np.concatenate([label, prediction])
    if (
        not len(image)
        or not len(image) == len(label) == len(prediction)
        or not 0 <= numbers.min() <= numbers.max() < len(classes)
    ):
        raise ValueError(
            f"{str(file)!r} does not hold one label and one prediction per image, by numbers of its classes"
        )
    seen: Counter[tuple[str, str]] = Counter()
    right = {}
    for key, name, hit in zip(
        image.astype(str).tolist(), classes[label].astype(str).tolist(), (label == prediction).tolist()
    ):
        right[key, name, seen[key, name]] = hit
        seen[key, name] += 1
    return Answers(path, right)


def right_on_the_same(answers: list[Answers]) -> NDArray[np.bool_]:
    """``[runs, images]`` which of the images that all runs have seen each has answered rightly.

    Raises:
        ValueError: where there are none.
    """
    shared = set(answers[0].right).intersection(*(each.right for each in answers[1:]))
    if not shared:
        raise ValueError("the runs have been tested on no image in common")
    order = sorted(shared)
    return np.array([[each.right[key] for key in order] for each in answers])


def paired_accuracies(compared: LineUp) -> dict[str, Any]:
    """The run's accuracy on its test images, and by how much it differs from each trained control on the same images.

    Returns:
        ``run`` (``value, low, high, images``) and ``controls``: by name ``value`` (the control's), ``difference`` with
        ``low`` and ``high``, ``p_value`` (McNemar) and ``p_fdr``, ``images``, and on how many the run alone
        (``only_run``) or the control alone (``only_control``) was right; ``folder``, beside the run's. In place of what
        there is not, ``why_not``.
    """
    controls = {context.name: compared.paths[context.name] for context in compared.trained}
    try:
        run = read_answers(compared.paths["run"])
    except ValueError as error:
        return {"run": {"why_not": str(error)}, "controls": {}}
    found = {name: _paired(run, path) for name, path in controls.items()}
    tested = [each for each in found.values() if "p_value" in each]
    for each, p in zip(tested, false_discovery(each["p_value"] for each in tested), strict=True):
        each["p_fdr"] = p
    right = np.array([*run.right.values()])
    ends = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    alone = {"value": float(right.mean()), "low": ends.low, "high": ends.high, "images": len(right)}
    return {"run": alone, "controls": found}


def _paired(run: Answers, control: Path) -> dict[str, Any]:
    try:
        mine, theirs = right_on_the_same([run, read_answers(control)])
    except ValueError as error:
        return {"folder": control.name, "why_not": str(error)}
    low, high = bootstrap_of_difference(mine, theirs)
    return {
        "folder": control.name,
        "value": float(theirs.mean()),
        "difference": float(mine.mean() - theirs.mean()),
        "low": low,
        "high": high,
        "p_value": mcnemar(mine, theirs),
        "only_run": int((mine & ~theirs).sum()),
        "only_control": int((theirs & ~mine).sum()),
        "images": len(mine),
    }


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Whether two models are right equally often: the exact test on the images where one alone is. McNemar (1947)."""
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    return float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0


def bootstrap_of_difference(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int = 0) -> tuple[float, float]:
    """The 95% interval of ``first.mean() - second.mean()`` over images drawn anew, each with both answers.

    An image adds 1, -1 or 0, so that drawing images is drawing how many there are of each.
    """
    n = len(first)
    shares = np.array([(first & ~second).mean(), (second & ~first).mean()])
    drawn = np.random.default_rng(seed).multinomial(n, [*shares, 1 - shares.sum()], _DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error and the degrees of freedom of Student's t."""

    value: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95%; NaN where there is none."""
        reach = float(stats.t.ppf(0.975, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    @property
    def p_value(self) -> float:
        """Whether it differs from zero; NaN where that cannot be said."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))


def mean_over_seeds(values: NDArray[Any]) -> Mean:
    """Of ``values [seeds]``, where other seeds could have come; NaN for one alone."""
    n = len(values)
    error = float(np.std(values, ddof=1) / n**0.5) if n > 1 else np.nan
    return Mean(float(np.mean(values)), error, n - 1 if n > 1 else np.nan)


def mean_over_seeds_and_images(values: NDArray[Any]) -> Mean:
    """Of ``values [seeds, images]``, where other seeds and other images could have come.

    Every seed answers the same images. The variance of the mean is ``s^2 / S + i^2 / n - r^2 / (S n)`` with the
    variances of the seeds' means, the images' means and what neither explains, which the other two count twice; degrees
    of freedom by Satterthwaite. Source: Searle, Casella and McCulloch (1992), "Variance components", the two-way
    crossed random model. Of a single seed it says how well that one is known: the images alone vary.
    """
    values = np.asarray(values, dtype=np.float64)
    seeds, images = values.shape
    by_seed, by_image, mean = values.mean(1), values.mean(0), float(values.mean())
    of_images = float(by_image.var(ddof=1)) / images if images > 1 else np.nan
    if seeds < 2:
        return Mean(mean, of_images**0.5, images - 1)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    rest = values - by_seed[:, None] - by_image + mean
    twice = float((rest**2).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images)
    variance = max(of_seeds + of_images - twice, 0.0)
    parts = of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1)
    return Mean(mean, variance**0.5, max(variance**2 / parts, 1.0) if parts else seeds - 1)
