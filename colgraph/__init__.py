"""The columnformer as a graph neural network.

``import colgraph as cg``; see README.md for a tour and ``docs/architecture.md`` for what lies where.
"""

from importlib.metadata import PackageNotFoundError, version

from colgraph import ops
from colgraph.geometry import (
    KNN,
    Complete,
    Edges,
    Geometry,
    Given,
    Radius,
    build_sheet,
    geometry,
    list_geometries,
    register_geometry,
)
from colgraph.models import Columnformer, SheetMismatchError, Unroll, VisionColumnformer, VisionUnroll
from colgraph.sheet import Sheet, load_sheet

try:
    __version__ = version("colgraph")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "KNN",
    "Columnformer",
    "Complete",
    "Edges",
    "Geometry",
    "Given",
    "Radius",
    "Sheet",
    "SheetMismatchError",
    "Unroll",
    "VisionColumnformer",
    "VisionUnroll",
    "build_sheet",
    "geometry",
    "list_geometries",
    "load_sheet",
    "ops",
    "register_geometry",
]
