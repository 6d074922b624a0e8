"""From settings to sheets and models: inputs, outputs, patches, reach, and the groups of the optimizer."""

from __future__ import annotations

import dataclasses
import math
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import colgraph as cg
from colgraph.geometry import register_geometry
from colgraph.models.reach import steps_to_reach
from colgraph.sheet import Sheet
from colgraph.training import TrainConfig, make_model, make_sheet, unreached_outputs

SMALL = {"dim": 8, "steps": 3, "qk_dim": 4, "mlp_dim": 4, "image_size": 8, "channels": 1, "neighbors": None}


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})  # type: ignore[arg-type]


def test_stack_names_its_inputs_and_outputs_and_the_patch_size_follows() -> None:
    sheet = make_sheet(config(options={"widths": [4, 3, 2]}))
    assert sheet.inputs.tolist() == list(range(16))
    assert sheet.outputs.tolist() == list(range(25, 29))
    net = make_model(config(), sheet, num_classes=5)
    assert net.patch_size == 2
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


def test_other_geometries_get_one_input_per_patch_and_read_all_columns() -> None:
    sheet = make_sheet(config(geometry="sphere", options={"subdivisions": 2}, patch_size=2, steps=12))
    assert sheet.inputs.numel() == 16
    assert sheet.outputs.numel() == sheet.num_columns == 162
    lowest = sheet.pos[:, 2].argsort(stable=True)[:16]
    assert float(sheet.pos[sheet.inputs, 2].max()) <= float(sheet.pos[lowest, 2].max()) + 1e-6


def test_only_columns_that_hear_the_input_are_read_out_by_default() -> None:
    ball = {"geometry": "sphere", "options": {"subdivisions": 3}, "patch_size": 2, "steps": 3}
    with pytest.warns(
        UserWarning, match=r"of 642 columns of 'sphere' are read out.*--steps \d+ lets all.*--num-outputs"
    ):
        sheet = make_sheet(config(**ball))
    when = steps_to_reach(sheet)
    assert sheet.output_mask.tolist() == ((when >= 0) & (when <= 3)).tolist()
    assert 16 < sheet.outputs.numel() < 642
    assert unreached_outputs(sheet, 3) == 0
    last = int(when.max())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model(config(**ball), sheet, 5)
        assert make_sheet(config(**ball | {"steps": last})).outputs.numel() == 642
        chosen = [
            make_sheet(config(**ball, **told))
            for told in ({"num_outputs": 600}, {"outputs": "all"}, {"outputs": "0-9"})
        ]
    assert [sheet.outputs.numel() for sheet in chosen] == [600, 642, 10]
    late = int(((when < 0) | (when > 3)).sum())
    with pytest.warns(UserWarning, match=rf"{late} of 642 output columns of 'sphere' cannot know .* within 3 steps"):
        make_model(config(**ball, outputs="all"), chosen[1], 5)


def test_columns_that_never_hear_are_said_to_be_so() -> None:
    edges = torch.tensor([[0, 1, 3], [1, 2, 4]])
    islands = Sheet.from_edges(edges, 5, pos=torch.arange(15.0).reshape(5, 3)).to_networkx()
    for data in islands.nodes.values():
        del data["output"]
    with pytest.warns(UserWarning, match=r"2 of 5 columns .*within 1 steps \(--steps 2 lets all but 2 hear it"):
        sheet = _of_graph(islands, steps=1)
    assert sheet.outputs.tolist() == [0, 1]
    with pytest.warns(UserWarning, match=r"3 of 5 columns .* \(no number of steps does"):
        assert _of_graph(islands, steps=2).outputs.tolist() == [0, 1, 2]


def _of_graph(graph: object, steps: int) -> Sheet:
    shape = cg.geometry(graph, weight=None)
    register_geometry("islands-of-this-test")(lambda: shape)
    return make_sheet(config(geometry="islands-of-this-test", image_size=8, patch_size=8, inputs="0", steps=steps))


def test_inputs_and_outputs_are_settings(tmp_path: Path) -> None:
    np.save(tmp_path / "v1.npy", np.arange(64) % 4 == 0)
    ring = {"geometry": "ring", "options": {"columns": 64}, "outputs": "60-63"}
    sheet = make_sheet(config(**ring, inputs=str(tmp_path / "v1.npy")))
    assert sheet.inputs.tolist() == list(range(0, 64, 4))
    assert sheet.outputs.tolist() == [60, 61, 62, 63]
    assert make_sheet(config(**ring, inputs=[9, 8, 7, 3])).inputs.tolist() == [9, 8, 7, 3]  # a list of a YAML file
    assert make_model(config(**ring), sheet, 5).patch_size == 2
    with pytest.raises(ValueError, match="image_size 8 cannot be cut into 3 square patches"):
        make_sheet(config(**ring, inputs="1,2,3"))
    for twice in ({"inputs": "0-15", "num_inputs": 16}, {"num_outputs": 3, "inputs": "0-15"}):
        with pytest.raises(ValueError, match="not both"):
            make_sheet(config(**ring, **twice))


