"""Options of models: one declaration, whoever holds it, and what older files call them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.options import OPTIONS_FORMAT, ColumnformerOptions, OptionError, VisionOptions, as_now, plain_value
from colgraph.training import TrainConfig


def sheet() -> cg.Sheet:
    return cg.build_sheet("grid", shape=(3, 3), neighbors="knn:4", num_inputs=4)


def test_the_signatures_are_the_declarations():
    """Spelled out for readers and editors; a new option has to be in both."""
    for model, declared, first in (
        (cg.Columnformer, ColumnformerOptions, "sheet"),
        (cg.VisionColumnformer, VisionOptions, "model"),
    ):
        taken = inspect.signature(model).parameters
        assert list(taken) == [first, *(item.name for item in dataclasses.fields(declared))]
        given = {name: each.default for name, each in taken.items() if name != first}
        assert declared(**given) == declared()


def test_a_model_holds_what_it_was_made_with():
    options = {"dim": 8, "steps": 3, "num_heads": 2, "qk_dim": 5, "mlp_dim": 7, "untied": ["mlp", "norm"]}
    options |= {"edge_bias": None, "inject": "every", "wiring_power": 2, "parametrization": "shared+difference"}
    model = cg.Columnformer(sheet(), **options)
    assert model.options == ColumnformerOptions(**{**options, "untied": "norm,mlp"})
    assert model.untied == ("norm", "mlp")
    assert (model.dim, model.steps, model.inject, model.wiring_power) == (8, 3, "every", 2.0)
    again = cg.Columnformer(model.sheet, **model.options.arguments())
    assert again.options == model.options
    assert model.to_plain().options == dataclasses.replace(model.options, parametrization="plain")
    assert pickle.loads(pickle.dumps(copy.deepcopy(model))).options == model.options


def test_what_is_set_on_a_model_is_in_its_options(tmp_path):
    net = cg.VisionColumnformer(cg.Columnformer(sheet(), dim=4, steps=2), 4, 2, 1, 3)
    net.model.steps, net.model.recompute = np.int64(5), "steps"
    assert (net.model.options.steps, net.model.options.recompute) == (5, "steps")
    pytest.importorskip("huggingface_hub")
    net.save_pretrained(tmp_path)
    images = torch.randn(2, 1, 4, 4)
    assert torch.equal(cg.VisionColumnformer.from_pretrained(tmp_path)(images), net(images))
    for name, value in (("steps", 0), ("inject", "last"), ("recompute", "step")):
        with pytest.raises(ValueError, match=name):
            setattr(net.model, name, value)
    with pytest.raises(AttributeError):
        net.model.dim = 8


class Louder(cg.VisionColumnformer):
    def classify(self, state):
        return 2 * super().classify(state)


def test_a_derived_class_comes_back_as_itself(tmp_path):
    pytest.importorskip("huggingface_hub")
    net = Louder(cg.Columnformer(sheet(), dim=4, steps=2), 4, 2, 1, 3)
    net.save_pretrained(tmp_path)
    images = torch.randn(2, 1, 4, 4)
    assert torch.equal(Louder.from_pretrained(tmp_path)(images), net(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": True}, "dim must be a whole number, got True"),
        ({"dim": "8"}, "dim must be a whole number, got '8'"),
        ({"edge_bias": "none"}, "edge_bias must be one of 'learned', 'fixed', None, got 'none'"),
        ({"locality_sigma": float("inf")}, "locality_sigma must be a finite number, got inf"),
        ({"time_embedding": "yes"}, "time_embedding must be true or false"),
        ({"untied": "norms"}, "did you mean 'norm'"),
        ({"untied": True}, "untied must be a text, got True"),
    ],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(OptionError, match=message) as error:
        ColumnformerOptions(**options)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_settings_hold_the_options_of_the_model():
    config = TrainConfig(data="digits", dim=12, num_heads=3, edge_bias="none", recompute=None, untied=["mlp"])
    assert config.arguments() == ColumnformerOptions(**config.arguments()).arguments()
    assert (config.edge_bias, config.recompute, config.untied) == (None, None, "mlp")
    assert TrainConfig.from_flat(config.flat()) == config
    assert next(iter(config.flat())) == "data"


def test_names_of_before():
    assert as_now({"heads": 4, "dim": 8}, 1) == as_now({"num_heads": 4, "dim": 8}) == {"num_heads": 4, "dim": 8}
    old = {"data": "digits", "heads": 4, "edge_bias": "none", "recompute": "none", "widths": [2, 2]}
    config = TrainConfig.from_flat(old)
    assert config == TrainConfig(data="digits", heads=4, edge_bias=None, options={"widths": [2, 2]})
    assert config.heads == config.num_heads == 4
    with pytest.raises(ValueError, match="num_heads is what heads means: give one of the two"):
        TrainConfig.from_flat({"heads": 4, "num_heads": 2})
    with pytest.raises(ValueError, match="num_heads is what heads means"):
        dataclasses.replace(config, heads=2)
    for later in (OPTIONS_FORMAT + 1, None, "1"):
        with pytest.raises(ValueError, match=f"format {later!r} of options; this version of colgraph reads up to"):
            as_now({}, later)


def test_flags_and_files_of_before(tmp_path):
    from colgraph.training import parse_flags

    file = tmp_path / "old.yaml"
    file.write_text("data: digits\nimage_size: 8\nheads: 4\nedge_bias: none\n")
    config, _ = parse_flags(["--config", str(file)])
    assert (config.num_heads, config.edge_bias) == (4, None)
    base = tmp_path / "new.yaml"
    base.write_text("base: old.yaml\nnum_heads: 8\n")
    assert parse_flags(["--config", str(base)])[0].num_heads == 8
    for flag in ("--heads", "--num-heads"):
        assert parse_flags(["--config", str(base), flag, "2"])[0].num_heads == 2


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.001), 0.001),
        (np.longdouble(2), 2.0),
        (np.array([[1, 2]]), [[1, 2]]),
        (torch.tensor(3), 3),
        ((np.bool_(True), np.str_("a")), [True, "a"]),
        ({"a": np.int8(1)}, {"a": 1}),
    ],
)
def test_plain_values(value, plain):
    assert plain_value(value) == plain
    assert type(plain_value(value)) is type(plain)
