"""Gabor functions fitted to receptive fields: where they lie, which waves they are made of, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit, logit

from colgraph.analysis import plotting
from colgraph.analysis.arrays import Array, as_array, check_choice, check_count
from colgraph.analysis.nets import bar
from colgraph.analysis.result import Result
from colgraph.analysis.stats import jackknife_interval, leaving_out, random_groups

NULLS = ("phases", "pixels")

_STARTS = 3
"""Fits of each field, from the best of a grid of Gabor functions: one alone ends in a local optimum now and then."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GaborFits(Result):
    """What :func:`fit_gabors` returns; the value is the share of units that are well fitted.

    Attributes:
        r2: ``[units]`` share of a field's variance that the fit explains; NaN for a field that is the same everywhere.
        well: ``[units]`` those of which ``r2`` is above the threshold.
        p_units: ``[units]`` chance of so good a fit to a field of the null, for one unit; NaN without a field.
        centre: ``[units, 2]`` row and column, in pixels.
        orientation: ``[units]`` of the bars, radians from 0 to below pi, from horizontal against the clock: that of the
            grating (:func:`colgraph.analysis.gratings`) that drives the field most.
        frequency: ``[units]`` cycles per pixel.
        sigma: ``[units, 2]`` of the envelope across and along the bars, in pixels.
        phase: ``[units]`` radians from 0 to below 2 pi: 0 a bright bar in the middle, pi a dark one, half way an edge.
        amplitude: ``[units]``.
        bandwidth: ``[units]`` full width at half height of the spectrum, in octaves; infinite for fields that pass the
            lowest frequencies.
        color: ``[units, channels]`` of unit length: the color in which the field has most of its power. A Gabor
            function is fitted along it; what a field has in other colors counts as not explained.
        fitted: ``[units, channels, height, width]``.
        threshold: of ``r2``.
    """

    r2: Array
    well: NDArray[np.bool_]
    p_units: Array
    centre: Array
    orientation: Array
    frequency: Array
    sigma: Array
    phase: Array
    amplitude: Array
    bandwidth: Array
    color: Array
    fitted: NDArray[np.float32]
    threshold: float

    @property
    def nx(self) -> Array:
        """``[units]`` envelope across the bars, in periods: below 0.25 or so a blob, above it several bars."""
        return np.asarray(self.sigma[:, 0] * self.frequency)

    @property
    def ny(self) -> Array:
        """``[units]`` envelope along the bars, in periods."""
        return np.asarray(self.sigma[:, 1] * self.frequency)

    def plot(self, ax: plotting.Axes | None = None) -> plotting.Axes:
        """Draw the shapes of the well fitted fields, as Ringach (2002) does: nx against ny."""
        ax = plotting.axes(ax)
        shown = np.stack([self.nx, self.ny])[:, self.well]
        ax.scatter(shown[0], shown[1], s=14, color=plotting.BLUE, linewidths=0)
        reach = max(1.0, float(np.quantile(shown, 0.98))) if shown.size else 1.0
        ax.plot([0, reach], [0, reach], color=plotting.GREY, linewidth=0.8, linestyle=":")
        chance = f" (by chance {self.null.mean():.0%})" if len(self.null) else ""
        title = f"{self.value:.0%} of {len(self.well)} fields are Gabor functions{chance}"
        ax.set(xlabel="nx (periods across the bars)", ylabel="ny (periods along the bars)", title=title)
        ax.set(xlim=(0, 1.05 * reach), ylim=(0, 1.05 * reach), aspect="equal")
        return ax


def gabor(
    size: tuple[int, int],
    *,
    centre: Any,
    orientation: float,
    frequency: float,
    sigma: Any,
    phase: float,
    amplitude: float = 1.0,
) -> Array:
    """``[height, width]``: ``amplitude exp(-u^2 / 2 s_u^2 - v^2 / 2 s_v^2) cos(2 pi frequency u + phase)``.

    u is the distance across the bars from the centre and v that along them, in pixels; the arguments are those that
    :class:`GaborFits` holds. Source: Jones and Palmer (1987), "An evaluation of the two-dimensional Gabor filter model
    of simple receptive fields in cat striate cortex".
    """
    where = (
        *np.asarray(centre, dtype=np.float64),
        orientation,
        *np.log(np.asarray(sigma, dtype=np.float64)),
        frequency,
    )
    cosine, sine = _waves(np.array([where]), size)[0]
    return amplitude * (np.cos(phase) * cosine - np.sin(phase) * sine).reshape(size)


