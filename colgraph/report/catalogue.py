"""The analyses of a run, in the order of the report: what is computed, and a sentence on how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from colgraph import analysis
from colgraph.analysis import Result
from colgraph.report.context import Context

__all__ = ["CATALOGUE", "Analysis"]


@dataclass(frozen=True)
class Analysis:
    """One analysis of the report.

    Attributes:
        key: its name in files.
        title: its heading.
        reading: how to read the figure.
        compute: from a context to a result; a ValueError means that it does not apply, and why.
        family: "topography", "connectivity", "representation", "fields" or "robustness".
        controls: whether it is computed for the controls, too.
    """

    key: str
    title: str
    reading: str
    compute: Callable[[Context], Result]
    family: str
    controls: bool = True


# ---------------------------------------------------------------------- topography


def _correlation(c: Context) -> Result:
    x = c.natural[:, c.active]
    return analysis.correlation_by_distance(
        x, c.positions[c.active], pairs=c.pairs, permutations=c.settings.permutations, seed=c.settings.seed
    )


def _orientation(c: Context) -> analysis.orientation.OrientationMap:
    labels = c.probes.gratings.labels
    return analysis.orientation_map(
        c.grating[:, c.active],
        labels["orientation"],
        within=labels["repeat"],
        positions=c.positions[c.active],
        permutations=min(c.settings.permutations, 100),
        seed=c.settings.seed,
    )


def orientation_of(c: Context) -> analysis.orientation.OrientationMap:
    """The orientation map of a context, computed once."""
    if "orientation" not in c.shared:
        c.shared["orientation"] = _orientation(c)
    found: analysis.orientation.OrientationMap = c.shared["orientation"]
    return found


def _smoothness(c: Context) -> Result:
    return analysis.smoothness(
        orientation_of(c).preference,
        c.positions[c.active],
        period=np.pi,
        pairs=c.pairs,
        permutations=c.settings.permutations,
        seed=c.settings.seed,
    )


def _pinwheels(c: Context) -> Result:
    """On the surface, or on the layer with the most columns."""
    preference = np.zeros(len(c.positions))
    preference[c.active] = orientation_of(c).preference
    face = c.sheet.face.numpy()
    few = min(c.settings.permutations, 50)
    if face.shape[1]:
        whole = face[:, c.active[face].all(0)]
        return analysis.pinwheels(preference, c.sheet.pos.numpy(), faces=whole, permutations=few, seed=c.settings.seed)
    label, index, size = np.unique(c.sheet.layer.numpy(), return_inverse=True, return_counts=True)
    mine = (index == len(label) - 1 - int(size[::-1].argmax())) & c.active
    return analysis.pinwheels(preference[mine], c.positions[mine], permutations=few, seed=c.settings.seed)


def _category(c: Context) -> Result:
    """For the class that drives the most columns beyond chance (of ten at most)."""
    labels = c.probes.natural.labels["category"]
    found = [
        analysis.category_selectivity(
            c.natural[:, c.active],
            labels,
            name,
            positions=c.positions[c.active],
            permutations=c.settings.permutations,
            seed=c.settings.seed,
        )
        for name in np.unique(labels)[:10].tolist()
    ]
    return max(found, key=lambda r: (int(r.selective.sum()), r.value))


def _patches(c: Context) -> Result:
    selectivity = _category(c)
    values = np.full(len(c.positions), -np.inf)
    values[c.active] = np.nan_to_num(selectivity.d_prime, posinf=10, neginf=-10)  # type: ignore[attr-defined]
    values[~c.active] = values[c.active].min()
    if c.name == "shuffled positions":
        values = values[np.random.default_rng(c.settings.seed).permutation(len(values))]
    threshold = float(np.quantile(values[c.active], 0.9))
    return analysis.selective_patches(
        values, c.edges, threshold, positions=c.positions, permutations=c.settings.permutations, seed=c.settings.seed
    )


def _moran(c: Context) -> Result:
    activity = c.natural.mean(0)
    if c.name == "shuffled positions":
        activity = activity[np.random.default_rng(c.settings.seed).permutation(len(activity))]
    return analysis.morans_i(
        activity, c.edges, positions=c.positions, permutations=c.settings.permutations, seed=c.settings.seed
    )


# ---------------------------------------------------------------------- connectivity


def _wiring(c: Context) -> Result:
    _knows_distance(c)
    return analysis.wiring(
        c.attention,
        c.edges,
        c.distance,
        columns=len(c.positions),
        positions=c.positions,
        permutations=_edge_shuffles(c),
    )


def _lengths(c: Context) -> Result:
    _knows_distance(c)
    before = None if c.before is None else c.shared.get("attention before")
    return analysis.edge_lengths(
        c.attention,
        c.edges,
        c.distance,
        before=before,
        columns=len(c.positions),
        positions=c.positions,
        permutations=_edge_shuffles(c),
    )


def _strengths(c: Context) -> Result:
    return analysis.strengths(
        c.attention, c.edges, columns=len(c.positions), positions=c.positions, permutations=_edge_shuffles(c)
    )


def _knows_distance(c: Context) -> None:
    if not np.ptp(c.distance[c.edges[0] != c.edges[1]]) > 0:
        raise ValueError("all edges are equally long: wiring cannot differ")


def _edge_shuffles(c: Context) -> int:
    """Fewer shuffles on large graphs, where each is slow and the null narrow."""
    return int(np.clip(5e6 // c.edges.shape[1], 20, c.settings.permutations))


def _modularity(c: Context) -> Result:
    return analysis.modularity(
        c.edges, c.attention, columns=len(c.positions), positions=c.positions, nulls=max(_nulls(c) // 2, 1)
    )


def _small_world(c: Context) -> Result:
    strong = c.attention >= np.quantile(c.attention, 0.5)
    return analysis.small_world(
        c.edges[:, strong],
        columns=len(c.positions),
        positions=c.positions,
        nulls=max(_nulls(c), 2),
        sources=int(np.clip(1e6 // len(c.positions), 50, 200)),
    )


def _communicability(c: Context) -> Result:
    return analysis.communicability(
        c.edges, c.attention, columns=len(c.positions), positions=c.positions, nulls=_nulls(c)
    )


def _nulls(c: Context) -> int:
    return c.settings.nulls if c.edges.shape[1] > 50_000 else max(c.settings.nulls, 10)


# ---------------------------------------------------------------------- representation


def _dimensionality(c: Context) -> Result:
    return analysis.participation_ratio(c.sample_states[:, -1], permutations=20, seed=c.settings.seed)


def _steps_alike(c: Context) -> Result:
    return analysis.cka(c.sample_states[:, 0], c.sample_states[:, -1], permutations=100, seed=c.settings.seed)


def _energy(c: Context) -> Result:
    return analysis.energy(c.natural, c.edges, c.attention, positions=c.positions, permutations=_edge_shuffles(c))


# ---------------------------------------------------------------------- fields


def _fields(c: Context) -> Result:
    count = int(np.clip(40_000 // len(c.positions), 4, 16))
    chosen = np.sort(np.random.default_rng(c.settings.seed).permutation(np.flatnonzero(c.active))[:count])
    return analysis.gradient_fields(
        c.net, c.probes.natural.images[::3][:8], chosen, batch_size=8, progress=c.settings.progress
    )


def _reverse(c: Context) -> Result:
    shown = analysis.varying(c.noise)
    if not shown.any():
        raise ValueError("no column answers noise")
    result = analysis.reverse_correlation(c.noise[:, shown], c.probes.noise, permutations=20, seed=c.settings.seed)
    c.shared["fields"] = (np.flatnonzero(shown), result)
    return result


# ---------------------------------------------------------------------- robustness


def _held_out(c: Context) -> tuple[np.ndarray, np.ndarray]:
    """As many held-out images as the size of the sheet allows."""
    count = int(np.clip(100_000 // len(c.positions), 16, 200))
    return c.run.images[:count], c.run.labels[:count]


def _corruptions(c: Context) -> Result:
    images, labels = _held_out(c)
    severities = (1, 2, 3, 4, 5) if len(c.positions) <= 2000 else (1, 3, 5)
    return analysis.corruption_errors(
        c.net, images, labels, severities=severities, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def _attack(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    return analysis.adversarial_accuracy(
        c.net, images, labels, steps=10, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def _lesions(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    heard = np.bincount(c.edges[0], c.attention, len(c.positions))
    return analysis.lesion_curve(
        c.net,
        images,
        labels,
        c.edges,
        score=heard,
        draws=3,
        columns=len(c.positions),
        batch_size=c.settings.batch_size,
        progress=c.settings.progress,
    )


def _activity_noise(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    return analysis.activity_noise(
        c.net, images, labels, draws=2, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def _weight_noise(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    return analysis.weight_noise(
        c.net, images, labels, draws=3, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def _small_enough(c: Context) -> None:
    if len(c.positions) > 3000 and not c.settings.robustness:
        raise ValueError(
            f"left out on a sheet of {len(c.positions):,} columns for its time: ask for it by --robustness"
        )


CATALOGUE: tuple[Analysis, ...] = (
    Analysis(
        "correlation_by_distance",
        "Response correlation against distance",
        "A curve above the grey band near the left means that neighbours answer alike. Local edges alone lift it, so "
        "learning shows only as a difference from the untrained network.",
        _correlation,
        "topography",
    ),
    Analysis(
        "orientation",
        "Preferred orientation",
        "Colour is the orientation of the grating that drives a column most (length of its state). Selectivity runs "
        "from 0 to 1; the null keeps each column's responses and shuffles orientations.",
        orientation_of,
        "topography",
    ),
    Analysis(
        "smoothness",
        "Smoothness of the orientation map",
        "0: near columns prefer as different orientations as far ones; 1: near columns agree. The null lies above 0.",
        _smoothness,
        "topography",
    ),
    Analysis(
        "pinwheels",
        "Pinwheels",
        "Marks are points around which all orientations occur. Noise has many; only a periodic map (one with a "
        "wavelength) has a density to compare with pi per hypercolumn.",
        _pinwheels,
        "topography",
    ),
    Analysis(
        "category",
        "Category selectivity",
        "d' of the class that drives the most columns beyond chance: how far its responses lie from the others', in "
        "standard deviations (TDANN's definition).",
        _category,
        "topography",
    ),
    Analysis(
        "patches",
        "Patches of category selectivity",
        "The tenth of columns with the highest d', joined where they are connected. A large patch beside a small null "
        "means that selective columns lie together.",
        _patches,
        "topography",
    ),
    Analysis(
        "moran",
        "Moran's I of mean activity",
        "Whether columns joined by an edge are active alike: 0 by chance, towards 1 on a smooth map.",
        _moran,
        "topography",
    ),
    Analysis(
        "wiring",
        "Wire listened through",
        "The expected length of wire of each column. Below the null: attention prefers short edges.",
        _wiring,
        "connectivity",
    ),
    Analysis(
        "edge_lengths",
        "Effective edge lengths",
        "Where attention comes from, beside what it was before training (blue) and what equal weights would give "
        "(dotted).",
        _lengths,
        "connectivity",
    ),
    Analysis(
        "strengths",
        "Who is listened to",
        "Out-strength of each column; the number is its inequality. Above the null: attention makes hubs.",
        _strengths,
        "connectivity",
    ),
    Analysis(
        "modularity",
        "Modules of the attention graph",
        "Colours are modules found by the Louvain method. Random graphs of the same degrees have modules, too.",
        _modularity,
        "connectivity",
    ),
    Analysis(
        "small_world",
        "Small world",
        "The stronger half of the edges: clustering and path length as multiples of random graphs of equal degrees.",
        _small_world,
        "connectivity",
    ),
    Analysis(
        "communicability",
        "Communicability",
        "How well columns reach each other along all walks through the attention graph.",
        _communicability,
        "connectivity",
    ),
    Analysis(
        "dimensionality",
        "Dimensionality of the last step",
        "How many dimensions the states of 256 columns use for natural images; bounded by the number of images.",
        _dimensionality,
        "representation",
    ),
    Analysis(
        "cka",
        "First step against last step",
        "Linear CKA: 1 where the steps change nothing but rotation and scale, at the null where they have nothing in "
        "common.",
        _steps_alike,
        "representation",
    ),
    Analysis(
        "energy",
        "Energy",
        "A third for activity, two thirds for what arrives through edges (All-TNN), without unit.",
        _energy,
        "representation",
    ),
    Analysis(
        "fields",
        "Effective receptive fields over steps",
        "How far from its centre a column's field reaches, by gradients; each grey line is a column.",
        _fields,
        "fields",
        False,
    ),
    Analysis(
        "reverse_correlation",
        "Receptive fields from noise",
        "The share of columns with a linear field beyond chance, and the strongest of them.",
        _reverse,
        "fields",
        False,
    ),
    Analysis(
        "corruptions",
        "Corrupted images",
        "Error under ImageNet-C's families of corruption; lower is better.",
        _corruptions,
        "robustness",
        False,
    ),
    Analysis(
        "attack",
        "Attacks",
        "Accuracy under projected gradient descent, beside random changes of the same size (grey).",
        _attack,
        "robustness",
        False,
    ),
    Analysis(
        "lesions",
        "Lesions",
        "Accuracy when the most listened-to columns are taken out, beside as many at random (grey).",
        _lesions,
        "robustness",
        False,
    ),
    Analysis(
        "activity_noise",
        "Noise on activity",
        "Accuracy when every state is disturbed after every step.",
        _activity_noise,
        "robustness",
        False,
    ),
    Analysis(
        "weight_noise",
        "Noise on weights",
        "Accuracy when every parameter is disturbed.",
        _weight_noise,
        "robustness",
        False,
    ),
)
