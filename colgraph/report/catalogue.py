"""The analyses of a run, in the order of the report: what is computed, and a sentence on how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from colgraph.analysis import Result
from colgraph.report import measures
from colgraph.report.context import Context

__all__ = ["CATALOGUE", "NO_CONTROL", "Analysis"]


@dataclass(frozen=True)
class Analysis:
    """One analysis of the report.

    Attributes:
        key: its name in files.
        title: its heading.
        reading: how to read the figure.
        compute: from a context to a result; a ValueError means that it does not apply, and why.
        family: "topography", "connectivity", "representation", "fields" or "robustness".
        controls: the kinds of controls for which it is computed, too.
    """

    key: str
    title: str
    reading: str
    compute: Callable[[Context], Result]
    family: str
    controls: tuple[str, ...] = ("untrained", "shuffled", "trained")


# Not asked of some controls, and why.
NO_CONTROL = {
    "shuffled": "does not depend on where columns lie",
    "untrained": "answers by chance",
}
_PLACELESS = ("untrained", "trained")
_ANSWERS = ("trained",)


CATALOGUE: tuple[Analysis, ...] = (
    Analysis(
        "correlation_by_distance",
        "Response correlation against distance",
        "A curve above the grey band near the left means that neighbours answer alike. Local edges alone lift it, so "
        "learning shows only as a difference from the untrained network.",
        measures.correlation,
        "topography",
    ),
    Analysis(
        "orientation",
        "Preferred orientation",
        "Colour is the orientation of the grating that drives a column most (length of its state); columns that are no "
        "more selective than by chance are drawn small. Selectivity runs from 0 to 1; the null shuffles orientations.",
        measures.orientation_of,
        "topography",
        _PLACELESS,
    ),
    Analysis(
        "smoothness",
        "Smoothness of the orientation map",
        "0: near columns prefer as different orientations as far ones; 1: near columns agree. The null lies above 0.",
        measures.smoothness,
        "topography",
    ),
    Analysis(
        "pinwheels",
        "Pinwheels",
        "Marks are points around which all orientations occur. Noise has many; only a periodic map (one with a "
        "wavelength) has a density to compare with pi per hypercolumn.",
        measures.pinwheels,
        "topography",
    ),
    Analysis(
        "category",
        "Category selectivity",
        "d' of the class to which columns are most selective: how far its responses lie from the others', in standard "
        "deviations (TDANN's definition). Classes of images differ in their pixels, so untrained columns differ, too.",
        measures.category,
        "topography",
        _PLACELESS,
    ),
    Analysis(
        "patches",
        "Patches of category selectivity",
        "The tenth of columns with the highest d', joined where they are connected. A large patch beside a small null "
        "means that selective columns lie together.",
        measures.patches,
        "topography",
    ),
    Analysis(
        "moran",
        "Moran's I of mean activity",
        "Whether columns joined by an edge are active alike: 0 by chance, towards 1 on a smooth map.",
        measures.moran,
        "topography",
    ),
    Analysis(
        "wiring",
        "Wire listened through",
        "The expected length of wire of each column. Below the null: attention prefers short edges.",
        measures.wiring,
        "connectivity",
    ),
    Analysis(
        "edge_lengths",
        "Effective edge lengths",
        "Where attention comes from, beside what it was before training (blue) and what equal weights would give "
        "(dotted).",
        measures.lengths,
        "connectivity",
    ),
    Analysis(
        "strengths",
        "Who is listened to",
        "Out-strength of each column; the number is its inequality. Above the null: attention makes hubs. Look where "
        "they lie: columns that the image enters by are hubs without further ado.",
        measures.strengths,
        "connectivity",
        _PLACELESS,
    ),
    Analysis(
        "modularity",
        "Modules of the attention graph",
        "Colours are modules found by the Louvain method. Random graphs of the same degrees have modules, too.",
        measures.modularity,
        "connectivity",
        _PLACELESS,
    ),
    Analysis(
        "small_world",
        "Small world",
        "The stronger half of the edges: clustering and path length as multiples of random graphs of equal degrees.",
        measures.small_world,
        "connectivity",
        _PLACELESS,
    ),
    Analysis(
        "communicability",
        "Communicability",
        "How well columns reach each other along all walks through the attention graph.",
        measures.communicability,
        "connectivity",
        _PLACELESS,
    ),
    Analysis(
        "dimensionality",
        "Dimensionality of the last step",
        "How many dimensions the states of 256 columns use for natural images; bounded by the number of images.",
        measures.dimensionality,
        "representation",
        _PLACELESS,
    ),
    Analysis(
        "cka",
        "First step against last step",
        "Linear CKA: 1 where the steps change nothing but rotation and scale, at the null where they have nothing in "
        "common.",
        measures.steps_alike,
        "representation",
        _PLACELESS,
    ),
    Analysis(
        "rsa",
        "Where and when categories appear",
        "Each cell: how well the distances between images, in an area after a step, match a model in which images of a "
        "class are alike and others are not (rank correlation). Pixels match it a little by themselves: compare with "
        "the untrained network.",
        measures.categories_by_step,
        "representation",
        _PLACELESS,
    ),
    Analysis(
        "energy",
        "Energy",
        "A third for activity, two thirds for what arrives through edges (All-TNN), without unit.",
        measures.energy,
        "representation",
        _PLACELESS,
    ),
    Analysis(
        "fields",
        "Effective receptive fields over steps",
        "How far from its centre a column's field reaches, by gradients; each grey line is a column.",
        measures.gradient_fields,
        "fields",
        _PLACELESS,
    ),
    Analysis(
        "reverse_correlation",
        "Receptive fields from noise",
        "The share of columns with a linear field beyond chance, and the strongest of them.",
        measures.reverse_correlation,
        "fields",
        _PLACELESS,
    ),
    Analysis(
        "corruptions",
        "Corrupted images",
        "Error under ImageNet-C's families of corruption; lower is better.",
        measures.corruptions,
        "robustness",
        _ANSWERS,
    ),
    Analysis(
        "attack",
        "Attacks",
        "Accuracy under projected gradient descent, beside random changes of the same size (grey).",
        measures.attack,
        "robustness",
        _ANSWERS,
    ),
    Analysis(
        "lesions",
        "Lesions",
        "Accuracy when the most listened-to columns are taken out, beside as many at random (grey). Columns that the "
        "image enters by are spared: without them the network is blind.",
        measures.lesions,
        "robustness",
        _ANSWERS,
    ),
    Analysis(
        "activity_noise",
        "Noise on activity",
        "Accuracy when every state is disturbed after every step.",
        measures.activity_noise,
        "robustness",
        _ANSWERS,
    ),
    Analysis(
        "weight_noise",
        "Noise on weights",
        "Accuracy when every parameter is disturbed.",
        measures.weight_noise,
        "robustness",
        _ANSWERS,
    ),
)