def fit_gabors(
    fields: Any,
    *,
    threshold: float = 0.7,
    null: str = "phases",
    permutations: int = 19,
    most: int = 25,
    seed: int = 0,
    progress: bool = True,
) -> GaborFits:
    """Fit a Gabor function to each receptive field, by least squares.

    Shapes are told by how many periods fit the envelope across (``nx = s_u f``) and along the bars (``ny = s_v f``);
    many of macaque V1 lie near the origin, others along a line with ``ny`` above ``nx``. Source: Ringach (2002),
    "Spatial structure and symmetry of simple-cell receptive fields in macaque primary visual cortex". Centre,
    orientation, envelope and frequency (up to half a cycle per pixel) are searched from the three best of a grid;
    amplitude and phase follow in closed form.

    A function of 8 numbers fits small or smooth fields of any origin. Null: the same fields with their Fourier phases
    drawn at random, which keeps how coarse and how oriented they are and takes away that they lie somewhere
    ("phases"); or with their pixels shuffled ("pixels"). Interval: jackknife over units.

    Args:
        fields: ``[units, channels, height, width]`` or ``[units, height, width]``, with signs: from
            :func:`colgraph.analysis.reverse_correlation` of one number per unit (hidden units, or channels), from
            gradients, or weights.
        threshold: the least share of variance of a well fitted field.
        null: "phases" or "pixels".
        permutations: how often the null is drawn; each takes fits of its own.
        most: fields of each draw, at random.
        seed: of the null and the groups.
        progress: show a progress bar.

    Raises:
        ValueError: for another shape, fields of fewer than 16 pixels, NaN, or fields that are all the same everywhere.
    """
    check_choice("null", null, NULLS)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold:g}")
    x = _as_fields(fields)
    varies = np.ptp(x.reshape(len(x), -1), axis=1) > 0
    if not varies.any():
        raise ValueError(f"fields are the same everywhere, all {len(x)} of them: there is nothing to fit")
    draws = list(_scrambled(x[varies], null, check_count("permutations", permutations), most, seed))
    work = bar([*x, *np.concatenate(draws)], "Gabor functions", progress)
    fits = [_fit(field) for field in work]
    own, others = fits[: len(x)], np.array([fit.r2 for fit in fits[len(x) :]])
    r2, parameters = np.array([fit.r2 for fit in own]), np.stack([fit.parameters for fit in own])
    well = r2 > threshold
    left_out = [well[kept].mean() for kept in leaving_out(random_groups(len(x), seed)) if kept.any()]
    exceeded = len(others) - np.searchsorted(np.sort(others), r2)
    sigma = np.exp(parameters[:, 3:5])
    return GaborFits(
        name="fields that are Gabor functions",
        value=float(well.mean()),
        null=(others > threshold).reshape(len(draws), -1).mean(1) * varies.mean(),
        interval=np.clip(jackknife_interval(well.mean(), left_out), 0, 1),
        unit="share",
        r2=r2,
        well=well,
        p_units=np.where(varies, (1 + exceeded) / (1 + len(others)), np.nan),
        centre=parameters[:, :2],
        orientation=parameters[:, 2],
        frequency=parameters[:, 5],
        sigma=sigma,
        phase=np.array([fit.phase for fit in own]),
        amplitude=np.array([fit.amplitude for fit in own]),
        bandwidth=_octaves(parameters[:, 5], sigma[:, 0]),
        color=np.stack([fit.color for fit in own]),
        fitted=np.stack([fit.fitted for fit in own]).astype(np.float32),
        threshold=threshold,
    )


