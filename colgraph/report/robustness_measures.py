"""What a network answers to images that are spoiled, or when it is hurt itself: the last analyses of the report."""

from __future__ import annotations

import numpy as np

from colgraph import analysis
from colgraph.analysis import Result
from colgraph.analysis.scoring import PER_IMAGE, Scoring
from colgraph.report.catalogue import ANSWERS, Catalogue
from colgraph.report.context import Context

ROBUSTNESS = Catalogue()
_robustness = ROBUSTNESS.family("robustness")

# A network that errs more on clean images errs more on others: what these say of two networks, they say where both err
# alike on clean ones.


@_robustness(
    "Corrupted images",
    "Error under the families of corruption of CIFAR-10-C or ImageNet-C; lower is better. The title says whose "
    "constants they are. {blind}{accuracy}Compare networks at equal clean error.",
    ANSWERS,
)
def corruptions(c: Context) -> Result:
    severities = (1, 2, 3, 4, 5) if c.size <= 2000 else (1, 3, 5)
    images, options = _held_out(c, 15 * len(severities)), {"severities": severities, "scoring": _scoring(c)}
    return c.call(analysis.corruption_errors, c.net, *images, **options)


@_robustness(
    "Attacks",
    "Accuracy under projected gradient descent, beside random changes of the same size (grey). That attacks do more "
    "than chance is so for every network; what can differ is how much, at equal clean accuracy.",
    ANSWERS,
)
def attack(c: Context) -> Result:
    if _scoring(c) is not PER_IMAGE:
        raise ValueError(
            f"attacks are foolbox's, on the class of an image, which task {c.run.config.task} does not answer with: "
            "they need --task classify"
        )
    _small_enough(c)
    # A gradient costs about as much as five passes.
    return c.call(analysis.adversarial_accuracy, c.net, *_held_out(c, 5 * 4 * 10), steps=10, draws=_draws(c))


@_robustness(
    "Lesions",
    "Accuracy when the most listened-to columns are taken out, beside as many at random (grey). Columns that the "
    "image enters by are spared: without them the network is blind. Output columns are not: one that is taken out "
    "adds the same to every answer, whoever listens to it; where each answers by itself, output columns are spared, "
    "too. {accuracy}",
    ANSWERS,
    needs=("columns", "attention", "stepping"),
)
def lesions(c: Context) -> Result:
    _small_enough(c)
    scoring, spared = _scoring(c), _spared(c)
    between = c.edges[0] != c.edges[1]
    heard = np.bincount(c.edges[0, between], c.attention[between], len(c.positions))
    images, options = _held_out(c, 5 * (_draws(c) + 1)), {"draws": _draws(c), "scoring": scoring}
    return c.call(analysis.lesion_curve, c.net, *images, c.edges, score=heard, spare=spared, **options)


def _spared(c: Context) -> np.ndarray:
    """``[columns]``: those that the image enters by, and those that answer by themselves; or a ValueError if all."""
    spared = np.asarray((c.sheet.input_rank >= 0).numpy())
    by_themselves = getattr(c.run.net.net, "readout", "mean") == "columns"
    if by_themselves:
        spared = spared | c.sheet.output_mask.numpy()
    if spared.all():
        also = f" or answers by itself (task {c.run.config.task})" if by_themselves else ""
        raise ValueError(f"every column sees a patch{also}, and is spared: lesions need columns that do not")
    return spared


@_robustness(
    "Noise on activity",
    "Accuracy when every state is disturbed after every step, by shares of its own size. {accuracy}",
    ANSWERS,
    needs=("columns", "stepping"),
)
def activity_noise(c: Context) -> Result:
    _small_enough(c)
    return c.call(analysis.activity_noise, c.net, *_held_out(c, 15), draws=3, scoring=_scoring(c))


@_robustness(
    "Noise on weights",
    "Accuracy when every weight {weights}. {accuracy}",
    ANSWERS,
)
def weight_noise(c: Context) -> Result:
    _small_enough(c)
    return c.call(analysis.weight_noise, c.net, *_held_out(c, 15), draws=3, scoring=_scoring(c))


def _scoring(c: Context) -> Scoring:
    return c.run.scoring(c.settings.seed)


def _held_out(c: Context, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images drawn at random, the same for a run and its controls: up to 2,000, as time and memory allow.

    Time grows with the columns and the passes over the images, memory with the pixels.
    """
    most = min(1.4e7 // (c.size * passes), 5e7 // c.run.images[0].size)
    count = int(np.clip(most, 16, 2000))
    chosen = np.sort(np.random.default_rng(c.settings.seed).permutation(len(c.run.images))[:count])
    return c.run.images[chosen], c.run.labels[chosen]


def _draws(c: Context) -> int:
    """Random lesions and noises: enough for a p-value of 5% where that takes seconds."""
    return int(np.clip(c.settings.permutations // 10, 3, 20)) if c.size <= 300 else 3


def _small_enough(c: Context) -> None:
    if c.size > 3000 and not c.settings.robustness:
        raise ValueError(f"left out on a sheet of {c.size:,} columns for its time: ask for it by --robustness")
