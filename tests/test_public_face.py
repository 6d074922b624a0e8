"""What a user reaches from ``import colgraph as cg``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import colgraph as cg
import colgraph.geometry as g


def test_geometry_is_a_room_and_a_function():
    assert cg.geometry is g
    assert cg.geometry("grid", shape=(3, 4)).num_columns == 12
    assert g.geometry("grid", shape=(3, 4)).num_columns == 12
    assert g.KNN is cg.KNN
    assert "Geometry" in dir(cg.geometry)
    with pytest.raises(ValueError, match="unknown option"):
        cg.geometry("grid", sides=3)


@pytest.mark.parametrize("room", ["analysis", "data", "distributed", "training", "viz"])
def test_rooms_are_loaded_where_they_are_first_named(room):
    code = f"import sys, colgraph as cg; assert 'colgraph.{room}' not in sys.modules; assert cg.{room}.__all__"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert room in dir(cg)


def test_every_public_name_is_there():
    assert all(hasattr(cg, name) for name in cg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cg.nothing
