"""A record says what ran: the network's own sizes and sheet, and what no setting describes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("sklearn")

import colgraph as cg
from colgraph.cli import run as command
from colgraph.data import load_images
from colgraph.data.sources import ImageSplits
from colgraph.models import VisionTransformer
from colgraph.report.loading import load_run
from colgraph.training import RunFlags, RunFolder, TrainConfig, load_trained, make_model, make_sheet, parse_flags, train
from colgraph.training.checkpoint import config_of, pack_run, unpack_sheet
from colgraph.training.measure import parameters_sha256
from colgraph.training.module import TaskModule
from colgraph.training.resume import RunRecord, read_record
from colgraph.training.yaml_files import load_yaml, save_yaml

LOOP: dict[str, Any] = {
    "data": "digits",
    "image_size": 8,
    "channels": 1,
    "augment": "none",
    "epochs": 1,
    "batch_size": 256,
    "tensorboard": False,
    "figure_every": 0,
    "wiring": 0.01,
}


@pytest.fixture(scope="module")
def images() -> ImageSplits:
    return load_images("digits", image_size=8, channels=1)


def own_net(sheet: cg.Sheet | None = None, **options: Any) -> cg.VisionColumnformer:
    sheet = sheet or cg.build_sheet("sphere", subdivisions=1, neighbors=cg.KNN(6), num_inputs=16)
    model = cg.Columnformer(sheet, **{"dim": 12, "steps": 3, "num_heads": 2, "qk_dim": 5, "mlp_dim": 7, **options})
    return cg.VisionColumnformer(model, 8, 2, 1, 10, readout="spatial")


def test_a_network_of_ones_own_is_recorded_as_it_is(images: ImageSplits, tmp_path: Path) -> None:
    net = own_net(untied="mlp", edge_bias="fixed", wiring_power=2.0, inject="every")
    summary = train(net, images, TrainConfig(**LOOP), tmp_path / "run")
    record = read_record(tmp_path / "run" / "config.yaml")
    config = record.config
    assert (config.dim, config.steps, config.heads, config.qk_dim, config.mlp_dim) == (12, 3, 2, 5, 7)
    assert (config.untied, config.edge_bias, config.inject, config.readout) == ("mlp", "fixed", "every", "spatial")
    assert (config.geometry, config.patch_size, config.num_inputs) == ("sphere", 2, 16)
    assert list(record.own) == ["sheet"] == summary["own"]
    assert config.wiring_power == 2
    # What reads it gets the network, with its sheet and its cost of wires.
    loaded = load_trained(tmp_path / "run").net
    assert parameters_sha256(loaded) == parameters_sha256(net)
    assert torch.equal(loaded.model.edge_cost, net.model.edge_cost)
    command(["evaluate", str(tmp_path / "run")])
    assert load_run(tmp_path / "run").sheet.fingerprint == net.model.sheet.fingerprint
    # And no settings claim to train it again.
    with pytest.raises(ValueError, match=r"whose sheet came from Python"):
        parse_flags(["--config", str(tmp_path / "run" / "config.yaml")])
    again = own_net(untied="mlp", edge_bias="fixed", wiring_power=2.0, inject="every")
    assert train(again, images, TrainConfig(**LOOP), RunFolder(tmp_path / "run", resume=True))["changes"] == []


def test_what_settings_describe_is_recorded_as_theirs_however_it_was_made(images: ImageSplits, tmp_path: Path) -> None:
    options = {"neighbors": "knn:6", "dim": 12, "steps": 3, "heads": 2, "qk_dim": 5, "mlp_dim": 7, "readout": "spatial"}
    config = TrainConfig(**LOOP, geometry="sphere", options={"subdivisions": 1}, num_inputs=16, seed=3, **options)
    torch.manual_seed(3)
    first = train(own_net(), images, config, tmp_path / "run")
    assert first["own"] == []
    again, flags = parse_flags(["--config", str(tmp_path / "run" / "config.yaml"), "--out", str(tmp_path / "again")])
    net = make_model(again, make_sheet(again), 10)
    second = train(net, images, again, RunFolder(flags.out or tmp_path))
    assert second["parameters_sha256"] == first["parameters_sha256"]


def test_parameters_that_no_seed_draws_are_said(images: ImageSplits, tmp_path: Path) -> None:
    config = TrainConfig(**LOOP, options={"widths": [2, 2]}, neighbors="knn:4", dim=8, steps=2, qk_dim=4, mlp_dim=8)
    net = make_model(config, make_sheet(config), 10)
    nn.init.constant_(net.head.bias, 0.5)
    assert train(net, images, config, tmp_path / "run")["own"] == ["parameters at the start"]
    with pytest.raises(ValueError, match="whose parameters at the start came from Python"):
        parse_flags(["--config", str(tmp_path / "run" / "config.yaml")])


class Louder(cg.VisionColumnformer):
    def classify(self, state: torch.Tensor) -> torch.Tensor:
        return 2 * super().classify(state)


def test_a_class_of_ones_own_is_said_and_not_taken_for_another(images: ImageSplits, tmp_path: Path) -> None:
    sheet = cg.build_sheet("stack", widths=[2, 2], neighbors="knn:4", num_inputs=4)
    net = Louder(cg.Columnformer(sheet, dim=8, steps=2), 8, 4, 1, 10)
    summary = train(net, images, TrainConfig(**LOOP), tmp_path / "run")
    assert summary["own"][0].endswith(".Louder")
    for words in (["evaluate", str(tmp_path / "run")], ["analyze", str(tmp_path / "run")]):
        with pytest.raises(ValueError, match=r"has trained a network of class .*Louder, which only its own code"):
            command(words)
    changed = own_net()
    changed.head = nn.Sequential(changed.head)  # type: ignore[assignment]
    train(changed, images, TrainConfig(**LOOP), tmp_path / "changed")
    with pytest.raises(ValueError, match="a network with another head, which only its own code can make"):
        load_trained(tmp_path / "changed")


def test_a_vit_of_ones_own(images: ImageSplits, tmp_path: Path) -> None:
    net = VisionTransformer(8, 2, 1, 10, dim=12, depth=2, num_heads=3, mlp_dim=9)
    train(net, images, TrainConfig(**LOOP), tmp_path / "run")
    config = read_record(tmp_path / "run" / "config.yaml").config
    assert (config.model, config.dim, config.depth, config.heads, config.mlp_dim) == ("vit", 12, 2, 3, 9)
    assert parameters_sha256(load_trained(tmp_path / "run").net) == parameters_sha256(net)


def test_what_is_no_vision_model_is_refused(images: ImageSplits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes a VisionColumnformer or a baseline of colgraph.models, got Linear"):
        train(nn.Linear(2, 2), images, TrainConfig(**LOOP), tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes films"):
        train(own_net(inject="sequence"), images, TrainConfig(**LOOP), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_never_takes_over_a_run(images: ImageSplits, tmp_path: Path) -> None:
    train(own_net(), images, TrainConfig(**LOOP), tmp_path / "run")
    for folder in (tmp_path / "run", RunFolder(tmp_path / "run")):
        with pytest.raises(ValueError, match="exists: go on with --resume"):
            train(own_net(), images, TrainConfig(**LOOP), folder)


def test_overwriting_takes_away_what_was_measured_of_the_run_before(images: ImageSplits, tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(own_net(), images, TrainConfig(**LOOP), path)
    command(["evaluate", str(path)])
    (path / "notes.txt").write_text("mine")
    RunFolder(path).searchlight.write_text("{}")
    train(own_net(), images, TrainConfig(**LOOP), RunFolder(path, overwrite=True))
    assert not list(path.glob("evaluation*"))
    assert not RunFolder(path).searchlight.exists()
    assert (path / "notes.txt").exists()


def test_no_thread_outlives_a_run(tmp_path: Path) -> None:
    """One that is inside a library at exit ends the process with 'terminate called'."""
    code = (
        "import threading\n"
        "from colgraph.data import load_images\n"
        "from colgraph.training import TrainConfig, make_model, make_sheet, train\n"
        f"config = TrainConfig(**{ {**LOOP, 'tensorboard': True, 'dim': 8, 'steps': 2}!r}, "
        "options={'widths': [2, 2]}, neighbors='knn:4')\n"
        "images = load_images('digits', image_size=8, channels=1)\n"
        f"train(make_model(config, make_sheet(config), 10), images, config, {str(tmp_path / 'run')!r})\n"
        # Where torch's threads sleep, kernels have a pool of their own, which Python ends before itself.
        "print([t for t in threading.enumerate() if t is not threading.main_thread() and t.name[:9] != 'colgraph_'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout


def test_settings_of_numpy_and_of_paths_are_plain(tmp_path: Path) -> None:
    config = TrainConfig(
        batch_size=np.int64(7),  # type: ignore[arg-type]
        lr=np.float32(1e-3),  # type: ignore[arg-type]
        flip=np.bool_(False),  # type: ignore[arg-type]
        data=tmp_path,  # type: ignore[arg-type]
        options={"widths": np.array([4, 4]), "gap": np.float16(0.5), "file": tmp_path},
    )
    (tmp_path / "config.yaml").write_text(save_yaml(config.flat()))
    back = load_yaml(tmp_path / "config.yaml")
    assert (back["batch_size"], back["lr"], back["flip"]) == (7, 0.001, False)
    assert (back["widths"], back["gap"], back["file"], back["data"]) == ([4, 4], 0.5, str(tmp_path), str(tmp_path))
    for bad in (np.float32(3.5), np.bool_(True)):
        with pytest.raises(ValueError, match="batch_size: must be a whole number"):
            TrainConfig(batch_size=bad)
    assert RunFlags(out="x").out == Path("x")  # type: ignore[arg-type]


def test_a_record_is_trained_again_as_it_is_whatever_the_preset_of_its_data_says(
    images: ImageSplits, tmp_path: Path
) -> None:
    presets = Path(__file__).parents[2] / "examples" / "configs"  # as scripts of before name them
    small = {"dim": 4, "qk_dim": 4, "mlp_dim": 4, "steps": 2, "epoch_images": 32}
    config = TrainConfig(**LOOP, geometry="stack", neighbors="complete", **small)
    sheet = make_sheet(config)
    train(make_model(config, sheet, 10), images, config, tmp_path / "run")
    # The preset of digits has widths of its own; a file that only says what differs still stands on it.
    record = tmp_path / "run" / "config.yaml"
    (tmp_path / "more.yaml").write_text("base: run/config.yaml\nepochs: 2\n")
    (tmp_path / "less.yaml").write_text("data: digits\ngeometry: stack\n")
    for file in (record, tmp_path / "more.yaml"):
        again, _ = parse_flags(["--config", str(file)], presets=presets)
        assert again.options == config.options == {}
        assert make_sheet(again).fingerprint == sheet.fingerprint
    assert parse_flags(["--config", str(tmp_path / "less.yaml")], presets=presets)[0].options == {"widths": [4, 4, 4]}
    assert parse_flags(["--config", str(record), "--widths", "3,3"], presets=presets)[0].options == {"widths": [3, 3]}


def test_the_record_of_an_older_version_stands_alone_too(tmp_path: Path) -> None:
    """What it could not say yet is at its default."""
    older = Path(__file__).parents[1] / "older" / "0.1.0" / "run" / "config.yaml"
    (tmp_path / "digits.yaml").write_text("widths: [5, 5]\ndirection: forward\ninputs: 0-3\n")
    config, _ = parse_flags(["--config", str(older)], presets=tmp_path)
    assert config == read_record(older).config


def test_a_checkpoint_keeps_the_whole_sheet(images: ImageSplits) -> None:
    positions = [[x, y, 0.0] for x in range(4) for y in range(4)]
    shape = cg.Geometry(
        positions, metric="periodic", period=(4, 4), inputs=[0, 5, 2, 7], names=list("abcdefghijklmnop")
    )
    sheet = cg.build_sheet(shape, neighbors="knn:4")
    packed = pack_run(RunRecord(TrainConfig(**LOOP)), sheet, images, len(images.classes))
    buffer = io.BytesIO()
    torch.save(packed, buffer)
    buffer.seek(0)
    packed = torch.load(buffer, weights_only=True)
    back = unpack_sheet(packed["sheet"])
    mine, theirs = sheet.to_arrays(), back.to_arrays()
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert back.space.between(np.array([0]), np.array([12])) == 1  # around the box
    # As 0.1.0 wrote it: these fields, and None where there are no names.
    fields = ("edge_index", "edge_distance", "pos", "layer", "face", "input_rank", "output_mask")
    old = {name: packed["sheet"][name] for name in (*fields, "metric", "geometry")}
    old |= {"num_columns": 16, "spacing": sheet.spacing, "names": None}
    assert unpack_sheet(old).fingerprint == sheet.fingerprint
    assert torch.equal(unpack_sheet(old).inputs, sheet.inputs)


def test_settings_of_before_are_read_from_checkpoints() -> None:
    now = TrainConfig(num_heads=2, dim=8, wiring_power=2, edge_bias=None)
    old = {name: value for name, value in now.flat().items() if name not in ("num_heads", "wiring_power")}
    old |= {"heads": 2, "edge_bias": "none", "recompute": "none"}
    assert config_of({"config": old, "wiring_power": 2.0}) == now
    assert config_of({"config": now.flat(), "format": 2}) == now
    with pytest.raises(ValueError, match="format 3 of options; this version of colgraph reads up to 2"):
        config_of({"config": now.flat(), "format": 3})


@pytest.mark.parametrize("power", [1, 2])
def test_the_wiring_weight_does_not_depend_on_the_unit(power: int) -> None:
    costs = []
    for unit in (1.0, 1000.0):
        shape = cg.Geometry(np.random.default_rng(0).random((32, 3)) * unit)
        net = own_net(cg.build_sheet(shape, neighbors="knn:4", num_inputs=16), edge_bias=None, wiring_power=power)
        module = TaskModule(net, TrainConfig(**LOOP))
        costs.append(float(net.model.edge_cost.mean()) / module.regularizers.wire_unit)
    assert costs[1] == pytest.approx(costs[0], rel=1e-4)