def _as_fields(values: Any) -> Array:
    array = as_array(values, "fields").astype(np.float64)
    array = array[:, None] if array.ndim == 3 else array
    if array.ndim != 4 or not array.size:
        raise ValueError(f"fields must have shape [units, channels, height, width], got {list(array.shape)}")
    height, width = array.shape[2:]
    if height * width < 16:
        raise ValueError(f"fields of {height} x {width} pixels are too small for the 8 numbers of a Gabor function")
    if not np.isfinite(array).all():
        unit = int((~np.isfinite(array)).any((1, 2, 3)).argmax())
        raise ValueError(f"fields must be finite, that of unit {unit} is not")
    return array


def _scrambled(x: Array, null: str, draws: int, most: int, seed: int) -> Iterator[Array]:
    """Fields without their shape; all color channels of a field alike."""
    rng = np.random.default_rng(seed)
    count = min(len(x), check_count("most", most))
    for _ in range(draws):
        some = x[rng.permutation(len(x))[:count]]
        if null == "pixels":
            order = rng.permuted(np.tile(np.arange(x.shape[2] * x.shape[3]), (count, 1)), axis=1)
            yield np.take_along_axis(some.reshape(*some.shape[:2], -1), order[:, None], 2).reshape(some.shape)
            continue
        spectrum = np.fft.fft2(rng.normal(size=(count, 1, *x.shape[2:])))
        yield np.fft.ifft2(np.abs(np.fft.fft2(some)) * spectrum / np.abs(spectrum)).real


# ---------------------------------------------------------------------- one field


@dataclass(frozen=True, eq=False)
class _Fit:
    """``parameters`` are row, column, orientation, logarithms of both sigmas, and frequency."""

    parameters: Array
    r2: float
    amplitude: float
    phase: float
    color: Array
    fitted: Array


def _fit(field: Array) -> _Fit:
    """The best Gabor function for ``field [channels, height, width]``."""
    channels, height, width = field.shape
    flat = field.reshape(channels, -1)
    total = float(((flat - flat.mean(1, keepdims=True)) ** 2).sum())
    if not total > 0:
        none = np.full(6, np.nan)
        return _Fit(none, np.nan, np.nan, np.nan, np.full(channels, np.nan), np.zeros_like(field))
    left, scale, _ = np.linalg.svd(flat, full_matrices=False)
    color = left[:, 0] * np.sign(left[np.abs(left[:, 0]).argmax(), 0])
    plane = color @ flat
    unit, size = plane / scale[0], (height, width)
    low, high = _bounds(size)

    def residual(free: Array) -> Array:
        waves = _waves((low + (high - low) * expit(free))[None], size)[0]
        return waves.T @ _loadings(waves, unit) - unit

    def slopes(free: Array) -> Array:
        share = expit(free)
        return _slopes(low + (high - low) * share, size, unit) * ((high - low) * share * (1 - share))

    best, least = np.empty(6), np.inf
    for start in _starts(unit.reshape(size)):
        free = logit(np.clip((start - low) / (high - low), 0.01, 0.99))
        # Levenberg and Marquardt's method, the fastest here, knows no bounds: they are in the parameters.
        found = least_squares(residual, free, slopes, method="lm", max_nfev=100)
        if found.cost < least:
            best, least = low + (high - low) * expit(found.x), found.cost
    best[2] %= np.pi
    waves = _waves(best[None], size)[0]
    cosine, sine = _loadings(waves, plane)
    fitted = waves.T @ [cosine, sine]
    return _Fit(
        best,
        1 - float(((flat - color[:, None] * fitted) ** 2).sum()) / total,
        float(np.hypot(cosine, sine)),
        float(np.arctan2(-sine, cosine) % (2 * np.pi)),
        color,
        (color[:, None] * fitted).reshape(field.shape),
    )


def _bounds(size: tuple[int, int]) -> tuple[Array, Array]:
    """Of the parameters; orientations have room on either side of once around, so that none starts at an end."""
    sides, wide = np.array(size) - 0.5, np.log(2.0 * max(size))
    low = np.array([-0.5, -0.5, -np.pi, np.log(0.3), np.log(0.3), 0.0])
    return low, np.array([*sides, 2 * np.pi, wide, wide, 0.5])


