"""Parameters put in place of others, in another shape: never read by address."""

from __future__ import annotations

import pytest
import torch
from small_models import make, make_input
from torch import nn


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        ("mlp.fc1", (1, 11, 12)),
        ("mlp.fc1", (12, 4, 12)),
        ("attention.key", (12, 2, 12)),
        ("norm2", (12, 4)),
        ("mlp.fc2", None),
    ],
    ids=str,
)
@pytest.mark.parametrize("parametrization", ["plain", "shared+difference"])
def test_parameters_of_other_shapes_are_never_read_by_address(sheet, part, shape, parametrization):
    """Kernels would read beyond them. Torch says what does not fit, as on the plain path."""
    model = make(sheet, parametrization=parametrization, dim=12, num_heads=1, mlp_dim=7)
    of = model.block.get_submodule(part if parametrization == "plain" else f"{part}.difference")
    if shape is None:
        of.bias = None
    else:
        of.weight = nn.Parameter(torch.zeros(shape))
    with pytest.raises((RuntimeError, AttributeError, TypeError)):
        model(make_input(model))
    assert model._column_step == "plain (parameters of other shapes)"


def test_a_bias_of_other_edges_is_refused(sheet):
    model = make(sheet)
    model.block.attention.edge_bias = nn.Parameter(torch.zeros(10, model.block.attention.num_heads))
    with pytest.raises(ValueError, match=r"edge_bias must have shape \[E=\d+, H=\d\] for this layout, got \[10, \d\]"):
        model(make_input(model))
