"""How much a network withstands: corrupted images, attacks, noise on its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from colgraph.analysis import plotting
from colgraph.analysis.accuracy_curves import AccuracyCurve, accuracy_curve, check_levels, noise_curve
from colgraph.analysis.arrays import Array, as_vector, check_choice, check_count
from colgraph.analysis.corruptions import CONSTANTS, CORRUPTIONS, choose_constants, corrupt
from colgraph.analysis.nets import Net, bar, device_of, labeled_images, predict, restored
from colgraph.analysis.result import Result
from colgraph.analysis.scoring import PER_IMAGE, Scoring
from colgraph.analysis.severities import FAMILIES
from colgraph.analysis.stats import jackknife_interval, permuted
from colgraph.extras import optional
from colgraph.modes import evaluation

# ---------------------------------------------------------------------- corruptions

_COLOURS = (plotting.ORANGE, plotting.BLUE, plotting.GREEN, plotting.PURPLE)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CorruptionErrors(Result):
    """What :func:`corruption_errors` returns.

    Attributes:
        corruptions: names.
        severities: numbers from 1 to 5.
        errors: ``[corruptions, severities]`` share of wrong answers, or what else is missing of an accuracy of 1.
        errors_interval: ``[2, corruptions, severities]``.
        clean_error: the same of the images as they are.
        images: how many.
        constants: whose constants the corruptions have, "CIFAR-10-C" or "ImageNet-C".
        published: whether the images are of the size that those constants were published for.
        relative: mean over corruptions of the error beyond the clean one, over the baseline's where there is one.
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    errors: Array
    errors_interval: Array
    clean_error: float
    images: int
    constants: str
    published: bool
    relative: float

    in_summary = ("images", "constants", "published")

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the error against severity: thin, each corruption; thick, the mean of its family."""
        ax = plotting.axes(ax)
        x = [0, *self.severities]
        for (family, members), color in zip(FAMILIES.items(), _COLOURS, strict=True):
            rows = self.errors[[name in members for name in self.corruptions]]
            for row in rows:
                ax.plot(x, [self.clean_error, *row], color=color, linewidth=0.7, alpha=0.6)
            if len(rows):
                mean = [self.clean_error, *rows.mean(0)]
                ax.plot(x, mean, color=color, linewidth=2, marker="o", markersize=3.5, label=family)
        ax.plot(x, [self.clean_error, *self.errors.mean(0)], color=plotting.INK, linewidth=2.5, label="all")
        title = f"{self.name}:\n{self.value:.3f} on {self.images:,} images"
        ax.set(xlabel="severity (0: clean)", ylabel="error", ylim=(-0.02, max(1.02, ax.get_ylim()[1])), title=title)
        ax.set_xticks(x)
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        return ax


def corruption_errors(
    net: Net,
    images: Any,
    labels: Any,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    constants: str | None = None,
    baseline: Mapping[str, float] | None = None,
    scoring: Scoring = PER_IMAGE,
    batch_size: int = 256,
    permutations: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> CorruptionErrors:
    """Error under common corruptions, with the constants of CIFAR-10-C or of ImageNet-C.

    With ``E_sc`` the error under corruption c at severity s, the value is the mean corrupted error: the mean over c of
    ``sum_s E_sc / sum_s B_sc`` with the errors B of a baseline network, or plainly the mean of ``E_sc`` where no
    baseline is given. Source: Hendrycks and Dietterich (2019); see :mod:`colgraph.analysis.corruptions`. The result's
    name says whose constants they are, and where the images are of another size, that it is no published benchmark.
    Networks are compared at equal clean error: one that errs more errs more on corrupted images, too.

    Null: answers are shuffled over images (what a network that answers as often, but blindly, would get; tail "less");
    none where answers are no class per image. Interval: jackknife over images.

    Args:
        net: images between 0 and 1 to logits; normalisation belongs into it.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``, or as the scoring takes them.
        corruptions: some of :data:`colgraph.analysis.CORRUPTIONS`.
        severities: some of 1 to 5.
        constants: "CIFAR-10-C" or "ImageNet-C"; those of the nearer size if not given.
        baseline: the baseline's mean error over the severities, by corruption.
        scoring: what is counted of answers to a corrupted image, by what is right about the image itself, and how
            labels are shaped; by default a class per image. The error is what is missing of an accuracy of 1.
        batch_size: of the network.
        permutations: number of shuffles.
        seed: of the corruptions.
        progress: show a progress bar.

    Raises:
        ValueError: for names, severities or images that do not fit, or a baseline that lacks a corruption.
    """
    data, index = scoring.check(images, labels)
    for name in corruptions:
        check_choice("corruption", name, CORRUPTIONS)
    for severity in severities:
        check_choice("severity", severity, (1, 2, 3, 4, 5))
    nearest, exact = choose_constants(*data.shape[2:])
    chosen = nearest if constants is None else constants
    check_choice("constants", chosen, CONSTANTS)
    published = exact and chosen == nearest
    if not len(corruptions) or not len(severities):
        raise ValueError("corruption_errors needs at least one corruption and one severity")
    weight = _baseline(corruptions, baseline)

    def errors(counts: Array) -> Array:
        return 1 - scoring.accuracy(counts)

    def score(wrong: Array) -> float:
        return float((wrong.mean(1) / weight).mean())

    clean = float(errors(scoring.counts(net, data, data, index, batch_size=batch_size)))
    cells = [(name, severity) for name in corruptions for severity in severities]
    found, answers = [], []
    for name, severity in bar(cells, "corruptions", progress):
        worse = corrupt(data, name, severity, constants=chosen, seed=seed)
        if scoring is PER_IMAGE:
            answers.append(predict(net, worse, index, batch_size=batch_size))
            found.append((answers[-1] == index)[:, None].astype(np.float64))
        else:
            found.append(scoring.counts(net, worse, data, index, batch_size=batch_size))
    shape = (len(corruptions), len(severities))
    counts = np.stack(found).reshape(*shape, len(data), -1)
    wrong, left_out = errors(counts), [1 - each for each in scoring.left_out(counts, seed)]
    value = score(wrong)
    null = []
    if answers:
        blind = np.stack(answers).reshape(*shape, len(data))
        null = [score((blind != index[order]).mean(2)) for order in permuted(permutations, len(data), seed)]
    ends = scoring.interval(1 - wrong, [1 - each for each in left_out])
    return CorruptionErrors(
        name=f"mean corrupted error, constants of {chosen}" + ("" if published else f" ({_elsewhere(data)})"),
        value=value,
        null=np.array(null),
        interval=np.maximum(jackknife_interval(value, [score(each) for each in left_out]), 0),
        tail="less",
        unit="" if baseline is None else "of the baseline",
        corruptions=tuple(corruptions),
        severities=tuple(severities),
        errors=wrong,
        errors_interval=1 - ends[::-1],
        clean_error=clean,
        images=len(data),
        constants=chosen,
        published=published,
        relative=float(((wrong.mean(1) - clean) / weight).mean()),
    )


def _elsewhere(images: NDArray[Any]) -> str:
    height, width = images.shape[2:]
    return f"no published benchmark at {height} x {width} pixels"


def _baseline(corruptions: Sequence[str], baseline: Mapping[str, float] | None) -> Array:
    if baseline is None:
        return np.ones(len(corruptions))
    missing = [name for name in corruptions if name not in baseline]
    if missing:
        raise ValueError(f"baseline lacks {', '.join(missing)}")
    weight = as_vector([baseline[name] for name in corruptions], "baseline")
    if weight.min() <= 0:
        raise ValueError(f"baseline errors must be positive, got {weight.min():g}")
    return weight


# ---------------------------------------------------------------------- attacks and noise


def adversarial_accuracy(
    net: nn.Module,
    images: Any,
    labels: Any,
    *,
    attack: str = "pgd",
    epsilons: Sequence[float] = (0, 1 / 255, 2 / 255, 4 / 255, 8 / 255),
    steps: int = 20,
    step_size: float = 2 / 255,
    batch_size: int = 128,
    draws: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> AccuracyCurve:
    """Accuracy on images that were changed, within ``epsilon`` in every pixel, to make the network err.

    "pgd" follows the sign of the loss's gradient for ``steps`` steps from a random start (Madry et al. 2018), "fgsm"
    takes one step of length epsilon (Goodfellow et al. 2015); both are foolbox's. An image counts as withstood if the
    attack and the image itself are answered right. High accuracy under attack with gradients that vanish proves
    nothing: compare "pgd" with "fgsm", which should never be the stronger.

    Null: noise of the same size, each pixel moved by plus or minus epsilon at random (``draws`` times; tail "less").
    Interval: jackknife over images.

    Args:
        net: a torch module, images between 0 and 1 to logits; normalisation belongs into it.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``.
        attack: "pgd" or "fgsm".
        epsilons: largest changes of a pixel.
        steps: of "pgd".
        step_size: of "pgd".
        batch_size: of the network.
        draws: of the noise.
        seed: of the random start and the noise.
        progress: show a progress bar.

    Raises:
        ImportError: without foolbox, with the line that installs it.
        ValueError: for input that does not fit.
    """
    check_choice("attack", attack, ("pgd", "fgsm"))
    if not isinstance(net, nn.Module):
        raise ValueError(f"attacks need gradients: net must be a torch.nn.Module, got {type(net).__name__}")
    foolbox = optional("attacks need", "foolbox", "analysis")
    data, index = labeled_images(images, labels)
    levels = check_levels(epsilons, "epsilons", 1.0)
    device = device_of(net)
    if attack == "pgd":
        method = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=check_count("steps", steps))
    else:
        method = foolbox.attacks.LinfFastGradientAttack()
    correct = np.empty((len(levels), len(data)))
    correct[:] = predict(net, data, index, batch_size=batch_size) == index
    starts = range(0, len(data), check_count("batch_size", batch_size))
    with evaluation(net), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device=device)
        for start in bar(starts, f"attack {attack}", progress):
            part = slice(start, start + batch_size)
            x, y = torch.from_numpy(data[part]).to(device), torch.from_numpy(index[part]).to(device)
            _, _, fooled = method(model, x, y, epsilons=levels[levels > 0].tolist())
            correct[levels > 0, part] *= ~fooled.cpu().numpy()
    rng = np.random.default_rng(seed)
    null = np.empty((check_count("draws", draws), len(levels)))
    for draw in range(draws):
        sign = rng.choice(np.array([-1, 1], np.float32), data.shape)
        for k, level in enumerate(levels):
            noisy = np.clip(data + np.float32(level) * sign, 0, 1)
            null[draw, k] = (predict(net, noisy, index, batch_size=batch_size) == index).mean()
    return accuracy_curve(
        f"accuracy under {attack.upper()}",
        levels,
        correct[..., None],
        null,
        level_name="largest change of a pixel (black is 0, white 1)",
        null_name="random signs of the same size",
        seed=seed,
    )


def weight_noise(
    net: nn.Module,
    images: Any,
    labels: Any,
    *,
    levels: Sequence[float] = (0, 0.05, 0.1, 0.2, 0.4),
    draws: int = 5,
    scoring: Scoring = PER_IMAGE,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = True,
) -> AccuracyCurve:
    """Accuracy with noise on the weights: ``w + level * rms(w) * N(0, 1)`` for every tensor of weights.

    The root mean square is taken over each tensor, so a level is a share of the size that weights of a kind have, and
    weights that are zero stay so. The weights are the effective ones: a network with ``to_untied()``, as
    :class:`colgraph.VisionColumnformer` has, is disturbed in a copy in which every column has plain weights of its own,
    with noise of its own, so that networks of one function score the same, however they are written (tied or the same
    untied; shared + difference or their sums; identity as value weights or none; an edge bias that is learned or
    fixed). What columns share in any writing (patch embedding, readout) is disturbed for all of them alike. Other
    networks are disturbed in their parameters and put back: a network that applies one weight at every position, such
    as a ViT, gets the same noise at all of them, and its curve is not comparable with a sheet's.

    Null: none; the curve's first point is the network as it is. Interval: jackknife over images, of the mean over
    draws.

    Args:
        net: a torch module, images between 0 and 1 to logits.
        images: ``[B, channels, height, width]`` between 0 and 1, or bytes.
        labels: ``[B]``, or as the scoring takes them.
        levels: of the noise.
        draws: how often each level is drawn.
        scoring: what is counted of answers, and how labels are shaped; by default a class per image.
        batch_size: of the network.
        seed: of the noise.
        progress: show a progress bar.

    Raises:
        ValueError: for input that does not fit.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(f"noise on weights needs weights: net must be a torch.nn.Module, got {type(net).__name__}")
    write_out: Any = getattr(net, "to_untied", None)
    written_out: nn.Module = net if write_out is None else write_out()

    def answer(data: NDArray[Any], index: NDArray[Any], level: float, draw: int) -> Array:
        with noisy_weights(written_out, level, seed + draw):
            return scoring.counts(written_out, data, data, index, batch_size=batch_size)

    unit = "shares of the weights' root mean square"
    return noise_curve("weight noise", unit, answer, images, labels, levels, draws, seed, progress, scoring)


@contextmanager
def noisy_weights(net: nn.Module, level: float, seed: int) -> Any:
    """A module with noise on its parameters, which are put back afterwards.

    The noise of a parameter follows from the seed and its name, whatever other parameters there are.
    """
    with restored(net.parameters()):
        with torch.no_grad():
            for name, value in net.named_parameters():
                # Edges that are cut carry minus infinity; they stay cut.
                finite = value[torch.isfinite(value)]
                size = finite.square().mean().sqrt() if finite.numel() else value.new_zeros(())
                generator = torch.Generator().manual_seed(seed % 2**31 * 2**32 + crc32(name.encode()))
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float32).to(value)
                value.add_(level * size * noise)
        yield net
