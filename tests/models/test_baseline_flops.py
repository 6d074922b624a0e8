"""FLOPs of baselines against formulas, by number of steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import colgraph as cg
from colgraph.models import ConvNet, RecurrentConvNet, VisionTransformer, count_flops

P, C, M, K, T = 16, 6, 10, 3, 4
SIZES = {"image_size": 8, "patch_size": 2, "in_channels": 2, "num_classes": K, "dim": C}
PATCHES = 2 * P * C * 2 * 2**2
VIT = 2 * P * C * (4 * C + 2 * M) + 4 * P * P * C  # projections, MLP, attention over all pairs
STACK = 2 * 2 * P * 9 * C * C
ONE = 2 * P * (9 * C * M + M * C)
TWO = ONE + 2 * P * 9 * C * C

CASES = [
    (lambda **o: VisionTransformer(**SIZES, depth=T, num_heads=2, mlp_dim=M, **o), VIT),
    (lambda **o: VisionTransformer(**SIZES, depth=T, num_heads=2, mlp_dim=M, tied_blocks=True, **o), VIT),
    (lambda **o: ConvNet(**SIZES, depth=T, readout="columns", **o), STACK),
    (lambda **o: ConvNet(**SIZES, depth=T, readout="columns", local=True, **o), STACK),
    (lambda **o: RecurrentConvNet(**SIZES, steps=T, mlp_dim=M, **o), ONE),
    (lambda **o: RecurrentConvNet(**SIZES, steps=T, mlp_dim=M, depth=2, **o), TWO),
]
IDS = ["vit", "tied-vit", "stack", "local-stack", "recurrent", "recurrent-two"]


@pytest.mark.parametrize("inject", ["first", "every"])
@pytest.mark.parametrize(("make", "block"), CASES, ids=IDS)
def test_a_block_counts_at_every_step(make, block, inject):
    net = make(inject=inject)
    head = 2 * C * K * (P if net.readout == "columns" else 1)
    for steps in (None, 1, 2, T):
        flops = count_flops(net, steps=steps)
        assert flops.forward == PATCHES + (steps or T) * block + head
        assert flops.training == 3 * flops.forward - PATCHES
    if net.recurs:
        assert count_flops(net, steps=3 * T).forward == PATCHES + 3 * T * block + head
    else:
        with pytest.raises(ValueError, match="steps must be at most 4, got 5"):
            count_flops(net, steps=5)


@pytest.mark.parametrize(("make", "block"), CASES[2:], ids=IDS[2:])
def test_training_as_it_is_run_is_what_is_counted(make, block):
    """Attention on the CPU aside, which torch's counter does not see."""
    net = make()
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(1, 2, 8, 8)).sum().backward()
    assert count_flops(net).training == counter.get_total_flops()


def test_answers_per_patch_and_larger_images():
    net = VisionTransformer(**SIZES, depth=T, num_heads=2, mlp_dim=M, readout="columns", position_embedding=False)
    assert count_flops(net).forward == PATCHES + T * VIT + 2 * P * C * K
    net = RecurrentConvNet(**SIZES, steps=T, mlp_dim=M, readout="columns")
    assert count_flops(net, (2, 16, 16)).training == 4 * count_flops(net).training


def test_a_sheet_counts_by_steps_too():
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:5", num_inputs=16)
    nets = {t: cg.VisionColumnformer(cg.Columnformer(sheet, dim=6, steps=t), 8, 2, 2, 3) for t in (4, 8)}
    assert count_flops(nets[4], steps=8) == count_flops(nets[8])
    assert count_flops(nets[4], steps=8).training == count_flops(nets[8]).training
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        count_flops(nets[4], steps=0)
    with pytest.raises(ValueError, match="a Sequential has no steps, got steps=2"):
        count_flops(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2), steps=2)
