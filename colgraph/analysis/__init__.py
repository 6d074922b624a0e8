"""What did the sheet learn? Pure functions on arrays and positions, and probes for any network.

One module a family: ``topography``, ``partial_correlation``, ``spatial_edges``, ``smoothness``, ``orientation``,
``pinwheels``, ``selectivity``, ``connectivity``, ``graphs``, ``small_worlds``, ``representation``, ``dissimilarity``,
``steps``, ``encoding``, ``robustness``, ``lesions``, ``energy``, ``fields``, ``gabor``, ``accuracy``; stimuli come
from ``probes``, responses from ``collect``. Every analysis returns a frozen result with ``value``, ``null``,
``interval`` and ``plot(ax)``; see ``docs/analyses.md``.
"""

from colgraph.analysis.accuracy import (
    accuracy,
    accuracy_difference,
    accuracy_interval,
    correct_p_values,
    mcnemar,
    mean_interval,
)
from colgraph.analysis.answers import balanced_scores, join_predictions
from colgraph.analysis.arrays import among, column_signal, varying
from colgraph.analysis.by_region import region_attention, region_means
from colgraph.analysis.collect import responses
from colgraph.analysis.connectivity import edge_lengths, strengths, wiring
from colgraph.analysis.corruptions import CORRUPTIONS, choose_constants, corrupt
from colgraph.analysis.dissimilarity import category_rdm, rdm, rsa
from colgraph.analysis.encoding import encode, encode_table, split_half_ceiling
from colgraph.analysis.energy import energy, network_energy
from colgraph.analysis.features import Feature, FeatureExtractor
from colgraph.analysis.fields import gradient_fields, reverse_correlation
from colgraph.analysis.gabor import fit_gabors
from colgraph.analysis.graphs import communicability, modularity
from colgraph.analysis.lesions import activity_noise, lesion_curve, lesion_regions, predict_lesioned
from colgraph.analysis.nets import predict
from colgraph.analysis.orientation import orientation_map
from colgraph.analysis.pairs import Pairs, sample_pairs
from colgraph.analysis.partial_correlation import partial_correlation_by_distance
from colgraph.analysis.pinwheels import map_wavelength, pinwheels
from colgraph.analysis.probes import Probes, category_set, gratings, moving_bars, noise
from colgraph.analysis.region_decoding import region_decoding
from colgraph.analysis.representation import cka, compare, participation_ratio
from colgraph.analysis.result import Result
from colgraph.analysis.robustness import adversarial_accuracy, corruption_errors, weight_noise
from colgraph.analysis.searchlight import searchlight
from colgraph.analysis.selectivity import category_selectivity, selective_patches
from colgraph.analysis.sheet_regions import sheet_regions
from colgraph.analysis.small_worlds import rich_club, small_world
from colgraph.analysis.smoothness import smoothness
from colgraph.analysis.spatial_edges import spatial_edges
from colgraph.analysis.steps import rsa_by_step
from colgraph.analysis.topography import correlation_by_distance, morans_i
from colgraph.analysis.undirected import rewire

__all__ = [
    "CORRUPTIONS",
    "Feature",
    "FeatureExtractor",
    "Pairs",
    "Probes",
    "Result",
    "accuracy",
    "accuracy_difference",
    "accuracy_interval",
    "activity_noise",
    "adversarial_accuracy",
    "among",
    "balanced_scores",
    "category_rdm",
    "category_selectivity",
    "category_set",
    "choose_constants",
    "cka",
    "column_signal",
    "communicability",
    "compare",
    "correct_p_values",
    "correlation_by_distance",
    "corrupt",
    "corruption_errors",
    "edge_lengths",
    "encode",
    "encode_table",
    "energy",
    "fit_gabors",
    "gradient_fields",
    "gratings",
    "join_predictions",
    "lesion_curve",
    "lesion_regions",
    "map_wavelength",
    "mcnemar",
    "mean_interval",
    "modularity",
    "morans_i",
    "moving_bars",
    "network_energy",
    "noise",
    "orientation_map",
    "partial_correlation_by_distance",
    "participation_ratio",
    "pinwheels",
    "predict",
    "predict_lesioned",
    "rdm",
    "region_attention",
    "region_decoding",
    "region_means",
    "responses",
    "reverse_correlation",
    "rewire",
    "rich_club",
    "rsa",
    "rsa_by_step",
    "sample_pairs",
    "searchlight",
    "selective_patches",
    "sheet_regions",
    "small_world",
    "smoothness",
    "spatial_edges",
    "split_half_ceiling",
    "strengths",
    "varying",
    "weight_noise",
    "wiring",
]
