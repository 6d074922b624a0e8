"""Layers with parameters of their own for every column, on states ``[N,B,C]``."""

from colgraph.nn.attention import SheetAttention
from colgraph.nn.block import ColumnBlock, ColumnMlp
from colgraph.nn.layers import ColumnLayerNorm, ColumnLinear
from colgraph.nn.shared import SharedColumnLayerNorm, SharedColumnLinear, SharedDifference

__all__ = ["ColumnBlock", "ColumnLayerNorm", "ColumnLinear", "ColumnMlp", "SheetAttention"]
__all__ += ["SharedColumnLayerNorm", "SharedColumnLinear", "SharedDifference"]
