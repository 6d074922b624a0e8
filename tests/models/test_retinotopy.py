"""Several columns for each patch: compact groups that keep the map, and what each column of a group gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import colgraph as cg
from colgraph.models import count_flops
from colgraph.models.retinotopy import assign_patches, number_in_patch, patches_of_outputs


def vision(shape: tuple[int, int] = (4, 4), inputs: int = 16, **options: Any) -> cg.VisionColumnformer:
    torch.manual_seed(0)
    sheet = cg.build_sheet("grid", shape=shape, neighbors="knn:5", num_inputs=inputs)
    model = cg.Columnformer(sheet, dim=6, steps=2, qk_dim=4, mlp_dim=5, backend="reference")
    sizes = {"image_size": 8, "patch_size": 4, "in_channels": 2, "num_classes": 3, "columns_per_patch": 4}
    return cg.VisionColumnformer(model, **{**sizes, **options})


def square(side: int) -> np.ndarray:
    down, right = np.divmod(np.arange(side * side), side)
    return np.stack([down, right, np.zeros(side * side)], 1).astype(float)


def disc(count: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).uniform(-1, 1, (4 * count, 2))
    points = points[np.hypot(*points.T) < 1][:count]
    return np.concatenate([points, np.zeros((count, 1))], 1)


@pytest.mark.parametrize("size", [4, 9])
def test_groups_of_a_grid_are_its_squares(size: int) -> None:
    side = int(size**0.5)
    found = assign_patches((3, 3), square(3 * side)).reshape(3 * side, 3 * side)
    assert np.array_equal(found, np.arange(9).reshape(3, 3).repeat(side, 0).repeat(side, 1))


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_every_patch_gets_as_many_columns_each_with_a_number_of_its_own(
    rows: int, columns: int, size: int, seed: int
) -> None:
    positions = np.random.default_rng(seed).normal(size=(rows * columns * size, 3))
    patch = assign_patches((rows, columns), positions)
    vector = patch * size + number_in_patch(patch, positions)
    assert np.bincount(patch, minlength=rows * columns).tolist() == [size] * (rows * columns)
    assert sorted(vector) == list(range(len(positions)))


# Up to 1,024 columns by an assignment, beyond by strips.
@pytest.mark.parametrize("size", [4, 24])
def test_groups_are_compact_and_neighboring_patches_have_neighboring_ones(size: int) -> None:
    positions = disc(64 * size)
    patch = assign_patches((8, 8), positions)
    center = np.stack([positions[patch == p].mean(0) for p in range(64)])
    spread = np.sqrt(((positions - center[patch]) ** 2).sum(1).mean())
    # Columns of a square of the same area lie within this distance of its middle.
    assert spread < 1.5 * np.sqrt(np.pi / 64 / 6)
    place = center.reshape(8, 8, 3)
    step = np.concatenate([np.linalg.norm(np.diff(place, axis=axis), axis=-1).ravel() for axis in (0, 1)])
    assert np.median(step) < 1.3 * np.sqrt(np.pi / 64)
    # Rows go one way on the sheet and columns across, everywhere.
    down, right = np.diff(place, axis=0).mean((0, 1)), np.diff(place, axis=1).mean((0, 1))
    assert abs(down @ right) < 0.1 * np.linalg.norm(down) * np.linalg.norm(right)
    turned = [(np.diff(place, axis=axis) @ mean > 0).mean() for axis, mean in ((0, down), (1, right))]
    assert min(turned) == 1


def test_a_map_lies_in_one_place_of_every_group() -> None:
    positions = square(8)
    patch = assign_patches((4, 4), positions)
    number = number_in_patch(patch, positions).reshape(8, 8)
    assert np.array_equal(number, np.tile([[0, 1], [2, 3]], (4, 4)))
    moved = np.random.default_rng(0).permutation(64)
    patch = assign_patches((4, 4), positions[moved])
    assert np.array_equal(number_in_patch(patch, positions[moved]), number.ravel()[moved])


def test_every_column_of_a_group_gets_a_linear_map_of_its_patch() -> None:
    net, images = vision(), torch.randn(3, 2, 8, 8)
    assert net.patch_embedding.weight.shape == (4 * 6, 2, 4, 4)
    pixels = net.patch_pixels(images)
    assert torch.equal(pixels, F.unfold(images, 4, stride=4).transpose(1, 2))
    weight = net.patch_embedding.weight.view(4, 6, -1)
    found = net.embed(images)
    for column, vector in enumerate(net.input_vectors.tolist()):
        patch, number = divmod(vector, 4)
        assert patch == net.assignment[column]
        bias = net.patch_embedding.bias.view(4, 6)[number]
        torch.testing.assert_close(found[column], pixels[:, patch] @ weight[number].T + bias)
    assert sorted(net.input_vectors.tolist()) == list(range(16))


def test_hidden_patches_are_hidden_from_all_their_columns() -> None:
    net, images = vision(mask_token=True), torch.randn(2, 2, 8, 8)
    hidden = torch.tensor([[True, False, False, False], [False, False, True, True]])
    with torch.no_grad():
        net.mask_token.copy_(torch.arange(6.0))
    found, seen = net.embed(images, hidden), net.embed(images)
    gone = hidden.T[net.assignment]
    assert torch.equal(found[gone], net.mask_token.expand(int(gone.sum()), -1))
    assert torch.equal(found[~gone], seen[~gone])
    assert int(gone.sum()) == 3 * 4


def test_patches_overlap_by_their_stride() -> None:
    net, images = vision(inputs=9, columns_per_patch=1, patch_stride=2), torch.randn(3, 2, 8, 8)
    assert net.grid == (3, 3)
    pixels = net.patch_pixels(images)
    for patch in range(9):
        row, column = divmod(patch, 3)
        cut = images[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        assert torch.equal(pixels[:, patch], cut.flatten(1))
    embedding = net.patch_embedding
    vectors = pixels @ embedding.weight.flatten(1).T + embedding.bias
    torch.testing.assert_close(net.embed(images), vectors.transpose(0, 1)[net.assignment])
    assert net.pixel_patches()[0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("more", [{}, {"columns_per_patch": 1, "patch_stride": 2}])
def test_flops_are_those_of_the_convolution(more: dict[str, Any]) -> None:
    net = vision(inputs=9 if more else 16, **more)
    channels, patches = (6, 9) if more else (24, 4)
    assert count_flops(net)["patch_embedding"] == 2 * patches * channels * 2 * 4 * 4


def test_output_columns_answer_for_the_patches_of_their_groups() -> None:
    layers = np.concatenate([square(4), square(4) + np.array([0, 0, 1])])
    inputs, outputs = np.arange(16), np.arange(16, 32)
    seen = assign_patches((2, 2), layers[inputs])
    assert np.array_equal(patches_of_outputs((2, 2), layers, (inputs, outputs), seen), seen)
    assert np.array_equal(patches_of_outputs((2, 2), layers, (inputs, inputs[::-1]), seen), seen[::-1])
    assert patches_of_outputs((2, 2), layers, (inputs, outputs[:15]), seen).size == 0


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (40, 30)])
@pytest.mark.parametrize("order", range(3))
def test_output_columns_answer_for_the_patches_below_them_in_whatever_order(grid: tuple[int, int], order: int) -> None:
    rng = np.random.default_rng(order)
    number = grid[0] * grid[1]
    row, column = np.divmod(np.arange(number), grid[1])
    layer = np.stack([column, row, np.zeros(number)], 1) + 0.05 * rng.normal(size=(number, 3))
    below, above = rng.permutation(number), rng.permutation(number)
    positions = np.concatenate([layer[below], layer[above] + np.array([9.0, 0, 5])])
    ends = (np.arange(number), number + np.arange(number))
    seen = assign_patches(grid, positions[ends[0]])
    answered = patches_of_outputs(grid, positions, ends, seen)
    by_place = np.empty(number, np.int64)
    by_place[below] = seen
    assert np.array_equal(answered, by_place[above])


def test_shuffled_positions_leave_maps_with_their_columns() -> None:
    net = vision()
    before, order = net.input_vectors.clone(), torch.randperm(16, generator=torch.Generator().manual_seed(1))
    net.match_patches(net.model.sheet.pos[order])
    assert not torch.equal(net.input_vectors, before)
    net.match_patches(net.model.sheet.pos)
    assert torch.equal(net.input_vectors, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns_per_patch": 0}, "columns_per_patch must be at least 1"),
        (
            {"columns_per_patch": 3},
            r"4 patches of 3 columns each, but the sheet has 16 .*num_inputs=12\), or .*columns_per",
        ),
        ({"patch_stride": 3}, "patch_stride 3 does not lead patches of 4 px over all of 8 x 8 px: 1, 2, 4 do"),
        ({"patch_stride": 8}, "patch_stride 8 does not lead"),
        ({"patch_stride": 2, "image_size": (8, 9)}, "patch_stride 2 does not lead .* 8 x 9 px: 1 does"),
        ({"patch_stride": 2, "patch_size": 9}, "patch_size 9 is larger than the image of 8 x 8"),
        ({"patch_stride": 2}, "patch_size 4 and patch_stride 2 gives 9 patches of 4 columns each, .*num_inputs=36"),
        (
            {"sampling": "polar"},
            "sampling must be one of 'uniform', 'log-polar', got 'polar'; did you mean 'log-polar'",
        ),
        ({"fixation": "0,0"}, "fixation needs sampling='log-polar'"),
        (
            {"fixation": (0.5, 1.5), "sampling": "log-polar"},
            "fixation must be shares .* such as 0.5,0.5, got '0.5,1.5'",
        ),
        ({"fixation": "middle", "sampling": "log-polar"}, "fixation must be shares"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vision(**options)
