"""What docs/other-tools.md says of captum, where it is installed."""

from __future__ import annotations

import pytest
import torch

import colgraph as cg
from colgraph import analysis as an


def test_attributions_of_logits_and_features() -> None:
    attr = pytest.importorskip("captum.attr")
    sheet = cg.build_sheet("stack", widths=[2, 2], neighbors="knn:4", num_inputs=4)
    net = cg.VisionColumnformer(cg.Columnformer(sheet, dim=8, steps=2), 8, 4, 1, 3).eval()
    pixels = torch.randn(2, 1, 8, 8)
    found = attr.IntegratedGradients(net).attribute(pixels, target=1, n_steps=200)
    assert found.shape == pixels.shape
    # The integral of a gradient is the difference of its ends (completeness).
    ends = net(pixels)[:, 1] - net(torch.zeros_like(pixels))[:, 1]
    torch.testing.assert_close(found.sum((1, 2, 3)).float(), ends.detach(), atol=1e-2, rtol=1e-2)
    plain = an.FeatureExtractor(net, regions="layers")
    layer = attr.LayerActivation(plain, plain.get_submodule("step2.layer1")).attribute(pixels)
    torch.testing.assert_close(layer, plain.features(pixels)["step2.layer1"])
