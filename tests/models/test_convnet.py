"""The convolutional and the locally connected baseline, against torch's own convolutions written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from colgraph.models import ConvNet, count_flops


def net(**options: object) -> ConvNet:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 2, "in_channels": 2, "num_classes": 3, "dim": 4, "depth": 3}
    return ConvNet(**{**sizes, **options}).double()


def written_out(p: dict[str, torch.Tensor], images: torch.Tensor, halved: tuple[bool, ...]) -> torch.Tensor:
    """Pre-activation blocks with a shortcut of mean and 1 x 1; norm, mean, head."""

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        y = (y - y.mean((1, 2, 3), keepdim=True)) / (y.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        return F.gelu(y * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None])

    x = F.conv2d(images, p["patch_embedding.weight"], p["patch_embedding.bias"], 2)
    for i, halve in enumerate(halved):
        at = f"blocks.{i}"
        y = norm(x, f"{at}.norm1")
        y = F.conv2d(y, p[f"{at}.conv1.weight"], p[f"{at}.conv1.bias"], 2 if halve else 1, 1)
        y = F.conv2d(norm(y, f"{at}.norm2"), p[f"{at}.conv2.weight"], p[f"{at}.conv2.bias"], 1, 1)
        if halve:
            means = x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
            x = F.conv2d(means, p[f"{at}.shortcut.weight"], p[f"{at}.shortcut.bias"])
        x = x + y
    places = x.flatten(2).transpose(1, 2)
    normed = (places - places.mean(-1, keepdim=True)) / (places.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    features = normed * p["norm.weight"] + p["norm.bias"]
    return features.mean(1) @ p["head.weight"].T + p["head.bias"]


def test_a_convolutional_network_is_the_plain_formula() -> None:
    model, images = net(), torch.randn(2, 2, 16, 16, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    p = {name: value.detach() for name, value in model.named_parameters()}
    expected = written_out(p, images, (False, False, True))
    assert torch.allclose(model(images), expected, rtol=0, atol=1e-12)


def tied(convolutional: ConvNet, parametrization: str) -> ConvNet:
    """A locally connected network with the kernel of a convolution at every place."""
    local = net(local=True, parametrization=parametrization)
    state = {}
    for name, value in convolutional.state_dict().items():
        at = name.rpartition(".")[0]
        if ".conv" in at or "shortcut" in at:
            places = local.get_submodule(at).places.num_columns
            wide = value.flatten(1).expand(places, -1, -1) if value.dim() == 4 else value.expand(places, -1)
            state[name.replace(f"{at}.", f"{at}.places.")] = wide.clone()
        else:
            state[name] = value
    local.load_state_dict(state)
    return local


@pytest.mark.parametrize("parametrization", ["plain", "shared+difference"])
def test_one_kernel_at_every_place_is_a_convolution(parametrization: str) -> None:
    convolutional, images = net(), torch.randn(2, 2, 16, 16, dtype=torch.float64)
    local = tied(convolutional, parametrization)
    assert torch.allclose(local(images), convolutional(images), rtol=0, atol=1e-12)
    assert count_flops(local) == count_flops(convolutional)
    assert count_flops(local).training == count_flops(convolutional).training


def test_places_have_kernels_of_their_own() -> None:
    """What one place's kernel does is seen there alone."""
    local = net(local=True, depth=1)
    features, images = [], torch.randn(1, 2, 16, 16, dtype=torch.float64)
    local.blocks[0].register_forward_hook(lambda module, given, out: features.append(out))
    local(images)
    with torch.no_grad():
        local.blocks[0].conv2.places.weight[11] += 1
    local(images)
    changed = (features[0] != features[1]).any(1)[0]
    assert changed.nonzero().tolist() == [[1, 3]]
    first, second = local.blocks[0].conv1.places.weight[:2]
    assert not torch.equal(first, second)
    written = net(local=True, depth=1, parametrization="shared+difference").blocks[0].conv1.places
    assert not written.difference.weight.any()


@pytest.mark.parametrize(
    ("image_size", "patch_size", "depth", "sides"),
    [(8, 1, 2, [8, 4]), (32, 2, 5, [16, 16, 8, 8, 4]), (32, 4, 3, [8, 8, 4]), (9, 1, 2, [9, 9]), (32, 2, 1, [16])],
)
def test_stages_halve_the_side_down_to_four(image_size: int, patch_size: int, depth: int, sides: list[int]) -> None:
    model = ConvNet(image_size, patch_size, 3, 10, dim=4, depth=depth)
    seen: list[list[int]] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, out: seen.append(list(out.shape)))
    assert model(torch.zeros(1, 3, image_size, image_size)).shape == (1, 10)
    assert seen == [[1, 4 * sides[0] // side, side, side] for side in sides]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth must be an integer of at least 1, got 0"),
        ({"patch_size": 3}, "image_size 16 is not divisible by patch_size 3"),
        ({"parametrization": "shared"}, "parametrization must be one of 'plain', 'shared\\+difference', got 'shared'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(**options)
    with pytest.raises(ValueError, match=r"images must have shape \[B, 2, 16, 16\], got \[3, 2, 8, 8\]"):
        net()(torch.zeros(3, 2, 8, 8).double())
