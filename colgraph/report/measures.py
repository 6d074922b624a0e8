"""What is computed of a network, one function per analysis of the report: from a context to a result.

A ``ValueError`` means that an analysis does not apply, and why.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from colgraph import analysis
from colgraph.analysis import Result
from colgraph.report.context import Context

# ---------------------------------------------------------------------- topography


def correlation(c: Context) -> Result:
    x = c.natural[:, c.active]
    return analysis.correlation_by_distance(
        x, c.positions[c.active], pairs=c.pairs, permutations=c.settings.permutations, seed=c.settings.seed
    )


def orientation(c: Context) -> analysis.orientation.OrientationMap:
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
        c.shared["orientation"] = orientation(c)
    found: analysis.orientation.OrientationMap = c.shared["orientation"]
    return found


def smoothness(c: Context) -> Result:
    return analysis.smoothness(
        orientation_of(c).preference,
        c.positions[c.active],
        period=np.pi,
        pairs=c.pairs,
        permutations=c.settings.permutations,
        seed=c.settings.seed,
    )


def pinwheels(c: Context) -> Result:
    """On the surface, or on the layer with the most columns; of active columns, so that shuffles mix only those."""
    preference = orientation_of(c).preference
    few = min(c.settings.permutations, 50)
    face = c.sheet.face.numpy()
    if face.shape[1]:
        points, seed = c.sheet.pos.numpy()[c.active], c.settings.seed
        return analysis.pinwheels(preference, points, faces=c.among_active(face), permutations=few, seed=seed)
    layer = c.sheet.layer.numpy()[c.active]
    label, index, size = np.unique(layer, return_inverse=True, return_counts=True)
    mine = index == len(label) - 1 - int(size[::-1].argmax())
    points = c.positions[c.active][mine]
    return analysis.pinwheels(preference[mine], points, permutations=few, seed=c.settings.seed)


def category(c: Context) -> analysis.selectivity.CategorySelectivity:
    """For the class to which columns are most selective, of ten at most; so is the null, class by class the same."""
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
    best = max(found, key=lambda r: r.value)
    return replace(
        best, name=f"highest mean |d'|, for {c.class_name(best.category)}", null=np.max([r.null for r in found], 0)
    )


def patches(c: Context) -> Result:
    values = _placed(c, np.nan_to_num(category(c).d_prime, posinf=10, neginf=-10))
    return analysis.selective_patches(
        values,
        c.among_active(c.edges),
        float(np.quantile(values, 0.9)),
        positions=c.positions[c.active],
        permutations=c.settings.permutations,
        seed=c.settings.seed,
    )


def moran(c: Context) -> Result:
    result = analysis.morans_i(
        _placed(c, c.natural.mean(0)[c.active]),
        c.among_active(c.edges),
        positions=c.positions[c.active],
        permutations=c.settings.permutations,
        seed=c.settings.seed,
    )
    return replace(result, map_label="mean length of the state")


def _placed(c: Context, values: np.ndarray) -> np.ndarray:
    """Values of the active columns; where positions are shuffled, so are the values on the graph."""
    if c.kind != "shuffled":
        return values
    return values[np.random.default_rng(c.settings.seed).permutation(len(values))]


# ---------------------------------------------------------------------- connectivity


def wiring(c: Context) -> Result:
    _knows_distance(c)
    return analysis.wiring(
        c.attention,
        c.edges,
        c.distance,
        columns=len(c.positions),
        positions=c.positions,
        permutations=_edge_shuffles(c),
    )


def lengths(c: Context) -> Result:
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


def strengths(c: Context) -> Result:
    return analysis.strengths(
        c.attention, c.edges, columns=len(c.positions), positions=c.positions, permutations=_edge_shuffles(c)
    )


def _knows_distance(c: Context) -> None:
    if not np.ptp(c.distance[c.edges[0] != c.edges[1]]) > 0:
        raise ValueError("all edges are equally long: wiring cannot differ")


def _edge_shuffles(c: Context) -> int:
    """Fewer shuffles on large graphs, where each is slow and the null narrow."""
    return int(np.clip(5e6 // c.edges.shape[1], 20, c.settings.permutations))


def modularity(c: Context) -> Result:
    return analysis.modularity(c.edges, c.attention, columns=len(c.positions), positions=c.positions, nulls=_nulls(c))


def small_world(c: Context) -> Result:
    strong = c.attention >= np.quantile(c.attention, 0.5)
    return analysis.small_world(
        c.edges[:, strong],
        columns=len(c.positions),
        positions=c.positions,
        nulls=max(_nulls(c), 2),
        sources=int(np.clip(1e6 // len(c.positions), 50, 200)),
    )


def communicability(c: Context) -> Result:
    return analysis.communicability(
        c.edges, c.attention, columns=len(c.positions), positions=c.positions, nulls=_nulls(c)
    )


def _nulls(c: Context) -> int:
    few = c.settings.nulls
    return few if c.edges.shape[1] > 50_000 else max(few, min(c.settings.permutations // 10, 20))


# ---------------------------------------------------------------------- representation


def dimensionality(c: Context) -> Result:
    return analysis.participation_ratio(c.sample_states[:, -1], permutations=20, seed=c.settings.seed)


def steps_alike(c: Context) -> Result:
    return analysis.cka(c.sample_states[:, 0], c.sample_states[:, -1], permutations=100, seed=c.settings.seed)


def categories_by_step(c: Context) -> Result:
    """Similarity to the categories, in layers where there are any, else in what the image enters and leaves by."""
    layer = c.sheet.layer.numpy()
    if 1 < len(np.unique(layer)) <= 12:
        area = np.array([f"layer {i}" for i in layer])
    else:
        entry, way_out = (c.sheet.input_rank >= 0).numpy(), c.sheet.output_mask.numpy()
        area = np.where(entry, "inputs", np.where(way_out & ~way_out.all(), "outputs", "others"))
    model = analysis.category_rdm(c.probes.natural.labels["category"])
    return analysis.rsa_by_step(
        c.sample_states, area[c.sample], model, permutations=c.settings.permutations, seed=c.settings.seed
    )


def energy(c: Context) -> Result:
    return analysis.energy(c.natural, c.edges, c.attention, positions=c.positions, permutations=_edge_shuffles(c))


# ---------------------------------------------------------------------- fields


def gradient_fields(c: Context) -> Result:
    count = int(np.clip(40_000 // len(c.positions), 4, 16))
    chosen = np.sort(np.random.default_rng(c.settings.seed).permutation(np.flatnonzero(c.active))[:count])
    return analysis.gradient_fields(
        c.net, c.probes.natural.images[::3][:8], chosen, batch_size=8, progress=c.settings.progress
    )


def reverse_correlation(c: Context) -> Result:
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


def corruptions(c: Context) -> Result:
    images, labels = _held_out(c)
    severities = (1, 2, 3, 4, 5) if len(c.positions) <= 2000 else (1, 3, 5)
    return analysis.corruption_errors(
        c.net, images, labels, severities=severities, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def attack(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    return analysis.adversarial_accuracy(
        c.net, images, labels, steps=10, draws=_draws(c), batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def lesions(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    heard = np.bincount(c.edges[0], c.attention, len(c.positions))
    return analysis.lesion_curve(
        c.net,
        images,
        labels,
        c.edges,
        score=heard,
        spare=(c.sheet.input_rank >= 0).numpy(),
        draws=_draws(c),
        columns=len(c.positions),
        batch_size=c.settings.batch_size,
        progress=c.settings.progress,
    )


def activity_noise(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    return analysis.activity_noise(
        c.net, images, labels, draws=3, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def weight_noise(c: Context) -> Result:
    _small_enough(c)
    images, labels = _held_out(c)
    return analysis.weight_noise(
        c.net, images, labels, draws=3, batch_size=c.settings.batch_size, progress=c.settings.progress
    )


def _draws(c: Context) -> int:
    """Random lesions and noises: enough for a p-value of 5% where that takes seconds."""
    return int(np.clip(c.settings.permutations // 10, 3, 20)) if len(c.positions) <= 300 else 3


def _small_enough(c: Context) -> None:
    if len(c.positions) > 3000 and not c.settings.robustness:
        raise ValueError(
            f"left out on a sheet of {len(c.positions):,} columns for its time: ask for it by --robustness"
        )
