"""Geometries and neighborhoods: everything that makes a sheet. Knows no neural network.

The room can be called: ``cg.geometry("grid", shape=(8, 8))`` is :func:`geometry` in it.
"""

import sys
from types import ModuleType
from typing import Any

from colgraph.geometry import builtin as _builtin
from colgraph.geometry import cortex as _cortex
from colgraph.geometry.base import Geometry
from colgraph.geometry.build import build_sheet, geometry, option_names, read_columns
from colgraph.geometry.controls import CONTROLS, build_control, shuffled_order
from colgraph.geometry.neighbors import KNN, NEIGHBORHOODS, Complete, Edges, Given, Radius, parse_neighborhood
from colgraph.geometry.registry import describe_geometries, list_geometries, load_plugin, register_geometry

# Imported for the geometries and the neighborhood that they register.
del _builtin, _cortex

__all__ = [
    "CONTROLS",
    "KNN",
    "NEIGHBORHOODS",
    "Complete",
    "Edges",
    "Geometry",
    "Given",
    "Radius",
    "build_control",
    "build_sheet",
    "describe_geometries",
    "geometry",
    "list_geometries",
    "load_plugin",
    "option_names",
    "parse_neighborhood",
    "read_columns",
    "register_geometry",
    "shuffled_order",
]


class _CallableRoom(ModuleType):
    """Lets one attribute, ``colgraph.geometry``, be the room and the function in it that users call most."""

    def __call__(self, source: Any, **options: Any) -> Geometry:
        return geometry(source, **options)


_CallableRoom.__call__.__doc__ = geometry.__doc__
sys.modules[__name__].__class__ = _CallableRoom
