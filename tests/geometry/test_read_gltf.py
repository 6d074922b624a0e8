"""glTF: scenes, instances, extensions, and primitives of every mode."""

import base64
import json

import numpy as np
import pytest

from colgraph.geometry.readers import read_geometry

SQUARE = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]


def document(*, arrays=(), nodes=({"mesh": 0},), **changes):
    """A document with the arrays ``(values, numpy type, accessor type)`` as accessors, the first of them positions."""
    buffer, views, accessors = b"", [], []
    for values, kind, shape in [(SQUARE, "<f4", "VEC3"), *arrays]:
        data = np.asarray(values, kind)
        component = {"<f4": 5126, "<u2": 5123, "|u1": 5121, "<i2": 5122}[data.dtype.str]
        views.append({"buffer": 0, "byteOffset": len(buffer), "byteLength": data.nbytes})
        count = len(data) if shape != "MAT4" else data.size // 16
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": count, "type": shape})
        buffer += data.tobytes() + b"\0" * (-data.nbytes % 4)
    uri = "data:;base64," + base64.b64encode(buffer).decode()
    return {
        "asset": {"version": "2.0"},
        "nodes": list(nodes),
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 5}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"uri": uri, "byteLength": len(buffer)}],
        **changes,
    }


def read(tmp_path, doc):
    (tmp_path / "a.gltf").write_text(json.dumps(doc))
    return read_geometry(tmp_path / "a.gltf")


@pytest.mark.parametrize(
    ("mode", "indices", "faces"),
    [
        (4, [0, 1, 2, 2, 1, 3], [[0, 1, 2], [2, 1, 3]]),
        (5, None, [[0, 1, 2], [2, 1, 3]]),
        (5, [3, 1, 2, 0], [[3, 1, 2], [2, 1, 0]]),
        (6, [0, 1, 3, 2], [[0, 1, 3], [0, 3, 2]]),
    ],
)
def test_strips_and_fans(tmp_path, mode, indices, faces):
    part = {"attributes": {"POSITION": 0}, "mode": mode}
    arrays = []
    if indices is not None:
        arrays, part["indices"] = [(indices, "u1", "SCALAR")], 1
    geometry = read(tmp_path, document(arrays=arrays, meshes=[{"primitives": [part]}]))
    np.testing.assert_array_equal(geometry.faces, faces)


def test_lines_are_said_and_points_alone_are_a_cloud(tmp_path):
    line, strip, dots = ({"attributes": {"POSITION": 0}, "mode": mode} for mode in (3, 5, 0))
    with pytest.warns(UserWarning, match="passed over 1 primitives of lines; passed over 1 primitives of points"):
        assert len(read(tmp_path, document(meshes=[{"primitives": [line, strip, dots]}])).faces) == 2
    assert read(tmp_path, document(meshes=[{"primitives": [dots]}])).faces is None
    with pytest.raises(ValueError, match="passed over 1 primitives of lines"):
        read(tmp_path, document(meshes=[{"primitives": [line]}]))


