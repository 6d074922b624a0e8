"""Small models of every kind, and the same ones in float64."""

from __future__ import annotations

import copy

import torch

import colgraph as cg
from colgraph.models import Columnformer, VisionColumnformer
from colgraph.ops import available_backends

SIZES = {"dim": 6, "steps": 2, "num_heads": 2, "qk_dim": 3, "mlp_dim": 5}
KINDS = {
    "untied": {},
    "tied": {"untied": "none"},
    "values": {"value_projection": True},
    "shared": {"parametrization": "shared+difference"},
}
FAST = [name for name in available_backends() if name in ("numba", "torch_scatter")]


def make(sheet, seed=0, **options):
    """A model with every parameter away from its starting value."""
    torch.manual_seed(seed)
    model = Columnformer(sheet, **(SIZES | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_vision(**options):
    torch.manual_seed(0)
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=4)
    return VisionColumnformer(Columnformer(sheet, **(SIZES | options)), image_size=4, patch_size=2, num_classes=3)


def make_input(model, batch=2):
    shape = (model.inputs.numel(), batch, model.dim)
    shape = shape if model.inject != "sequence" else (model.steps, *shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def exact(model):
    """The same model in float64, by the reference."""
    other = copy.deepcopy(model).double()
    other.block.attention.backend = "reference"
    return other


def same(found, truth, tolerance=1e-4):
    torch.testing.assert_close(found.double(), truth.double(), rtol=tolerance, atol=tolerance)
