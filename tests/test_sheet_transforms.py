"""What PyG does to a sheet is right, or refused when a model is built from it."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch_geometric import transforms as T
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import colgraph as cg
from colgraph.sheet import Sheet

SKIPPED = {
    "BaseTransform": "the abstract class",
    "Compose": "others in a row",
    "ComposeFilters": "a filter of data sets",
    "AddMetaPaths": "heterogeneous graphs",
    "AddRandomMetaPaths": "heterogeneous graphs",
    "ToSLIC": "images",
    "AddGPSE": "a trained model",
}
ARGUMENTS = {
    "AddLaplacianEigenvectorPE": ({"k": 2},),
    "AddRandomWalkPE": ({"walk_length": 2},),
    "AddRemainingSelfLoops": ({}, {"attr": "edge_distance"}),
    "AddSelfLoops": ({}, {"attr": "edge_distance"}),
    "Constant": ({},),
    "FeaturePropagation": ({"missing_mask": torch.zeros(42, 3, dtype=torch.bool)},),
    "FixedPoints": ({"num": 20}, {"num": 42, "replace": False, "allow_duplicates": True}),
    "GDC": ({"normalization_in": "sym"},),
    "GridSampling": ({"size": 0.5},),
    "IndexToMask": ({"attrs": "chosen"},),
    "KNNGraph": ({"k": 3},),
    "LinearTransformation": ({"matrix": torch.eye(3)}, {"matrix": 2 * torch.eye(3)}),
    "MaskToIndex": ({"attrs": "output_mask"},),
    "OneHotDegree": ({"max_degree": 12},),
    "Pad": ({"max_num_nodes": 60},),
    "RadiusGraph": ({"r": 0.7},),
    "RandomJitter": ({"translate": 0.0}, {"translate": 0.1}),
    "RandomRotate": ({"degrees": 40, "axis": 1},),
    "RandomScale": ({"scales": (1.5, 1.6)},),
    "RandomShear": ({"shear": 0.3},),
    "RemoveSelfLoops": ({}, {"attr": "edge_distance"}),
    "RemoveDuplicatedEdges": ({}, {"key": ["edge_distance"]}),
    "RootedEgoNets": ({"num_hops": 1},),
    "RootedRWSubgraph": ({"walk_length": 2},),
    "SIGN": ({"K": 1},),
    "SVDFeatureReduction": ({"out_channels": 2},),
    "SamplePoints": ({"num": 42}, {"num": 30}),
    "SphericalHarmonics": ({},),
    "ToDense": ({}, {"num_nodes": 50}),
    "ToDevice": ({"device": "cpu"},),
    "ToUndirected": ({}, {"reduce": "min"}, {"reduce": "mean"}),
}
TRANSFORMS = sorted(name for name in T.__all__ if name not in SKIPPED)


@pytest.fixture(scope="module")
def sphere() -> Sheet:
    return cg.build_sheet("sphere", subdivisions=1, radius=2, neighbors=cg.KNN(5), metric="euclidean", num_inputs=4)


def transformed(sheet: Sheet, name: str, arguments: dict) -> object:
    """What a transform makes of a sheet, or None where it cannot be used on one, by its own word."""
    work = sheet.clone()
    if name in ("SVDFeatureReduction", "FeaturePropagation", "GDC", "SIGN", "NormalizeFeatures"):
        work.x = work.pos.clone()
    if name == "IndexToMask":
        work.chosen = torch.tensor([1, 2])
    if name in ("PointPairFeatures",):
        work.norm = work.pos.clone()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(T, name)(**arguments)(work)
    except (ImportError, ModuleNotFoundError) as error:
        pytest.skip(str(error))
    except (AssertionError, ValueError, AttributeError, RuntimeError, TypeError):
        return None


def assert_true_to_space(sheet: Sheet) -> None:
    """Distances are those between the columns that the edges join."""
    source, target = sheet.edge_index
    between = (sheet.pos[source] - sheet.pos[target]).norm(dim=1)
    torch.testing.assert_close(sheet.edge_distance, between, rtol=1e-3, atol=1e-4)


def assert_right_or_refused(result: object) -> bool:
    """True where a model was built."""
    try:
        if isinstance(result, Sheet) and not isinstance(result, Batch):
            try:
                _ = result.layout
            except ValueError as error:
                if "coalesce" not in str(error):
                    raise
                result = result.coalesce()
        model = cg.Columnformer(result, dim=4, steps=2, qk_dim=2, mlp_dim=4)
    except ValueError:
        return False
    assert_true_to_space(model.sheet)
    assert torch.isfinite(model(torch.randn(model.num_columns, 1, 4))).all()
    return True


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, arguments) for name in TRANSFORMS for arguments in ARGUMENTS.get(name, ({},))],
    ids=lambda value: value if isinstance(value, str) else ",".join(f"{k}" for k in value),
)
def test_every_transform_is_right_or_refused(sphere, name, arguments):
    result = transformed(sphere, name, arguments)
    for part in result if isinstance(result, tuple | list) else (result,):
        assert_right_or_refused(part)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RemoveSelfLoops", {}),
        ("AddSelfLoops", {}),
        ("Center", {}),
        ("RandomRotate", {"degrees": 40}),
        ("RandomFlip", {"axis": 0}),
        ("LocalDegreeProfile", {}),
        ("ToUndirected", {"reduce": "min"}),
        ("LargestConnectedComponents", {}),
        ("RandomNodeSplit", {}),
        ("Distance", {}),
    ],
)
def test_what_keeps_the_sheet_whole_is_taken(sphere, name, arguments):
    assert assert_right_or_refused(transformed(sphere, name, arguments))


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("ToUndirected", {"reduce": "add"}, "adds up attributes"),
        ("NormalizeScale", {}, "positions were changed"),
        ("RandomJitter", {"translate": 0.1}, "positions were changed"),
        ("RandomScale", {"scales": (2, 2.1)}, "positions were changed"),
        ("TwoHop", {}, "was added"),
        ("VirtualNode", {}, "columns"),
        ("ToSparseTensor", {}, "lacks edge_index"),
    ],
)
def test_what_leaves_something_behind_is_refused(sphere, name, arguments, says):
    result = transformed(sphere, name, arguments)
    if result.edge_index is not None:
        with pytest.raises(ValueError, match=says):
            result.coalesce()
    with pytest.raises(ValueError, match=says):
        cg.Columnformer(result)
    assert not result.validate(raise_on_error=False)


def test_edges_of_equal_number_under_old_distances(sphere):
    """The silent one: as many edges as before, in another order."""
    changed = copy.copy(sphere)
    changed.edge_index = sphere.edge_index.flip(1)
    expected = sphere.edge_distance.flip(0)
    with pytest.raises(ValueError, match="coalesce"):
        _ = changed.layout
    assert torch.equal(changed.edge_distance, expected)
    assert torch.equal(changed.coalesce().edge_distance, sphere.edge_distance)


def test_columns_removed_without_their_ranks(sphere):
    fewer = copy.copy(sphere)
    fewer.input_rank = torch.where(sphere.input_rank == 1, -1, sphere.input_rank)
    with pytest.raises(ValueError, match="closes the gaps"):
        cg.Columnformer(fewer)
    part = sphere.subgraph(torch.nonzero(sphere.input_rank != 1).flatten())
    assert part.inputs.numel() == 3
    assert_true_to_space(cg.Columnformer(part).sheet)


def test_a_subgraph_is_whole_however_it_is_cut(sphere):
    kept = torch.randperm(42, generator=torch.Generator().manual_seed(0))[:20]
    for part in (sphere.subgraph(kept), sphere.subgraph(kept).subgraph(torch.arange(9)), sphere.edge_subgraph(kept)):
        assert assert_right_or_refused(part)


def test_a_batch_is_no_sheet_and_its_parts_are(sphere):
    batch = Batch.from_data_list([sphere, sphere])
    with pytest.raises(ValueError, match="batch of 2 sheets"):
        cg.Columnformer(batch)
    part = batch[1]
    assert part.fingerprint == sphere.fingerprint
    assert part.inputs.tolist() == sphere.inputs.tolist()
    assert assert_right_or_refused(part)
    for loaded in DataLoader([sphere], batch_size=1):
        assert loaded.to_data_list()[0].geometry_fingerprint == sphere.geometry_fingerprint


@pytest.mark.parametrize(
    "keep", [copy.copy, copy.deepcopy, lambda sheet: pickle.loads(pickle.dumps(sheet)), Data.clone]
)
def test_a_copy_remembers(sphere, keep):
    changed = keep(sphere)
    changed.pos = 2 * changed.pos
    with pytest.raises(ValueError, match="positions were changed"):
        _ = changed.layout


def test_given_distances_do_not_follow_positions():
    sheet = Sheet.from_edges([[0, 1], [1, 2]], 3, edge_distance=[1.0, 2.0], pos=np.eye(3))
    sheet.pos = 5 * sheet.pos
    assert sheet.layout.num_edges == 2


def test_a_model_keeps_its_own_sheet(sphere):
    mine = sphere.clone()
    model = cg.Columnformer(mine, dim=4)
    mine.edge_distance.zero_()
    mine.edge_index.zero_()
    assert_true_to_space(model.sheet)
    assert torch.equal(model.layout.edge_index, sphere.edge_index)


def test_names_are_none_where_there_are_none(sphere):
    assert sphere.names is None
    named = copy.copy(sphere)
    named.names = [str(i) for i in range(42)]
    assert named.subgraph(torch.tensor([3, 7])).names == ["3", "7"]
    named.names = None
    assert named.names is None
    assert "names" not in named


def test_sheets_and_models_made_in_inference_mode():
    with torch.inference_mode():
        edges, distance = torch.tensor([[0, 1], [1, 2]]), torch.tensor([1.0, 2.0])
        sheet = Sheet.from_edges(edges, 3, edge_distance=distance, inputs=[0])
        built = cg.build_sheet("grid", shape=(3, 3))
        assert cg.Columnformer(built, dim=4).layout.num_columns == 9
    for made in (sheet, built):
        model = cg.Columnformer(made, dim=4, steps=2, backend="reference")
        unroll = model.unroll(torch.randn(made.num_columns, 2, 4))
        (unroll.state.sum() + unroll.wiring_cost).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("edge_distance", lambda values: values.clone().requires_grad_(), "receives no gradient: give edge_distance.d"),
        ("pos", lambda values: values.clone().requires_grad_() * 2, r"receives no gradient: give pos.detach\(\)"),
        ("edge_index", lambda values: values.numpy(), "edge_index must be a tensor, got ndarray"),
        ("layer", lambda values: values.tolist(), "layer must be a tensor, got list"),
        ("edge_index", lambda values: values.to("meta"), "edge_index is on the meta device, which holds no numbers"),
    ],
)
def test_attributes_that_are_no_plain_tensors(sphere, name, change, says):
    sheet = copy.copy(sphere)
    sheet[name] = change(sheet[name])
    with pytest.raises(ValueError, match=says):
        cg.Columnformer(sheet, dim=4)


def test_edges_put_in_place_of_all_others_are_refused(sphere):
    """What ``T.KNNGraph`` and ``T.RadiusGraph`` do, which need a package that is not always there."""
    near = torch.cdist(sphere.pos, sphere.pos).topk(7, largest=False).indices
    changed = copy.copy(sphere)
    changed.edge_index = torch.stack([near.flatten(), torch.arange(42).repeat_interleave(7)])
    with pytest.raises(ValueError, match="was added to the sheet"):
        cg.Columnformer(changed)
