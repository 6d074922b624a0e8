"""Whole models: the columnformer on a sheet, its vision model, and the baseline without a sheet."""

from colgraph.models.columnformer import Columnformer, SheetMismatchError, Unroll
from colgraph.models.flops import Flops, count_flops
from colgraph.models.independent import independent_weights
from colgraph.models.transformer import VisionTransformer
from colgraph.models.vision import VisionColumnformer, VisionUnroll

__all__ = [
    "Columnformer",
    "Flops",
    "SheetMismatchError",
    "Unroll",
    "VisionColumnformer",
    "VisionTransformer",
    "VisionUnroll",
    "count_flops",
    "independent_weights",
]
