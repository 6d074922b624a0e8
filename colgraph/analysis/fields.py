"""Receptive fields: by gradient, step by step, and by reverse correlation with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_responses, check_count, check_varies, same_length
from colgraph.analysis.nets import bar, device_of
from colgraph.analysis.result import Result
from colgraph.analysis.signals import Signal, check_signal, signals_of, step_numbers
from colgraph.analysis.stats import jackknife_interval, leaving_out, permuted, random_groups
from colgraph.modes import evaluation


def field_size(power: Array) -> tuple[Array, Array]:
    """Where maps lie and how far they reach.

    Args:
        power: ``[..., height, width]`` not negative.

    Returns:
        centre ``[..., 2]`` (row, column) of mass, and radius ``[...]``: the root mean square distance from it, both in
        pixels; NaN where a map is zero. A uniform disk of radius R has radius ``R / sqrt(2)``.
    """
    total = power.sum((-2, -1))
    share = power / np.where(total > 0, total, np.nan)[..., None, None]
    row, column = np.arange(power.shape[-2]), np.arange(power.shape[-1])
    centre = np.stack([share.sum(-1) @ row, share.sum(-2) @ column], -1)
    distance = (row[:, None] - centre[..., :1, None]) ** 2 + (column - centre[..., 1:, None]) ** 2
    return centre, np.sqrt((share * distance).sum((-2, -1)))


# ---------------------------------------------------------------------- by gradient


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GradientFields(Result):
    """What :func:`gradient_fields` returns; the value is the mean radius after the last step, in pixels.

    Attributes:
        columns: ``[K]``.
        steps: ``[T]`` numbers of the steps, 0 the first.
        power: ``[T, K, height, width]`` mean squared gradient over images and color channels.
        centre: ``[T, K, 2]`` row and column of the field's centre; NaN where a column does not yet see the image.
        radius: ``[T, K]`` pixels.
        reach: ``[T, K]`` share of pixels with any gradient at all.
        radius_interval: ``[2, T]`` of the mean over columns.
    """

    columns: NDArray[np.int64]
    steps: NDArray[np.int64]
    power: Array
    centre: Array
    radius: Array
    reach: Array
    radius_interval: Array

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the mean radius over steps; of a single step, the first column's field."""
        ax = plotting.axes(ax)
        if len(self.steps) == 1:
            ax.imshow(np.sqrt(self.power[0, 0]), cmap="viridis")
            ax.set(xlabel="pixels", ylabel="pixels")
            ax.set_title(f"receptive field of column {self.columns[0]}, radius {self.radius[0, 0]:.2f} pixels")
            return ax
        ax.plot(self.steps + 1, self.radius, color=plotting.GREY, linewidth=0.6, alpha=0.6)
        ax.fill_between(self.steps + 1, *self.radius_interval, color=plotting.ORANGE, alpha=0.25, linewidth=0)
        ax.plot(self.steps + 1, _mean(self.radius), color=plotting.ORANGE, marker="o", label="mean over columns")
        ax.set(xlabel="step", ylabel="radius (pixels)", title="effective receptive field")
        ax.xaxis.set_major_locator(plotting.whole_numbers())
        ax.legend(frameon=False, fontsize=8)
        return ax


