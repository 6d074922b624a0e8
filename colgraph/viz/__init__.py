"""Figures of sheets and of training runs, with matplotlib: arrays or a sheet in, a ``Figure`` out."""

from colgraph.viz.attention import central_column, draw_attention_by_distance, draw_column
from colgraph.viz.by_steps import draw_accuracy_by_steps
from colgraph.viz.confusion import draw_confusion
from colgraph.viz.curves import draw_curves
from colgraph.viz.edges_over_time import draw_edges_over_time
from colgraph.viz.front import draw_trade_off
from colgraph.viz.maps import draw_map
from colgraph.viz.results import draw_results
from colgraph.viz.sampling import draw_sampling
from colgraph.viz.sheet import draw_sheet
from colgraph.viz.style import picture_suffixes, save_figure
from colgraph.viz.viewer import SheetMap, SheetViewer, sheet_viewer
from colgraph.viz.views import VIEWS

__all__ = [
    "VIEWS",
    "SheetMap",
    "SheetViewer",
    "central_column",
    "draw_accuracy_by_steps",
    "draw_attention_by_distance",
    "draw_column",
    "draw_confusion",
    "draw_curves",
    "draw_edges_over_time",
    "draw_map",
    "draw_results",
    "draw_sampling",
    "draw_sheet",
    "draw_trade_off",
    "picture_suffixes",
    "save_figure",
    "sheet_viewer",
]
