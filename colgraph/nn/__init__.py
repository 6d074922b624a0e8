"""Layers with parameters of their own for every column, on states ``[N,B,C]``."""

from colgraph.nn.attention import SheetAttention
from colgraph.nn.block import ColumnBlock
from colgraph.nn.layers import ColumnLayerNorm, ColumnLinear, ColumnMlp

__all__ = ["ColumnBlock", "ColumnLayerNorm", "ColumnLinear", "ColumnMlp", "SheetAttention"]
