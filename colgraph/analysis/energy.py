"""What activity costs: the energy of firing and of transmission."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from colgraph.analysis.arrays import (
    Array,
    as_array,
    as_edge_values,
    as_edges,
    as_positions,
    as_responses,
    check_count,
)
from colgraph.analysis.nets import bar, check_edges, device_of
from colgraph.analysis.stats import jackknife_interval, leaving_out, permuted, random_groups
from colgraph.analysis.topography import MapResult
from colgraph.modes import evaluation
from colgraph.output import finite


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Energy(MapResult):
    """What :func:`energy` and :func:`network_energy` return; the map is each column's energy.

    Attributes:
        activity: the mean size of the activity, of which the energy has a third.
        transmission: the energy of transmission alone, of which it has two thirds: a result of its own, with its null.
        state: the mean size of the states themselves, or NaN where none were seen. It grows from step to step where a
            network adds to its states, and nothing reads it: it is in no energy.
    """

    activity: float
    transmission: MapResult
    state: float = float("nan")

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values, with the energy's parts."""
        parts = {"activity": self.activity, "transmission": self.transmission.value, "state": self.state}
        return super().summary() | finite(parts)


@dataclass(eq=False)
class _Transmission:
    """What arrives along edges, stimulus by stimulus: sums of ``|a_ij| |v_j|`` over edges and heads.

    Attributes:
        arrived: ``[columns]`` of each stimulus.
        even: of each stimulus the mean over columns, had they spread the same attention evenly over their edges.
        weight: ``[E, heads]`` the mean size of weights, times the number of stimuli, and ``size [columns, heads]`` that
            of what is heard.
        source: ``[E]`` the row of ``size`` that arrives along each edge; the source column if not given.
    """

    links: NDArray[np.int64]
    columns: int
    source: Any = None
    arrived: list[Array] = field(default_factory=list)
    even: list[float] = field(default_factory=list)
    weight: Any = 0.0
    size: Any = 0.0

    def __post_init__(self) -> None:
        self.source = self.links[0] if self.source is None else np.asarray(self.source)
        edges = np.arange(self.links.shape[1])
        self._into = sparse.csr_array((np.ones(len(edges)), (self.links[1], edges)), shape=(self.columns, len(edges)))
        self._count = np.maximum(np.bincount(self.links[1], minlength=self.columns), 1)[:, None]

    def add(self, weight: Array, size: Array) -> None:
        """One stimulus: ``weight [E, heads]`` and ``size [columns, heads]``, or ``[..., steps, heads]`` of each."""
        steps = weight.shape[1] if weight.ndim == 3 else 1
        weight, size = weight.reshape(len(weight), -1), size.reshape(len(size), -1)
        self.arrived.append((self._into @ (weight * size[self.source])).sum(1) / steps)
        self.even.append(float(self._even(weight, size).mean() / steps))
        self.weight = self.weight + weight.reshape(len(weight), steps, -1).mean(1)
        self.size = self.size + size.reshape(len(size), steps, -1).mean(1)

    def _even(self, weight: Array, size: Array) -> Array:
        return np.asarray(((self._into @ weight) * (self._into @ size[self.source]) / self._count).sum(1))

    def null(self, permutations: int, seed: int) -> Array:
        """The mean over columns and stimuli with each column's weights shuffled over its edges, alike for all stimuli.

        The sum over edges of mean weights and mean sizes, and what weights and sizes that go up and down together over
        stimuli add to that on average over all shuffles.
        """
        weight, size = self.weight / len(self.arrived), self.size / len(self.arrived)
        together = np.mean(self.even) - self._even(weight, size).mean()
        heard = size[self.source]
        orders = permuted(permutations, self.links.shape[1], seed, self.links[1])
        return np.array([(weight[order] * heard).sum() / self.columns + together for order in orders])

    def energy(self, own: Array, positions: Any, permutations: int, seed: int, state: float = float("nan")) -> Energy:
        """With the size of the activity ``own [stimuli, columns]``."""
        points = None if positions is None else as_positions(positions, self.columns)
        arrived, null = np.stack(self.arrived), self.null(permutations, seed)
        groups = random_groups(len(own), seed)

        def interval(rows: Array) -> Array:
            return jackknife_interval(rows.mean(), [rows[kept].mean() for kept in leaving_out(groups)])

        total = own / 3 + 2 * arrived / 3
        common: dict[str, Any] = {"tail": "two-sided", "positions": points}
        return Energy(
            name="energy",
            value=float(total.mean()),
            null=own.mean() / 3 + 2 * null / 3,
            interval=interval(total),
            map=total.mean(0),
            map_label="energy",
            activity=float(own.mean()),
            transmission=MapResult(
                name="energy of transmission",
                value=float(arrived.mean()),
                null=null,
                interval=interval(arrived),
                map=arrived.mean(0),
                map_label="energy of transmission",
                **common,
            ),
            state=state,
            **common,
        )


