"""Without gradients nothing is kept for a backward pass: the same numbers, in memory that does not grow with steps."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from colgraph import build_sheet
from colgraph.models import Columnformer

WAYS = [
    {},
    {"inject": "every", "leak": 0.2, "time_embedding": True},
    {"recompute": "steps"},
    {"recompute": "sqrt"},
    {"parametrization": "shared+difference"},
    {"value_projection": True},
    {"untied": "none"},
]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_the_same_numbers_as_with_gradients(options, context):
    torch.manual_seed(0)
    sheet = build_sheet("stack", widths=[3, 3], neighbors="knn:5")
    model = Columnformer(sheet, dim=12, qk_dim=5, mlp_dim=7, steps=5, **options)
    x = torch.randn(model.inputs.numel(), 3, model.dim)
    with_gradients = model.unroll(x, record=["state"])
    assert with_gradients.state.requires_grad
    with context():
        alone, unroll, state = model(x), model.unroll(x, record=["state"]), model.unroll(x).state
    assert torch.equal(alone, with_gradients.state)
    assert torch.equal(state, with_gradients.state)
    assert torch.equal(unroll.states, with_gradients.states)
    assert torch.equal(unroll.wiring_cost, with_gradients.wiring_cost)


# In a process of its own: only the most that a process ever held is known. A step's tape takes 5 MiB.
MEMORY = """
import contextlib, json, torch
import colgraph as cg
from colgraph.training.measure import peak_memory_bytes

def peak():
    return peak_memory_bytes(torch.device("cpu")) / 2**20

sheet = cg.build_sheet("grid", shape=(16, 16), num_inputs=64, neighbors="knn:8")
grown = {}
for way, context in (("no_grad", torch.no_grad), ("inference_mode", torch.inference_mode), ("gradients", None)):
    for name, options in (("untied", {}), ("difference", {"parametrization": "shared+difference"}),
                          ("tied", {"untied": "none"})):
        model = cg.Columnformer(sheet, dim=32, qk_dim=16, mlp_dim=64, steps=3, **options)
        x = torch.randn(model.inputs.numel(), 32, model.dim)
        with contextlib.nullcontext() if context is None else context():
            for _ in range(3):
                model(x)
            before = peak()
            model.steps = 43
            model(x)
        grown[f"{way}, {name}"] = peak() - before
print(json.dumps(grown))
"""


def test_memory_does_not_grow_with_steps():
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    grown = json.loads(result.stdout)
    assert grown.pop("gradients, untied") > 150, "or this test sees nothing"
    free = {way: mebibytes for way, mebibytes in grown.items() if not way.startswith("gradients")}
    assert len(free) == 6
    assert all(mebibytes < 12 for mebibytes in free.values()), free