def test_instances_of_the_scene_that_is_shown(tmp_path):
    nodes = [{"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0]}, {"mesh": 0, "translation": [0, 7, 0]}]
    doc = document(nodes=nodes, scenes=[{"nodes": [2]}, {"nodes": [1, 0]}], scene=1)
    np.testing.assert_array_equal(read(tmp_path, doc).positions.max(0), [6, 1, 0])
    doc["meshes"] *= 2
    with pytest.warns(UserWarning, match="passed over 1 meshes that are not in its scene"):
        assert len(read(tmp_path, doc).faces) == 4
    del doc["scenes"], doc["meshes"][1]
    assert len(read(tmp_path, doc).faces) == 6
    doc["nodes"][0]["children"] = [0]
    doc["scenes"] = [{"nodes": [0]}, {"nodes": [0]}]
    with pytest.raises(ValueError, match="node 0 has several parents"):
        read(tmp_path, doc)


def test_morph_targets_and_skins(tmp_path):
    target = [[0, 0, 2]] * 4
    part = {"attributes": {"POSITION": 0}, "mode": 5, "targets": [{"POSITION": 1}]}
    doc = document(arrays=[(target, "f4", "VEC3")], meshes=[{"primitives": [part], "weights": [0.5]}])
    np.testing.assert_array_equal(read(tmp_path, doc).positions[:, 2], [1, 1, 1, 1])
    # Two joints: one shifts x by 10, one y by 20; the node's own shift does not count.
    bind = np.eye(4)
    bind[:3, 3] = [1, 0, 0]
    arrays = [
        ([[0, 1, 0, 0]] * 4, "u1", "VEC4"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0]], "f4", "VEC4"),
        ([np.eye(4).T, bind.T], "f4", "MAT4"),
    ]
    nodes = [
        {"mesh": 0, "skin": 0, "translation": [99, 99, 99]},
        {"translation": [10, 0, 0]},
        {"translation": [0, 20, 0]},
    ]
    attributes = {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2}
    doc = document(
        arrays=arrays,
        nodes=nodes,
        meshes=[{"primitives": [{"attributes": attributes, "mode": 5}]}],
        skins=[{"joints": [1, 2], "inverseBindMatrices": 3}],
    )
    expected = [[10, 0, 0], [2, 20, 0], [5.5, 11, 0], [11, 1, 0]]
    np.testing.assert_allclose(read(tmp_path, doc).positions, expected)


@pytest.mark.parametrize(
    "extension", ["KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", "XYZ_new"]
)
def test_required_extensions_that_are_not_known_are_refused_by_name(tmp_path, extension):
    with pytest.raises(ValueError, match=f"requires the glTF extension {extension}"):
        read(tmp_path, document(extensionsRequired=[extension], extensionsUsed=[extension]))


def test_extensions_of_appearance_may_be_required(tmp_path):
    known = ["KHR_mesh_quantization", "KHR_materials_unlit", "KHR_materials_new", "KHR_texture_transform"]
    assert len(read(tmp_path, document(extensionsRequired=known)).faces) == 2


def test_extensions_that_are_used_in_place_of_data_are_refused_by_name(tmp_path):
    doc = document()
    doc["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": {}}
    assert len(read(tmp_path, doc).faces) == 2  # a fallback is there
    del doc["accessors"][0]["bufferView"]
    with pytest.raises(ValueError, match="uses the glTF extension KHR_draco_mesh_compression"):
        read(tmp_path, doc)
    doc = document()
    doc["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    assert len(read(tmp_path, doc).faces) == 2
    del doc["buffers"][0]["uri"]
    with pytest.raises(ValueError, match="uses the glTF extension EXT_meshopt_compression"):
        read(tmp_path, doc)
    instanced = {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {}}}
    with pytest.raises(ValueError, match="uses the glTF extension EXT_mesh_gpu_instancing"):
        read(tmp_path, document(nodes=[instanced]))


def test_files_that_are_no_gltf_2(tmp_path):
    with pytest.raises(ValueError, match=r"glTF 1.0, but only glTF 2.0"):
        read(tmp_path, document(asset={"version": "1.0"}))
    doc = document()
    doc["buffers"][0]["byteLength"] += 4
    with pytest.raises(ValueError, match="cut short: buffer 0 has 48 of 52 bytes"):
        read(tmp_path, doc)
    doc = document()
    doc["accessors"][0]["count"] = 5
    with pytest.raises(ValueError, match="cut short: the view 0 has 48 bytes"):
        read(tmp_path, doc)
    doc = document(arrays=[([0, 1, 9], "u2", "SCALAR")])
    doc["meshes"][0]["primitives"][0] = {"attributes": {"POSITION": 0}, "indices": 1}
    with pytest.raises(ValueError, match="vertex 9, but there are 4"):
        read(tmp_path, doc)
