"""Tied parameters on another sheet: the model that would have been built there, to the bit; others are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import colgraph as cg

TIED: dict[str, Any] = {"untied": "none", "position_embedding": False, "edge_bias": "fixed", "inject": "every"}


def grid(side: int, neighbors: str = "knn:5") -> cg.Sheet:
    return cg.build_sheet("grid", shape=(side, side), neighbors=neighbors, num_inputs=side**2)


def vision(sheet: cg.Sheet, side: int, readout: str = "columns", **options: Any) -> cg.VisionColumnformer:
    torch.manual_seed(0)
    model = cg.Columnformer(sheet, **({"dim": 6, "steps": 3, "num_heads": 2, "qk_dim": 3, "mlp_dim": 5} | options))
    return cg.VisionColumnformer(model, 2 * side, 2, 1, 3, readout=readout)


@pytest.mark.parametrize(
    "options", [TIED, TIED | {"edge_bias": None, "value_projection": True, "time_embedding": True, "leak": 0.2}]
)
def test_a_tied_model_on_a_larger_sheet_is_the_one_that_is_built_there(options: dict[str, Any]) -> None:
    small, larger = vision(grid(4), 4, **options).eval(), grid(7)
    found, built = small.on_sheet(larger, 14), vision(larger, 7, **options).eval()
    own = dict(built.named_parameters())
    with torch.no_grad():
        for name, value in small.named_parameters():
            own[name].copy_(value)
    assert list(found.state_dict()) == list(built.state_dict())
    assert all(torch.equal(value, built.state_dict()[name]) for name, value in found.state_dict().items())
    images = torch.randn(2, 1, 14, 14)
    assert torch.equal(found(images), built(images))
    assert found(images).shape == (2, 49, 3)
    assert not found.training
    with torch.no_grad():
        next(found.parameters()).add_(1.0)
    assert not torch.equal(next(found.parameters()), next(small.parameters()))


def test_on_the_same_sheet_a_model_is_itself_and_draws_nothing() -> None:
    net = vision(grid(4), 4, **TIED)
    net.match_patches(-net.model.sheet.pos[torch.randperm(16)])
    net.about = {"classes": ["a"], "scores": {"test_accuracy": 1.0}}
    before = torch.get_rng_state()
    again = net.on_sheet(net.model.sheet)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(net(images), again(images))
    assert again.about == {"classes": ["a"]}


def test_dtype_mode_steps_and_what_learns_go_along() -> None:
    net = vision(grid(4), 4, **TIED | {"time_embedding": True}).double().eval()
    net.model.steps = 5
    net.patch_embedding.requires_grad_(False)
    other = net.on_sheet(grid(5), 10)
    assert other.model.steps == 5
    assert len(other.model.time_embedding) == 3
    assert not other.patch_embedding.weight.requires_grad
    assert other(torch.randn(1, 1, 10, 10, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"position_embedding": True}, "position_embedding"),
        ({"edge_bias": "learned"}, "block.attention.edge_bias"),
        ({"untied": "norm"}, "block.norm1.weight"),
        ({"untied": "attention"}, "block.attention.query.weight"),
        ({"untied": "mlp"}, "block.mlp.fc1.weight"),
        ({"untied": "mlp", "parametrization": "shared+difference"}, "block.mlp.fc1.difference.weight"),
    ],
)
def test_what_belongs_to_a_place_is_refused_by_name_on_a_sheet_of_the_same_size_too(
    options: dict[str, Any], first: str
) -> None:
    net = vision(grid(4), 4, **TIED | options)
    for sheet in (grid(4), grid(5)):
        with pytest.raises(ValueError, match=f"^on_sheet: {first} belongs to the columns or edges"):
            net.model.on_sheet(sheet)
        with pytest.raises(ValueError, match=f"^on_sheet: model.{first} belongs to"):
            net.on_sheet(sheet, 2 * int(sheet.num_columns**0.5))


def test_a_spatial_readout_and_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^on_sheet: pool belongs to"):
        vision(grid(4), 4, readout="spatial", **TIED).on_sheet(grid(5), 10)
    with pytest.raises(ValueError, match="gives 16 patches, but the sheet has 25 input columns"):
        vision(grid(4), 4, **TIED).on_sheet(grid(5))


@pytest.mark.parametrize("options", [{"inject": "first", "position_embedding": True}, {"time_embedding": True}, {}])
def test_answers_after_numbers_of_steps_are_those_of_running_so_long(options: dict[str, Any]) -> None:
    pytest.importorskip("lightning")
    from colgraph.experiments.by_task import answers_after
    from colgraph.tasks import Question

    net = vision(grid(4), 4, **TIED | {"leak": 0.1, "steps": 6} | options).eval()
    question = Question(torch.randn(2, 1, 8, 8), None)
    for number, said in answers_after(net, question, [1, 4, 6]):
        assert torch.allclose(said, net.unroll(question.images, steps=number).logits, atol=1e-6)
    ((_, said),) = answers_after(net, question, [None])
    assert torch.equal(said, net(question.images))


def test_sheet_of_a_model_is_not_replaced():
    """Its layout, its costs and its fingerprint would stay those of the sheet before."""
    net = vision(grid(4), 4)
    with pytest.raises(AttributeError, match=r"^a model keeps its sheet: model\.on_sheet\(other\) makes a model on"):
        net.model.sheet = grid(5)
    assert net.model.sheet.num_columns == 16
