"""A layout goes where its model goes."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

import colgraph as cg
from colgraph.layout import Layout

TABLES = ("indptr", "source", "target", "source_indptr", "source_target", "source_edge", "order")


@pytest.fixture(scope="module")
def net() -> cg.VisionColumnformer:
    sheet = cg.build_sheet("sphere", subdivisions=1, neighbors=cg.KNN(6), num_inputs=4)
    model = cg.Columnformer(sheet, dim=8, steps=2, qk_dim=4, mlp_dim=8)
    return cg.VisionColumnformer(model, image_size=8, patch_size=4, in_channels=1, num_classes=3)


def assert_same_tables(first: Layout, second: Layout) -> None:
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in TABLES)


def by_torch_save(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("keep", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), by_torch_save])
def test_copies_compute_the_same(net, keep):
    images = torch.randn(2, 1, 8, 8)
    kept = keep(net)
    assert_same_tables(kept.model.layout, net.model.layout)
    assert torch.equal(kept(images), net(images))


def test_it_is_not_in_the_state_dict_and_has_no_parameters(net):
    assert not [name for name in net.state_dict() if "layout" in name]
    assert not list(net.model.layout.parameters())


def test_changes_of_type_leave_it_alone(net):
    double = copy.deepcopy(net).double()
    assert double.model.layout.indptr.dtype == torch.int64
    assert double(torch.randn(2, 1, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_to_gives_a_copy_elsewhere(net):
    layout = net.model.layout
    assert layout.to("cpu") is layout
    moved = layout.to("meta")
    assert moved.indptr.device.type == "meta"
    assert layout.indptr.device.type == "cpu"


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_model_that_never_ran_is_exported(dynamic):
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors=cg.KNN(5), num_inputs=4)
    model = cg.Columnformer(sheet, dim=8, steps=2, qk_dim=4, mlp_dim=8)
    fresh = cg.VisionColumnformer(model, image_size=8, patch_size=4, in_channels=1, num_classes=3)
    shapes = ({0: torch.export.Dim("batch", min=2, max=16)},) if dynamic else None
    program = torch.export.export(fresh, (torch.randn(3, 1, 8, 8),), dynamic_shapes=shapes)
    images = torch.randn(5 if dynamic else 3, 1, 8, 8)
    torch.testing.assert_close(program.module()(images), fresh(images))


def test_training_after_inference_mode(net):
    with torch.inference_mode():
        net(torch.randn(2, 1, 8, 8))
    net(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
