"""The columnformer as a graph neural network.

``import colgraph as cg``; see README.md for a tour and ``docs/architecture.md`` for what lies where.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

if sys.argv[1:2] == ["train"] and os.path.basename(sys.argv[0]) in ("colgraph", "-m"):
    # In training, threads that wait for each other must not spin on the few cores they share; read as torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from colgraph import geometry, ops
from colgraph.geometry import (
    KNN,
    Complete,
    Edges,
    Geometry,
    Given,
    Radius,
    build_sheet,
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

# Rooms that take time or further packages to import: loaded where they are first named.
_ROOMS = ("analysis", "data", "distributed", "report", "tasks", "training", "viz")
__all__ += ["analysis", "data", "distributed", "register_task", "report", "tasks", "training", "viz"]


def __getattr__(name: str) -> Any:
    if name == "register_task":
        return import_module(f"{__name__}.tasks").register_task
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, "register_task"})
