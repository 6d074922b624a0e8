"""The sheet: a graph of columns embedded in space."""

from colgraph.sheet.graph import Sheet, load_sheet

__all__ = ["Sheet", "load_sheet"]
