"""What is computed of a network: the analyses of a run, in the order of the report.

Each is a function from a context to a result. A ``ValueError`` means that it does not apply, and why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from colgraph import analysis
from colgraph.analysis import Result
from colgraph.analysis.energy import Energy
from colgraph.analysis.undirected import Undirected
from colgraph.report.catalogue import PLACED, PLACELESS, Catalogue
from colgraph.report.context import Context
from colgraph.report.robustness_measures import ROBUSTNESS
from colgraph.report.shown import evenly

CATALOGUE = Catalogue()
_topography = CATALOGUE.family("topography", "columns")
_connectivity = CATALOGUE.family("connectivity", "columns", "attention")
_representation = CATALOGUE.family("representation", "columns")
_fields = CATALOGUE.family("fields", "columns")


_OF_AN_AREA = 64  # columns stand for larger ones

# ---------------------------------------------------------------------- topography


@_topography(
    "Response correlation against distance",
    "A curve above the grey band near the left means that neighbors answer alike. Local edges alone lift it, so "
    "learning shows only as a difference from the untrained network. Channels are compared one by one between columns, "
    "hidden units each with each.",
)
def correlation_by_distance(c: Context) -> Result:
    x, points, pairs = c.units
    channels = "all" if c.settings.signal == "hidden" else "same"
    return c.call(analysis.correlation_by_distance, x, positions=points, pairs=pairs, channels=channels)


@_topography(
    "Response correlation against distance, given the input",
    "Near patches of images look alike, so that columns which see them answer alike for that alone. The number is what "
    "is left of the correlation with proximity, among columns that see a patch, once a linear fit on how alike their "
    "patches are is taken away.",
    tuple(kind for kind in PLACED if kind != "input"),
    needs=("patches",),
)
def correlation_given_input(c: Context) -> Result:
    return c.call(analysis.partial_correlation_by_distance, **c.beside_input)


@_topography(
    "Preferred orientation",
    "Color is the orientation of the grating that drives a column most ({activity}); columns that are no "
    "more selective than by chance are drawn small. Selectivity runs from 0 to 1; the null shuffles orientations.",
    PLACELESS,
)
def orientation(c: Context) -> analysis.orientation.OrientationMap:
    labels = c.probes.gratings.labels
    return c.call(
        analysis.orientation_map,
        c.grating[:, c.answering],
        labels["orientation"],
        within=labels["repeat"],
        positions=c.drawn(c.positions[c.answering]),
        permutations=c.shuffles(100),
    )


@_topography(
    "Smoothness of the orientation map",
    "0: near columns prefer as different orientations as far ones; 1: near columns agree. Of the quarter of columns "
    "with the widest range of responses to orientations: what others prefer means little. The null lies above 0; "
    "where all prefer nearly the same (a resultant near 1), any map is smooth, and so is the null.",
)
def smoothness(c: Context) -> Result:
    found = orientation(c)
    preference, mask = c.at_places(found.preference), c.at_places(found.selective())
    return c.call(analysis.smoothness, preference, c.points, period=np.pi, pairs=c.pairs, mask=mask)


@_topography(
    "Pinwheels",
    "Marks are points around which all orientations occur, among columns that are more selective than by chance (p at "
    "most 0.05). Noise has many; only a periodic map (one with a wavelength) has a density to compare with pi per "
    "hypercolumn.",
)
def pinwheels(c: Context) -> Result:
    """On the surface, or on the layer with the most columns; of active columns, so that shuffles mix only those."""
    found, few = orientation(c), c.shuffles(50)
    # A quarter of the columns would leave hardly a loop, and round a pinwheel selectivity is low.
    preference, mask = c.at_places(found.preference), c.at_places(found.selective(p=0.05))
    face = c.sheet.face.numpy()
    if face.shape[1]:
        return c.call(analysis.pinwheels, preference, c.points, faces=c.among_taken(face), mask=mask, permutations=few)
    label, index, size = np.unique(c.sheet.layer.numpy()[c.taken], return_inverse=True, return_counts=True)
    mine = index == len(label) - 1 - int(size[::-1].argmax())
    return c.call(analysis.pinwheels, preference[mine], c.points[mine], mask=mask[mine], permutations=few)


@_topography(
    "Category selectivity",
    "d' of the class to which columns are most selective: how far its responses lie from the others', in standard "
    "deviations (TDANN's definition){itself}. Classes of images differ in their "
    "pixels, so untrained columns differ, too.",
    PLACELESS,
)
def category(c: Context) -> analysis.selectivity.CategorySelectivity:
    """For the class to which columns are most selective, of ten at most; so is the null, class by class the same."""
    labels = c.categories
    classes, count = np.unique(labels, return_counts=True)
    able = classes[(count > 1) & (len(labels) - count > 1)][:10]
    if not len(able):
        raise ValueError(
            f"selectivity needs two held-out images of a class and two of others, there are {len(labels)} of "
            f"{len(classes)} classes"
        )
    x, points = c.class_responses(able.tolist())[:, c.answering], c.drawn(c.positions[c.answering])
    found = [
        c.call(analysis.category_selectivity, x[..., i], labels, name, positions=points)
        for i, name in enumerate(able.tolist())
    ]
    best = max(found, key=lambda r: r.value)
    few = int((count < 2).sum())
    name = f"highest mean |d'|, for {c.class_name(best.category)}"
    name += f" ({few} of {len(classes)} classes have a single image and are left out)" if few else ""
    return replace(best, name=name, null=np.max([r.null for r in found], 0))


@_topography(
    "Patches of category selectivity",
    "The tenth of columns with the highest d', joined where they lie beside each other. A large patch beside a small "
    "null means that selective columns lie together.",
)
def patches(c: Context) -> Result:
    values = c.at_places(np.nan_to_num(category(c).d_prime, posinf=10, neginf=-10))
    threshold = float(np.quantile(values, 0.9))
    return c.call(analysis.selective_patches, values, c.among_taken(c.beside), threshold, positions=c.drawn(c.points))


@_topography(
    "Moran's I of mean activity",
    "Whether columns that lie beside each other, connected or not, are active alike: 0 by chance, towards 1 on a "
    "smooth map.",
)
def moran(c: Context) -> Result:
    values = c.at_places(c.natural.mean(0)[c.answering])
    result = c.call(analysis.morans_i, values, c.among_taken(c.beside), positions=c.drawn(c.points))
    return replace(result, map_label=f"mean {c.activity.label}")


@_topography(
    "Activity by area",
    "The mean over natural images of each area's columns ({activity}), the largest first. The number is the share of "
    "the variance over columns that lies between areas; areas are of one piece, so that any smooth map is above the "
    "null, and what learning does shows beside the untrained network.",
)
def activity_by_area(c: Context) -> Result:
    return c.call(analysis.region_means, np.abs(c.natural).mean(0), _areas(c), what=c.activity.label.partition(" (")[0])


def _areas(c: Context) -> dict[str, Any]:
    """The columns that stand in each area of the sheet."""
    if c.sheet.area is None:
        raise ValueError("its columns are in no areas: parcellation=FILE gives the columns of a cortex some")
    now_at = np.argsort(c.place)
    return {name: now_at[columns] for name, columns in analysis.sheet_regions(c.sheet, "areas").items()}


# ---------------------------------------------------------------------- connectivity


@_connectivity(
    "Wire listened through",
    "The expected length of wire of each column. Below the null: attention prefers short edges, or the column itself, "
    "which takes no wire; the next figure leaves itself out.",
)
def wiring(c: Context) -> Result:
    _knows_distance(c)
    return c.call(analysis.wiring, c.attention, c.edges, c.distance, permutations=_edge_shuffles(c))


@_connectivity(
    "Effective edge lengths",
    "Where attention between different columns comes from, beside what it was {untrained} (blue) and what equal "
    "weights would give (dotted).",
)
def edge_lengths(c: Context) -> Result:
    _knows_distance(c)
    return c.call(
        analysis.edge_lengths,
        c.attention,
        c.edges,
        c.distance,
        before=c.attention_before,
        permutations=_edge_shuffles(c),
    )


@_connectivity(
    "Who is listened to",
    "Out-strength of each column; the number is its inequality. Above the null: attention makes hubs. Look where "
    "they lie: columns that the image enters by are hubs without further ado.",
    PLACELESS,
)
def strengths(c: Context) -> Result:
    return c.call(analysis.strengths, c.attention, c.edges, permutations=_edge_shuffles(c))


@_connectivity(
    "Attention between areas",
    "What the columns of one area give to those of another. The number is its rank correlation with what equal "
    "attention to all edges would give, over areas that are joined: 1 where learning has changed nothing between them. "
    "The null shuffles the areas.",
    PLACELESS,
)
def attention_between_areas(c: Context) -> Result:
    return c.call(analysis.region_attention, c.attention, c.edges, _areas(c))


def _knows_distance(c: Context) -> None:
    between = c.distance[c.edges[0] != c.edges[1]]
    if not len(between):
        raise ValueError("no column listens to another: there is no wire")
    if not np.ptp(between) > 0:
        raise ValueError("all edges are equally long: wiring cannot differ")


def _edge_shuffles(c: Context) -> int:
    """Fewer shuffles on large graphs, where each is slow and the null narrow."""
    return c.shuffles(int(max(5e6 // c.edges.shape[1], 20)))


@_connectivity(
    "Modules of the attention graph",
    "Colors are modules found by the Louvain method. Random graphs of the same degrees have modules, too.",
    PLACELESS,
)
def modularity(c: Context) -> Result:
    return c.call(analysis.modularity, c.edges, c.attention, nulls=_nulls(c))


@_connectivity(
    "Small world",
    "Clustering and path length as multiples of random graphs of equal degrees, over the strongest edges between "
    "different columns: as many in the run and its controls, half of those that the run's sheet has.",
    PLACELESS,
)
def small_world(c: Context) -> Result:
    sources = int(np.clip(1e6 // len(c.positions), 50, 200))
    nulls, density = max(_nulls(c), 2), _density(c)
    return c.call(analysis.small_world, c.edges, c.attention, density=density, nulls=nulls, sources=sources)


@_connectivity(
    "Rich club",
    "Whether columns of many strong edges are joined among themselves more than in random graphs of equal degrees "
    "(grey): above 1 for a range of degrees. The number is the largest, so chance lies above 1, too. The edges are "
    "those of the small world.",
    PLACELESS,
)
def rich_club(c: Context) -> Result:
    nulls, density = max(_nulls(c), 2), _density(c)
    return c.call(analysis.rich_club, c.edges, c.attention, density=density, nulls=nulls)


def _density(c: Context) -> float:
    """Half of the edges between different columns that the run's sheet has: the same for the run and its controls."""
    return Undirected.check(c.run.sheet.edge_index.numpy(), None, c.run.sheet.num_columns).density / 2