def test_patch_size_grows_until_the_columns_suffice() -> None:
    assert make_sheet(config(geometry="ring", options={"columns": 64})).inputs.numel() == 64
    assert make_sheet(config(geometry="ring", options={"columns": 63})).inputs.numel() == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": "ring", "options": {"columns": 10}, "patch_size": 2}, "16 patches.*10 columns.*--patch-size 4"),
        (
            {"options": {"widths": [4, 4]}, "patch_size": 1},
            "64 patches.*16 input columns of 'stack': give --patch-size 2",
        ),
        ({"options": {"widths": [3, 3]}}, "image_size 8 cannot be cut into 9 square patches"),
        ({"geometry": "ring", "image_size": 12}, "image_size 12 is not divisible by 8"),
        ({"geometry": "rin"}, "unknown geometry 'rin'.*'ring'"),
        ({"neighbors": "knn:99", "options": {"widths": [4, 4]}}, "99"),
        ({"geometry": "ring", "num_inputs": 300, "patch_size": 2}, "num_inputs"),
    ],
)
def test_what_cannot_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sheet(config(**changes))


def chain(n: int, outputs: list[int]) -> Sheet:
    edges = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    return Sheet.from_edges(edges, n, inputs=[0], outputs=outputs)


def test_reach_counts_steps_along_edges() -> None:
    assert steps_to_reach(chain(5, [4])).tolist() == [0, 1, 2, 3, 4]
    backwards = Sheet.from_edges(torch.tensor([[2, 1], [1, 0]]), 3, inputs=[0])
    assert steps_to_reach(backwards).tolist() == [0, -1, -1]


def test_outputs_that_cannot_know_of_the_input_are_counted_or_refused() -> None:
    assert unreached_outputs(chain(5, [2, 4]), steps=3) == 1
    assert unreached_outputs(chain(5, [2, 4]), steps=4) == 0
    with pytest.raises(ValueError, match="nearest needs 4 steps"):
        unreached_outputs(chain(5, [4]), steps=3)
    with pytest.raises(ValueError, match="no path leads there"):
        unreached_outputs(Sheet.from_edges(torch.tensor([[1], [0]]), 2, inputs=[0], outputs=[1]), steps=9)


def test_reach_is_what_the_gradient_says() -> None:
    settings = config(options={"widths": [2, 2, 2, 2], "direction": "forward"}, patch_size=4, steps=3)
    sheet = make_sheet(settings)
    assert unreached_outputs(sheet, 3) == 0
    with pytest.raises(ValueError, match="needs 3 steps"):
        unreached_outputs(sheet, 2)
    images = torch.rand(1, 1, 8, 8, requires_grad=True)
    make_model(settings, sheet, 3)(images).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def test_decay_spares_norms_biases_embeddings_and_edge_biases() -> None:
    pytest.importorskip("lightning")
    from colgraph.training.module import parameter_groups

    settings = config(options={"widths": [4, 4]}, time_embedding=True, value_projection=True, readout="spatial")
    net = make_model(settings, make_sheet(settings), 5)
    decayed, kept = parameter_groups(net, dataclasses.replace(settings, weight_decay=0.1))
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        "patch_embedding.weight",
        "head.weight",
        *(f"model.block.attention.{part}.weight" for part in ("query", "key", "value", "output")),
        *(f"model.block.mlp.{part}.weight" for part in ("fc1", "fc2")),
    }
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_parametrization_reaches_the_model_and_norms_are_spared_there_too() -> None:
    pytest.importorskip("lightning")
    from colgraph.training.module import parameter_groups

    settings = config(options={"widths": [4, 4]}, parametrization="shared+difference")
    net = make_model(settings, make_sheet(settings), 5)
    assert net.model.parametrization == "shared+difference"
    decayed, _ = parameter_groups(net, settings)
    names = {id(p): name for name, p in net.named_parameters()}
    parts = ("attention.query", "attention.key", "mlp.fc1", "mlp.fc2")
    assert {names[id(p)] for p in decayed["params"]} == {
        "patch_embedding.weight",
        "head.weight",
        *(f"model.block.{part}.{kind}.weight" for part in parts for kind in ("shared", "difference")),
    }


def test_schedule_warms_up_linearly_and_ends_at_zero() -> None:
    pytest.importorskip("lightning")
    from colgraph.training.module import schedule_factor

    factors = [schedule_factor(step, warmup=10, total=110) for step in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0.0)
    assert schedule_factor(50, warmup=0, total=100) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert all(later <= earlier for earlier, later in pairwise(factors[10:]))


def test_a_speed_is_checked_on_the_sheet_and_decides_what_knows_of_the_input() -> None:
    layers = {"options": {"widths": [4, 4]}, "steps": 4, "neighbors": "knn:6"}
    with pytest.raises(ValueError, match=r"^speed: 0\.1 delays the longest edge, .* steps, and there are 4: ") as error:
        make_sheet(config(**layers, speed=0.1))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"^speed: 1 delays edges by up to \d steps, .*--sheet-parallel 1"):
        make_sheet(config(**layers, speed=1.0, sheet_parallel=2))
    assert make_sheet(config(**layers, speed=1e6, sheet_parallel=2)).num_columns == 32
    ball = {"geometry": "sphere", "options": {"subdivisions": 3}, "patch_size": 2, "steps": 4}
    with pytest.warns(UserWarning, match="are read out"):
        plain, slow = (make_sheet(config(**ball, speed=speed)) for speed in (None, 0.1))
    assert slow.outputs.numel() < plain.outputs.numel()
    when = steps_to_reach(slow, 0.1)
    assert slow.output_mask.tolist() == ((when >= 0) & (when <= 4)).tolist()
