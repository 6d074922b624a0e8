"""Whole models: the columnformer on a sheet, and its vision model."""

from colgraph.models.columnformer import Columnformer, SheetMismatchError, Unroll
from colgraph.models.vision import VisionColumnformer, VisionUnroll

__all__ = ["Columnformer", "SheetMismatchError", "Unroll", "VisionColumnformer", "VisionUnroll"]