def _across_and_along(parameters: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """``[G, pixels]`` each: distances from the centre across and along the bars."""
    row, column, theta = parameters.T[:3, :, None]
    down, right = (x.ravel() for x in np.indices(size))
    up, right = row - down, right - column
    return up * np.cos(theta) - right * np.sin(theta), right * np.cos(theta) + up * np.sin(theta)


def _waves(parameters: Array, size: tuple[int, int]) -> Array:
    """``[G, 2, pixels]``: for each of ``parameters [G, 6]`` the envelope times a cosine, and times a sine."""
    u, v = _across_and_along(parameters, size)
    log_u, log_v, frequency = parameters.T[3:, :, None]
    envelope = np.exp(-0.5 * ((u / np.exp(log_u)) ** 2 + (v / np.exp(log_v)) ** 2))
    turn = 2 * np.pi * frequency * u
    return np.stack([envelope * np.cos(turn), envelope * np.sin(turn)], 1)


def _slopes(parameters: Array, size: tuple[int, int], target: Array) -> Array:
    """``[pixels, 6]``: how the best fit changes with the parameters.

    Source: Kaufman (1975), "A variable projection method for solving separable nonlinear least squares problems":
    slopes at fixed loadings, less what other loadings make up for.
    """
    (u,), (v,) = _across_and_along(parameters[None], size)
    waves = _waves(parameters[None], size)[0]
    cosine, sine = _loadings(waves, target)
    theta, frequency = parameters[2], parameters[5]
    narrow = np.exp(-2 * parameters[3:5])
    fit, quarter = cosine * waves[0] + sine * waves[1], sine * waves[0] - cosine * waves[1]
    by_u = 2 * np.pi * frequency * quarter - narrow[0] * u * fit
    by_v = -narrow[1] * v * fit
    slopes = np.stack(
        [
            by_u * np.cos(theta) + by_v * np.sin(theta),
            by_u * np.sin(theta) - by_v * np.cos(theta),
            by_v * u - by_u * v,
            narrow[0] * u**2 * fit,
            narrow[1] * v**2 * fit,
            2 * np.pi * u * quarter,
        ]
    )
    made_up = np.linalg.solve(_gram(waves), waves @ slopes.T).T @ waves
    return np.asarray((slopes - made_up).T)


def _loadings(waves: Array, target: Array) -> Array:
    """``[..., 2]``: how much of both ``waves [..., 2, pixels]`` comes nearest to a target ``[pixels]``."""
    return np.asarray(np.linalg.solve(_gram(waves), (waves @ target)[..., None])[..., 0])


def _gram(waves: Array) -> Array:
    """``[..., 2, 2]`` products of both waves; a sine of frequency 0 is zero, and has no share."""
    gram = waves @ np.swapaxes(waves, -1, -2)
    ridge = 1e-9 * np.trace(gram, axis1=-2, axis2=-1) + 1e-30
    return np.asarray(gram + ridge[..., None, None] * np.eye(2))


def _starts(field: Array) -> Array:
    """``[3, 6]``: those Gabor functions of a grid that come nearest to a field."""
    size = (field.shape[0], field.shape[1])
    power = field**2
    down, right = np.indices(size)
    middle = np.array([(power * down).sum(), (power * right).sum()]) / power.sum()
    peak = np.unravel_index(int(power.argmax()), size)
    side = min(size)
    grid = np.meshgrid(
        np.arange(2),
        np.pi * np.arange(8) / 8,
        np.log(np.array([0.12, 0.25]) * side),
        np.geomspace(0.4 / side, 0.4, 6),
        indexing="ij",
    )
    which, theta, sigma, frequency = (x.ravel() for x in grid)
    centre = np.stack([middle, np.array(peak, dtype=np.float64)])[which]
    tried = np.column_stack([centre, theta, sigma, sigma, frequency])
    waves = _waves(tried, size)
    reached = (_loadings(waves, field.ravel()) * (waves @ field.ravel())).sum(1)
    return tried[np.argsort(-reached, kind="stable")[:_STARTS]]


def _octaves(frequency: Array, sigma: Array) -> Array:
    """Full width at half height of ``exp(-2 pi^2 sigma^2 (F - frequency)^2)``."""
    half = np.sqrt(np.log(2) / 2) / (np.pi * sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.log2((frequency + half) / (frequency - half))
    return np.where(frequency > half, width, np.where(np.isnan(frequency), np.nan, np.inf))
