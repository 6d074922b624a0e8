"""FLOPs by formula against torch's counter, which sees everything but the attention over edges."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import colgraph as cg
from colgraph.models.flops import count_flops


def vision(readout: str = "mean", neighbors: str = "knn:5", **options: object) -> cg.VisionColumnformer:
    sheet = cg.build_sheet("stack", widths=[4, 3, 2], neighbors=neighbors)
    model = cg.Columnformer(
        sheet, **{"dim": 12, "steps": 3, "qk_dim": 5, "mlp_dim": 7, "backend": "reference", **options}
    )
    return cg.VisionColumnformer(model, image_size=12, patch_size=3, in_channels=2, num_classes=6, readout=readout)


def counted(net: nn.Module, images: torch.Tensor) -> tuple[int, int]:
    """Forward, and forward and backward, as torch counts."""
    with FlopCounterMode(display=False) as counter:
        out = net(images)
        forward = counter.get_total_flops()
        out.sum().backward()
    return forward, counter.get_total_flops()


@pytest.mark.parametrize("readout", ["mean", "spatial"])
@pytest.mark.parametrize(
    "options", [{}, {"num_heads": 3, "value_projection": True}, {"untied": "none"}, {"inject": "every", "steps": 1}]
)
def test_formula_is_what_torch_counts_beside_attention(options: dict[str, object], readout: str) -> None:
    net = vision(readout, **options).double()
    flops = count_flops(net)
    forward, training = counted(net, torch.randn(1, 2, 12, 12, dtype=torch.float64))
    assert flops.forward - flops["attention"] == forward
    assert flops.training - 3 * flops["attention"] == training
    assert flops["attention"] > 0


def test_attention_over_all_pairs_is_what_the_dense_products_cost() -> None:
    """On the complete graph the edges are the N x N products that torch counts in a dense columnformer."""
    net = vision(neighbors="complete", num_heads=2)
    n, h, d, c, t = net.model.num_columns, 2, 5, 12, net.model.steps
    query, key = torch.randn(h, n, d), torch.randn(h, n, d)
    value = torch.randn(h, n, c // h)
    with FlopCounterMode(display=False) as counter:
        _ = (query @ key.transpose(1, 2)).softmax(-1) @ value
    assert count_flops(net)["attention"] == t * counter.get_total_flops()


def test_cost_is_linear_in_edges_and_the_same_for_tied_columns() -> None:
    few, many = (count_flops(vision(neighbors=f"knn:{k}"))["attention"] for k in (3, 7))
    assert many == 2 * few  # four and eight neighbors, the column itself among them
    assert count_flops(vision(untied="none")) == count_flops(vision())


class Classifier(nn.Module):
    """A plain transformer that takes images."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size, self.in_channels = 8, 3
        self.patches = nn.Conv2d(3, 16, 4, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("training", [True, False])
def test_other_models_are_counted_with_their_attention(training: bool) -> None:
    net = Classifier().train(training)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    flops = count_flops(net)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(p.grad is None for p in net.parameters())
    n, c, m = 4, 16, 32
    patches = 2 * n * c * 3 * 16
    layer = 2 * n * c * (3 * c + c + 2 * m) + 4 * n * n * c
    assert flops.forward == patches + 2 * layer + 2 * c * 5
    assert flops.training == 3 * flops.forward - patches


def test_unknown_image_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="image_shape"):
        count_flops(nn.Linear(3, 3))
    assert count_flops(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2)).forward == 72