@_connectivity(
    "Communicability",
    "How well columns reach each other along all walks through the attention graph.",
    PLACELESS,
)
def communicability(c: Context) -> Result:
    return c.call(analysis.communicability, c.edges, c.attention, nulls=_nulls(c))


def _nulls(c: Context) -> int:
    few = c.settings.nulls
    return few if c.edges.shape[1] > 50_000 else max(few, min(c.settings.permutations // 10, 20))


# ---------------------------------------------------------------------- representation


@_representation(
    "Dimensionality of the last step",
    "How many dimensions the {signal} of {sampled} columns use for natural images; bounded by the number of images.",
    PLACELESS,
)
def dimensionality(c: Context) -> Result:
    return c.call(analysis.participation_ratio, c.sample_states[:, -1], permutations=c.shuffles(20))


@_representation(
    "First step against last step",
    "Linear CKA: 1 where the steps change nothing but rotation and scale, at the null where they have nothing in "
    "common.",
    PLACELESS,
    needs=("states",),
)
def cka(c: Context) -> Result:
    states = c.sample_states
    if states.shape[1] < 2:
        raise ValueError("the network takes a single step, and the first is the last")
    return c.call(analysis.cka, states[:, 0], states[:, -1], permutations=c.shuffles(100))


@_representation(
    "Where and when categories appear",
    "Each curve: how well the distances between images, in an area after each step, match a model in which images of "
    "a class are alike and others are not (rank correlation). Lines: what pixels reach by themselves, and the most "
    "that can be reached, which is far below 1, as the model has two values only.",
    PLACELESS,
)
def rsa(c: Context) -> Result:
    """Similarity to the categories, in layers where there are any, else in what the image enters and leaves by."""
    layer = c.sheet.layer.numpy()
    if 1 < len(np.unique(layer)) <= 12:
        area = np.array([f"layer {i}" for i in layer])
    else:
        entry, way_out = (c.sheet.input_rank >= 0).numpy(), c.sheet.output_mask.numpy()
        area = np.where(entry, "inputs", np.where(way_out & ~way_out.all(), "outputs", "others"))
    model = analysis.category_rdm(c.categories)
    return c.call(analysis.rsa_by_step, c.sample_states, area[c.sample], model, inputs=c.probes.natural.images)


@_representation(
    "Classes read from areas",
    "How well a linear readout of the mean of each area's columns ({signal}) tells the class of held-out images, the "
    "best areas first; dotted: by chance. The number is the mean over areas. Where the image enters it can be told "
    "from the start: see the input and the untrained network.",
    PLACELESS,
)
def classes_by_area(c: Context) -> Result:
    rng, areas = np.random.default_rng(c.settings.seed), _areas(c)
    some = {name: np.sort(rng.permutation(columns)[:_OF_AN_AREA]) for name, columns in areas.items()}
    taken = np.unique(np.concatenate(list(some.values())))
    among = {name: np.searchsorted(taken, columns) for name, columns in some.items()}
    return c.call(analysis.region_decoding, c.states_of(taken), c.categories, among, permutations=c.shuffles(20))


@_representation(
    "Energy",
    "A third for activity, as the readout reads it, two thirds for what arrives along edges (All-TNN), without unit. "
    "The growth of states from step to step, which nothing reads, is not in it.",
    PLACELESS,
    needs=("states", "attention", "heard"),
)
def energy(c: Context) -> Energy:
    """Of a few images: recording attention holds steps x edges x images x heads numbers."""
    images, numbers = evenly(c.probes.natural.images, 32), c.edges.shape[1] * c.net.steps
    batch = int(np.clip(1e7 // numbers, 1, 32))
    shuffles = _edge_shuffles(c)
    return c.call(analysis.network_energy, c.net, images, c.edges, batch_size=batch, permutations=shuffles)


@_representation(
    "Energy of transmission",
    "What arrives at a column: attention times the size of the values that it weighs, over edges and heads. The null "
    "deals out each column's attention anew: below it, columns listen to those that say less.",
    PLACELESS,
    needs=("states", "attention", "heard"),
)
def transmission(c: Context) -> Result:
    return energy(c).transmission


# ---------------------------------------------------------------------- fields


@_fields(
    "Effective receptive fields over steps",
    "How far from its centre a column's field reaches, by gradients; each grey line is a column.",
    PLACELESS,
)
def fields(c: Context) -> Result:
    count = int(np.clip(40_000 // len(c.positions), 4, 16))
    chosen = np.sort(np.random.default_rng(c.settings.seed).permutation(np.flatnonzero(c.answering))[:count])
    images = evenly(c.probes.natural.images, 8)
    options = {"signal": c.settings.signal, "permutations": c.shuffles(100)}
    return c.call(analysis.gradient_fields, c.net, images, chosen, batch_size=8, **options)


@_fields(
    "Receptive fields from noise",
    "The share of columns with a linear field beyond chance, and the strongest of them.",
    PLACELESS,
)
def reverse_correlation(c: Context) -> analysis.fields.ReverseCorrelation:
    shown = analysis.varying(c.noise)
    if not shown.any():
        raise ValueError("no column answers noise")
    return c.call(analysis.reverse_correlation, c.noise[:, shown], c.probes.noise, permutations=c.shuffles(20))


@_fields(
    "Gabor functions in hidden units",
    "The share of hidden units (a few, drawn at random) whose linear field, from noise, a Gabor function fits well. "
    "Below: the size of the envelope across and along the bars, in periods. The null has the same fields with random "
    "phases: small or coarse fields are fitted well whatever they are.",
    PLACELESS,
    needs=("hidden",),
)
def gabors(c: Context) -> Result:
    given: dict[str, Any] = {"batch_size": c.settings.batch_size, "progress": c.settings.progress}
    hidden = analysis.responses(c.net, c.probes.noise, signal="hidden", columns=c.sample[:32], **given)
    units = hidden.reshape(len(hidden), -1)
    able = np.random.default_rng(c.settings.seed).permutation(np.flatnonzero(analysis.varying(units)))[:32]
    if not len(able):
        raise ValueError("no hidden unit answers noise")
    found = c.call(analysis.reverse_correlation, units[:, able], c.probes.noise, permutations=1)
    return c.call(analysis.fit_gabors, found.field, permutations=c.shuffles(19), most=4)


CATALOGUE.extend(ROBUSTNESS)
