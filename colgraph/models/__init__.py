"""Whole models: the columnformer on a sheet, and its vision model."""

from colgraph.models.columnformer import Columnformer, SheetMismatchError, Unroll
from colgraph.models.flops import Flops, count_flops
from colgraph.models.vision import VisionColumnformer, VisionUnroll

__all__ = [
    "Columnformer",
    "Flops",
    "SheetMismatchError",
    "Unroll",
    "VisionColumnformer",
    "VisionUnroll",
    "count_flops",
]