def gradient_fields(
    net: Any,
    images: Any,
    columns: Any,
    *,
    signal: Signal = "normed",
    steps: Any = None,
    batch_size: int = 16,
    permutations: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> GradientFields:
    """Which pixels move what a column is read by: effective receptive fields, after each step.

    The gradient of a column's signal with respect to the image, squared and averaged over images and color channels.
    Of a signal of several channels it is the gradient along one direction of random signs for each image: its square
    is, on average, the sum of the channels' squared gradients. Source: Luo et al. (2016), "Understanding the effective
    receptive field in deep convolutional neural networks". Where no path of edges leads from a pixel to a column in
    that many steps the gradient is zero.

    Null: the pixels of each field are shuffled, which gives the radius of a field that is spread over the whole image
    (tail "less"). Interval: jackknife over columns.

    Args:
        net: has ``unroll(images, record=("state",))`` returning ``states`` ``[steps, columns, B, channels]``.
        signal: what of a column is differentiated, see :func:`colgraph.analysis.responses`.
        images: ``[stimuli, channels, height, width]`` as the network takes them: use images like those it was trained
            on, and some dozens of them.
        columns: ``[K]`` indices. Each column and step takes one backward pass per batch.
        steps: numbers of steps (0 the first, -1 the last); all if not given.
        batch_size: stimuli at a time.
        permutations: number of shuffles.
        seed: of the directions and the shuffles.
        progress: show a progress bar.

    Raises:
        ValueError: for columns, steps or signals that do not exist, or if no column sees the image.
    """
    data = torch.as_tensor(getattr(images, "images", images))
    if data.dim() != 4 or not len(data):
        raise ValueError(f"images must have shape [stimuli, channels, height, width], got {list(data.shape)}")
    index = np.atleast_1d(np.asarray(columns))
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise ValueError(f"columns must be a list of indices, got {index.dtype} of shape {list(index.shape)}")
    if not hasattr(net, "unroll"):
        raise ValueError("gradient_fields needs a network with unroll(images, record=...)")
    check_signal(net, signal)
    power: Array | None = None
    signs = torch.Generator().manual_seed(seed)
    starts = range(0, len(data), check_count("batch_size", batch_size))
    with evaluation(net):
        number = _from_the_first(net, data[:1], signal, steps)
        for start in bar(starts, "receptive fields", progress):
            part = _squared_gradients(net, data[start : start + batch_size], index, signal, steps, signs)
            power = part if power is None else power + part
    if power is None or not power.any():
        raise ValueError(f"none of the {len(index)} columns sees the image in the steps asked for")
    power = power / len(data)
    centre, radius = field_size(power)
    last = radius[-1]
    seen = np.isfinite(last)
    rng = np.random.default_rng(seed)
    flat = power[-1][seen].reshape(int(seen.sum()), -1)
    null = [field_size(rng.permuted(flat, axis=1).reshape(-1, *power.shape[2:]))[1].mean() for _ in range(permutations)]
    left_out = [_mean(radius[:, kept]) for kept in leaving_out(random_groups(len(index), seed)) if kept.any()]
    interval = jackknife_interval(_mean(radius), np.reshape(left_out, (-1, len(power))))
    return GradientFields(
        name="receptive field radius",
        value=float(_mean(radius)[-1]),
        null=np.array(null) if seen.any() else np.empty(0),
        interval=interval[:, -1],
        tail="less",
        unit="pixels",
        columns=index.astype(np.int64),
        steps=number,
        power=power,
        centre=centre,
        radius=radius,
        reach=(power > 0).mean((-2, -1)),
        radius_interval=interval,
    )


@torch.no_grad()
def _from_the_first(net: Any, image: Tensor, signal: Signal, steps: Any) -> NDArray[np.int64]:
    """``[T]``: numbers of the steps that were asked for, those counted from the end too."""
    count = len(signals_of(net, image.to(device_of(net)).float(), signal, "all"))
    number = np.arange(count)
    return number if steps is None or isinstance(steps, str) else number[step_numbers(steps, count)]


def _mean(radius: Array) -> Array:
    """Mean over the columns that see the image, NaN where none does."""
    seen = np.isfinite(radius)
    total = np.where(seen, radius, 0).sum(-1)
    return np.where(seen.any(-1), total / np.maximum(seen.sum(-1), 1), np.nan)


def _squared_gradients(
    net: Any, batch: Tensor, columns: NDArray[Any], signal: Signal, steps: Any, signs: torch.Generator
) -> Array:
    """``[T, K, height, width]``: squared gradients summed over the batch, averaged over color channels."""
    x = batch.detach().to(device_of(net)).float().requires_grad_()
    with torch.enable_grad():
        signals = signals_of(net, x, signal, "all" if steps is None else steps, columns)
    out = np.zeros((*signals.shape[:2], *x.shape[2:]))
    shape = signals.shape[2:]
    direction = (torch.ones(shape) if len(shape) == 1 else 2 * torch.randint(2, shape, generator=signs) - 1).to(signals)
    for t, each in enumerate(signals):
        for k, one in enumerate(each):
            (gradient,) = torch.autograd.grad(one, x, direction, retain_graph=True, allow_unused=True)
            if gradient is not None:
                out[t, k] = gradient.double().square().mean(1).sum(0).cpu().numpy()
    return out


# ---------------------------------------------------------------------- by reverse correlation


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ReverseCorrelation(Result):
    """What :func:`reverse_correlation` returns; the value is the share of columns with a field beyond chance.

    Attributes:
        field: ``[columns, channels, height, width]`` slope of the response against each pixel; with vector responses
            the length of the slope's vector, which is not negative.
        peak: ``[columns]`` largest standardised slope.
        p_columns: ``[columns]`` chance of so high a peak anywhere in the image, for one column.
        centre: ``[columns, 2]`` row and column of the peak.
    """

    field: NDArray[np.float32]
    peak: Array
    p_columns: Array
    centre: NDArray[np.int64]

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the field with the highest peak, averaged over color channels."""
        ax = plotting.axes(ax)
        best = int(self.peak.argmax())
        shown = self.field[best].mean(0)
        reach = float(np.abs(shown).max()) or 1.0
        signed = bool((self.field < 0).any())
        image = ax.imshow(shown, cmap="PuOr" if signed else "viridis", vmin=-reach if signed else 0, vmax=reach)
        ax.figure.colorbar(image, ax=ax, label="response per unit of intensity")
        ax.set(xlabel="pixels", ylabel="pixels", title=f"column {best}; {self.value:.0%} of columns have a field")
        return ax


def reverse_correlation(responses: Any, images: Any, *, permutations: int = 50, seed: int = 0) -> ReverseCorrelation:
    """Linear receptive fields from responses to noise.

    ``field_p = sum_s (r_s - mean r) (x_sp - mean x_p) / sum_s (x_sp - mean x_p)^2``: the regression of the response on
    each pixel. For white noise its expectation is the network's linear part, and for a linear network the weights
    (Ringach and Shapley 2004, "Reverse correlation in neurophysiology"). Noise with correlated pixels blurs it.

    Null: the images are shuffled against the responses; peaks are standardised, so the null is shared by columns
    (taken from at most 300 of them). Interval: jackknife over columns.

    Args:
        responses: ``[stimuli, columns]``, or ``[stimuli, columns, channels]``: then the length of the vector of slopes.
        images: ``[stimuli, channels, height, width]``, or :class:`colgraph.analysis.Probes` of noise.
        permutations: number of shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: for different numbers of stimuli, NaN, columns without variance, or pixels that never change.
    """
    r = as_responses(responses, "responses", 3, channels=True)
    check_varies(r)
    data = torch.as_tensor(getattr(images, "images", images)).detach().cpu().float().numpy()
    if data.ndim != 4:
        raise ValueError(f"images must have shape [stimuli, channels, height, width], got {list(data.shape)}")
    same_length("stimuli", responses=r, images=data)
    x = data.reshape(len(data), -1)
    x = x - x.mean(0)
    spread = x.std(0)
    if not spread.min() > 0:
        raise ValueError(f"images must vary in every pixel, {int((spread == 0).sum())} pixels never change")
    y = r.reshape(*r.shape[:2], -1)
    # In float32 a response far from zero would be its rounding.
    y = (y - y.mean(0, dtype=np.float64)).astype(np.float32)
    scale = y.std(0)
    signed = y.shape[2] == 1
    slope = _slopes(y, x) / (spread**2)
    standard = _standardised(slope * spread, scale, len(x))
    field = slope[:, 0] if signed else np.sqrt((slope**2).sum(1))
    peak = standard.max(1)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(y.shape[1])[:300])
    orders = permuted(permutations, len(x), seed)
    by_chance = np.stack(
        [_standardised(_slopes(y[:, some], x[order]) / spread, scale[some], len(x)).max(1) for order in orders]
    )
    pooled = np.sort(by_chance.ravel())
    p = (1 + len(pooled) - np.searchsorted(pooled, peak)) / (1 + len(pooled))
    p_null = (1 + len(pooled) - np.searchsorted(pooled, by_chance)) / (1 + len(pooled))
    found = p <= 0.05
    left_out = [found[kept].mean() for kept in leaving_out(random_groups(len(found), seed)) if kept.any()]
    place = standard.argmax(1) % (data.shape[2] * data.shape[3])
    return ReverseCorrelation(
        name="columns with a receptive field",
        value=float(found.mean()),
        null=(p_null <= 0.05).mean(1),
        interval=np.clip(jackknife_interval(found.mean(), left_out), 0, 1),
        unit="share",
        field=field.reshape(-1, *data.shape[1:]).astype(np.float32),
        peak=peak.astype(np.float64),
        p_columns=p,
        centre=np.stack(np.divmod(place, data.shape[3]), 1),
    )


def _slopes(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """``[columns, channels, pixels]``: mean products of centred responses ``[S, columns, channels]`` and pixels."""
    flat = y.reshape(len(y), -1)
    return np.asarray((flat.T @ x) / len(x)).reshape(*y.shape[1:], -1)


def _standardised(slope: NDArray[Any], scale: NDArray[Any], stimuli: int) -> NDArray[Any]:
    """``[columns, pixels]``: correlations times ``sqrt(stimuli)``; of vectors, the root mean square over channels."""
    z = slope / np.where(scale > 0, scale, np.inf)[:, :, None] * np.sqrt(stimuli)
    return np.abs(z[:, 0]) if z.shape[1] == 1 else np.sqrt((z**2).mean(1))