def energy(
    activity: Any,
    edges: Any,
    weights: Any,
    *,
    heard: Any | None = None,
    positions: Any | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> Energy:
    """Energy per column and stimulus, ``1/3 |activity_i| + 2/3 sum_j |w_ij| |heard_j|``.

    A third is what a column spends on being active, two thirds on what arrives through its edges. Source: the energy
    measure of All-TNN (Lu et al. 2023, "End-to-end topographic networks as models of cortical map formation and human
    visual behaviour"), after the brain's budget of Attwell and Laughlin (2001). Absolute values are summed over
    channels. It has no unit: compare networks with equally scaled activity (All-TNN normalises it first), or shares
    within one network. The value is the mean over columns and stimuli. :func:`network_energy` takes all of this from a
    columnformer.

    Null: each column's weights are shuffled over its edges (two-sided): what transmission would cost if a column
    listened regardless of how active others are. Interval: jackknife over stimuli.

    Args:
        activity: ``[stimuli, columns]`` or ``[stimuli, columns, channels]``.
        edges: ``[2,E]`` source and target; a column's edge to itself counts as any other.
        weights: ``[E]`` (attention, the mean over heads and stimuli), ``[stimuli, E]``, or ``[stimuli, E, heads]``.
        heard: what columns hear of each other, ``[stimuli, columns]`` or ``[stimuli, columns, channels]``, with heads
            ``[stimuli, columns, heads, channels]``. The activity itself if not given, which a columnformer does *not*
            hear.
        positions: ``[columns, D]``, for the picture.
        permutations: number of shuffles.
        seed: of the shuffles and groups.

    Raises:
        ValueError: for shapes that do not fit, or NaN.
    """
    own = _size(as_responses(activity, "activity", channels=True), 2)
    links = as_edges(edges, own.shape[1])
    w = _weights(weights, links.shape[1], len(own))
    size = _heard(activity if heard is None else heard, own.shape, w.shape[2])
    sent = _Transmission(links, own.shape[1])
    for s in range(len(own)):
        sent.add(w[s if len(w) > 1 else 0], size[s])
    return sent.energy(own, positions, permutations, seed)


def _size(values: NDArray[Any], axes: int) -> Array:
    """Absolute values, summed over all axes behind the first ones."""
    return np.abs(values).reshape(*values.shape[:axes], -1).sum(-1, dtype=np.float64)


def _weights(weights: Any, edges: int, stimuli: int) -> Array:
    """``[stimuli or 1, E, heads]``, not negative."""
    raw = as_array(weights, "weights")
    if raw.ndim not in (1, 2, 3) or 0 in raw.shape:
        raise ValueError(f"weights must have shape [E], [stimuli, E] or [stimuli, E, heads], got {list(raw.shape)}")
    rows = raw if raw.ndim > 1 else raw[None]
    if raw.ndim > 1 and len(raw) != stimuli:
        raise ValueError(f"weights have {len(raw)} stimuli, but activity has {stimuli}")
    heads = rows if rows.ndim == 3 else rows[..., None]
    return np.abs([[as_edge_values(h, edges, "weights", negative=True) for h in row.T] for row in heads]).swapaxes(1, 2)


def _heard(heard: Any, shape: tuple[int, ...], heads: int) -> Array:
    """``[stimuli, columns, heads]``: absolute values summed over channels."""
    raw = as_array(heard, "heard")
    fits = raw.shape[2:3] == (heads,) if raw.ndim == 4 else heads == 1 and raw.ndim in (2, 3)
    if not fits or raw.shape[:2] != shape:
        last = "columns(, channels)" if heads == 1 else f"columns, {heads} heads, channels"
        raise ValueError(f"heard must be [stimuli, {last}] for activity of {list(shape)}, got {list(raw.shape)}")
    as_responses(raw.reshape(*shape, -1), "heard", channels=True)
    return _size(raw, 3) if raw.ndim == 4 else _size(raw, 2)[..., None]


def network_energy(
    net: Any,
    images: Any,
    edges: Any,
    *,
    positions: Any | None = None,
    permutations: int = 200,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> Energy:
    """The energy of a columnformer, with what it truly hears: ``1/3 |x_i| + 2/3 sum_j sum_h |a_ijh| |v_jh|``.

    As in All-TNN (see :func:`energy`), activity is taken as it is read, normalised: ``x`` is the readout's LayerNorm of
    a column's state, as is what others hear of it, ``v``: the values of each head, of normalised states, times the
    attention of that stimulus and step. (Behind value weights, before output weights: those act on what has arrived.)
    With conduction delays, ``v`` is what the source said as many steps before.
    States themselves grow from step to step by all that is added to them, which costs nothing here; their size is in
    the result beside. Absolute values are summed over channels; the value is the mean over steps, columns and stimuli.

    Null: each column's attention is shuffled over its edges, alike for all stimuli, steps and heads (two-sided).
    Interval: jackknife over stimuli.

    Args:
        net: has ``unroll(images, record=("state", "attention", "heard"))`` and ``normed(state)``, as
            :class:`colgraph.VisionColumnformer`; without ``normed`` states are taken as they are.
        images: ``[stimuli, ...]`` as the network takes them, two at least.
        edges: ``[2,E]`` the sheet's edges, in its order; a column's edge to itself counts as any other.
        positions: ``[columns, D]``, for the picture.
        permutations: number of shuffles.
        batch_size: of the network.
        seed: of the shuffles and groups.
        progress: show a progress bar.

    Raises:
        ValueError: for images or edges that do not fit (those of another sheet, or in another order), or a network that
            records nothing of this.
    """
    data = torch.as_tensor(getattr(images, "images", images))
    if data.dim() < 2 or len(data) < 2:
        raise ValueError(f"images must have shape [stimuli, ...] with at least 2, got {list(data.shape)}")
    starts = range(0, len(data), check_count("batch_size", batch_size))
    sent: list[_Transmission] = []
    own, states = [], []
    with evaluation(net), torch.no_grad():
        for start in bar(starts, "energy", progress):
            out = _recorded(net, data[start : start + batch_size].to(device_of(net)))
            normed = net.normed(out.states) if hasattr(net, "normed") else out.states
            if not sent:
                rows = getattr(out, "heard_rows", None)
                rows = None if rows is None else rows.cpu().numpy()
                sent.append(_Transmission(as_edges(edges, out.state.size(0)), out.state.size(0), rows))
            # [steps, columns, B, channels], and by head [steps, columns or edges, B, heads]
            own += list(normed.abs().sum(-1).mean(0).double().cpu().numpy().T)
            states.append(out.states.abs().sum(-1).mean((0, 1)).double().cpu().numpy())
            weight = out.attention.abs().double().cpu().numpy().transpose(2, 1, 0, 3)
            size = out.heard.abs().sum(-1).double().cpu().numpy().transpose(2, 1, 0, 3)
            if weight.shape[1] != sent[0].links.shape[1]:
                raise ValueError(f"the network has {weight.shape[1]} edges, but {sent[0].links.shape[1]} were given")
            check_edges(net, sent[0].links)
            for one in zip(weight, size, strict=True):
                sent[0].add(*one)
    return sent[0].energy(np.stack(own), positions, permutations, seed, float(np.concatenate(states).mean()))


def _recorded(net: Any, images: torch.Tensor) -> Any:
    """An unroll with all that energy is made of, or a ValueError."""
    if not hasattr(net, "unroll"):
        raise ValueError(f"energy needs a network with unroll(images, record=...), got {type(net).__name__}: energy()")
    out = net.unroll(images, record=("state", "attention", "heard"))
    if any(getattr(out, name, None) is None for name in ("states", "attention", "heard")):
        raise ValueError(f"{type(net).__name__} does not record states, attention and what is heard: energy()")
    return out
