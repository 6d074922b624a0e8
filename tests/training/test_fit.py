"""Arrays and networks of one's own: trained into a run folder that other commands read, and refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
pytest.importorskip("datasets")
pytest.importorskip("PIL")

import colgraph as cg
from colgraph.cli import run
from colgraph.experiments.evaluate import evaluate_run
from colgraph.training import RunFolder, TrainConfig, fit, images_of, load_trained, parse_flags

SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 32, "figure_every": 0, "logger": "none", "warmup": 0.0, "lr": 0.01}
SHEET: dict[str, Any] = {"widths": [2, 2], "patch_size": 4, "neighbors": "knn:3", "dim": 4, "qk_dim": 4, "steps": 2}
NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, image_size=8, channels=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 8), nn.BatchNorm1d(8))
        self.last = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.last(self.layers(x))

def narrow(num_classes, **anything):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes - 1))

def needs(width): ...

def fails(image_size):
    raise RuntimeError("out of\\nluck")

def no_module():
    return 3
"""


def test_arrays_on_the_sheet_of_settings(tmp_path: Path, arrays: Any) -> None:
    images, labels = arrays
    names = np.array(["dark", "grey", "light"])[labels]
    summary = fit(images, names, out=tmp_path / "run", **SMALL, **SHEET)
    assert (summary["train_images"], summary["test_images"], summary["own"]) == (72, 18, [])
    trained = load_trained(tmp_path / "run")
    assert trained.classes == ["dark", "grey", "light"]
    assert trained.config.augment == "none"
    back = images_of(trained.config)
    pixels = {image.tobytes() for image in np.concatenate([back.train.images, back.test.images])}  # type: ignore[attr-defined]
    assert pixels == {image.tobytes() for image in images}
    config, _ = parse_flags(["--config", str(tmp_path / "run" / "config.yaml"), "--seed", "3"])
    assert (config.data, config.seed) == (str((tmp_path / "run" / "images").resolve()), 3)
    for overwrite, message in ((False, "exists"),):
        with pytest.raises(ValueError, match=message):
            fit(images, labels, out=tmp_path / "run", overwrite=overwrite, **SMALL, **SHEET)
    again = fit(
        images[..., None], labels, out=tmp_path / "run", overwrite=True, classes=["a", "b", "c"], **SMALL, **SHEET
    )
    assert again["parameters_sha256"] == summary["parameters_sha256"]
    assert load_trained(tmp_path / "run").classes == ["a", "b", "c"]


def test_arrays_on_a_sheet_of_ones_own_are_analyzed(tmp_path: Path, arrays: Any, monkeypatch: Any) -> None:
    images, labels = arrays
    sheet = cg.build_sheet("ring", columns=12, neighbors="knn:3", num_inputs=4)
    split = {"test": (torch.as_tensor(images[::3]), torch.as_tensor(labels[::3])), "val": (images[1::3], labels[1::3])}
    few = {name: SHEET[name] for name in ("dim", "qk_dim", "steps")}
    summary = fit(images[2::3], labels[2::3], out=tmp_path / "run", sheet=sheet, **split, **SMALL, **few)
    assert (summary["train_images"], summary["test_images"]) == (30, 30)
    assert summary["fingerprint"] == sheet.fingerprint
    monkeypatch.chdir(tmp_path)
    run(["analyze", "run", "--only", "wiring", "--probes", "40", "--permutations", "2"])
    assert (tmp_path / "run" / "analysis" / "results.json").is_file()


def test_a_network_by_its_file_is_made_again(tmp_path: Path, arrays: Any, file: Path) -> None:
    pytest.importorskip("torchmetrics")
    images, labels = arrays
    summary = fit(images, labels, out=tmp_path / "run", model=f"{file}:Net", **{**SMALL, "epochs": 8})
    assert summary["test_accuracy"] == 1.0
    assert summary["flops_per_image"] > 0
    assert summary["own"] == []
    trained = load_trained(tmp_path / "run")
    assert type(trained.net.network).__name__ == "Net"  # type: ignore[union-attr]
    assert evaluate_run(tmp_path / "run")["accuracy"] == 1.0
    folder = RunFolder(tmp_path / "run")
    assert TrainConfig.from_flat(folder.record().config.flat()).model == f"{file}:Net"
    saved = torch.load(folder.last, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in saved["state_dict"].values())
    for command, said in (
        ("encode RUN --responses x.npy --stimuli x", "only colgraph's own models .* analyze and report take it"),
        ("analyze RUN --signal norm", "signal 'norm' is of columns, and a network of your own has no columns"),
        ("share RUN OUT", "share its code"),
        ("evaluate RUN --steps 3", "--steps 3"),
    ):
        words = command.replace("RUN", str(folder.path)).replace("OUT", str(tmp_path / "shared")).split()
        with pytest.raises(ValueError, match=said) as caught:
            run(words)
        assert "\n" not in str(caught.value)
    file.write_text(NETWORK + "\n# another line\n")
    with pytest.warns(UserWarning, match="has changed since this run was trained"):
        load_trained(tmp_path / "run")
    file.unlink()
    with pytest.raises(ValueError, match=r"my_network\.py' does not exist"):
        load_trained(tmp_path / "run")


def test_a_network_of_ones_own_is_taken_over_but_for_its_head(
    tmp_path: Path, arrays: Any, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = arrays
    settings = SMALL | {"warmup": 3.0}
    fit(images, labels, out=tmp_path / "first", model=f"{file}:Net", **settings)
    assert "rises through all of the run, to 33% of 0.01: --warmup 3 is not less" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"init: which part of your network is its head\? Call that self\.head"):
        fit(images, labels, out=tmp_path / "no", model=f"{file}:Net", init=str(tmp_path / "first"), **SMALL)
    file.write_text(NETWORK.replace("last", "head"))
    fit(images, labels, out=tmp_path / "named", model=f"{file}:Net", **SMALL)
    probe: dict[str, Any] = SMALL | {"init": str(tmp_path / "named"), "freeze": True, "epochs": 3}
    said = fit(images, labels, out=tmp_path / "probe", model=f"{file}:Net", **probe)
    assert said["init"]["run"] == str(tmp_path / "named")
    before, after = (load_trained(tmp_path / name).net.state_dict() for name in ("named", "probe"))
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"network.head.weight", "network.head.bias"} <= differ
    assert not [name for name in differ if "layers" in name]  # the means of its norms too


def test_what_goes_nowhere_beside_a_sheet_or_a_network_is_refused(tmp_path: Path, arrays: Any) -> None:
    images, labels = arrays
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:3", num_inputs=4)
    classes = len(np.unique(np.asarray(labels)))

    def net(size: int = 8, answers: int = classes) -> cg.VisionColumnformer:
        model = cg.Columnformer(sheet, dim=8, steps=2, qk_dim=4, mlp_dim=8)
        return cg.VisionColumnformer(model, size, patch_size=size // 2, in_channels=1, num_classes=answers)

    for given, said in (
        ({"sheet": sheet, "control": "random-graph"}, "control has no effect on a sheet that is given"),
        ({"sheet": sheet, "neighbors": "knn:5"}, "neighbors has no effect on a sheet that is given"),
        ({"model": net(), "dim": 16}, "dim=16 has no effect on a network that is given, whose own is 8"),
        ({"model": net(16)}, r"the network takes images \[1, 16, 16\], these are \[1, 8, 8\]"),
        ({"model": net(8, classes + 1)}, f"make it with num_classes={classes}"),
    ):
        with pytest.raises(ValueError, match=said):
            fit(images, labels, out=tmp_path / "run", **given, **SMALL)
        assert not (tmp_path / "run").exists()
    net_again = net()
    net_again.model.block.norm1.eps = 0.5
    summary = fit(images, labels, out=tmp_path / "run", model=net_again, dim=8, **SMALL)
    assert summary["own"] == ["network with another model.block.norm1.eps"]
    with pytest.raises(ValueError, match=r"a network with another model\.block\.norm1\.eps, which only its own code"):
        load_trained(tmp_path / "run")


def test_a_module_is_found_by_its_class_or_asked_for(
    tmp_path: Path, arrays: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = arrays
    monkeypatch.syspath_prepend(str(file.parent))
    import my_network  # type: ignore[import-not-found]

    try:
        fit(images, labels, out=tmp_path / "found", model=my_network.Net(3), **SMALL)
    finally:
        del sys.modules["my_network"]
    assert load_trained(tmp_path / "found").config.model == f"{file}:Net"
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.warns(UserWarning, match="cannot be made again without your code"):
        fit(images, labels, out=tmp_path / "asked", model=plain, **SMALL)
    with pytest.raises(ValueError, match=r"Sequential, which only its own code can make: .*network="):
        load_trained(tmp_path / "asked")
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    load_trained(tmp_path / "asked", network=other)
    assert torch.equal(other[1].weight, plain[1].weight)
    with pytest.raises(ValueError, match="do not fit the network"):
        load_trained(tmp_path / "asked", network=nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Linear(3, 3)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "FILE:narrow"}, r"answers \[2, 2\] to 2 images, expected logits \[2, 3\]"),
        ({"model": "FILE:needs"}, "needs width: it is told num_classes, image_size, channels"),
        ({"model": "FILE:fails"}, "cannot be made: RuntimeError: out of luck"),
        ({"model": "FILE:no_module"}, "must return a torch.nn.Module, got int"),
        ({"model": "FILE:Nett"}, "did you mean 'Net'"),
        ({"model": "vit.py"}, "must be a torch.nn.Module or file.py:function"),
        ({"model": nn.Conv2d(3, 3, 3)}, r"does not take images \[2, 1, 8, 8\]"),
        ({"model": nn.Flatten(), "widhts": [2]}, "unknown setting 'widhts'"),
        ({"model": nn.Flatten(), "sheet": cg.build_sheet("ring", columns=9, neighbors="knn:3")}, "not both"),
        ({"images": np.zeros((9, 8, 8))}, "must be bytes, 0 to 255, got torch.float64"),
        ({"images": np.zeros((9, 8, 9), np.uint8)}, r"must be squares.* got \[9, 1, 8, 9\]"),
        ({"images": np.zeros((9, 3, 8, 3), np.uint8)}, "channels first or last"),
        ({"images": np.zeros((9, 8, 8), np.uint8)}, "9"),
        ({"labels": np.zeros(90)}, "labels must be a number or a name"),
        ({"labels": np.zeros(90, int)}, "1 classes"),
        ({"classes": ["a", "b"]}, r"train labels hold 2, which is none of \['a', 'b'\]"),
        ({"classes": ["a", "a", "b"]}, "different names"),
        ({"test": (np.zeros((2, 8, 8), np.uint8), [0, 7])}, "test labels hold 7"),
        ({"test": (np.zeros((2, 4, 4), np.uint8), [0, 1])}, r"test images are \[1, 4, 4\]"),
        ({"data": "digits"}, "data is no setting for arrays"),
        ({"task": "columns", "model": "FILE:Net"}, "asks about patches or views"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(
    changed: dict[str, Any], message: str, tmp_path: Path, arrays: Any, file: Path
) -> None:
    given = {"images": arrays[0], "labels": arrays[1], **SMALL, **changed}
    if isinstance(given.get("model"), str):
        given["model"] = given["model"].replace("FILE", str(file))
    with pytest.raises(ValueError, match=message) as caught:
        fit(out=tmp_path / "run", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model vitt", "did you mean 'vit'"),
        ("--model FILE:Net --dim 9", "--dim has no effect here"),
        ("--model FILE:Net --depth 2", "--depth has no effect here"),
        ("--model FILE:Net --geometry ring", "--geometry has no effect here"),
    ],
)
def test_flags_for_a_network_of_ones_own(words: str, message: str, file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        parse_flags(["--data", "digits", *words.replace("FILE", str(file)).split()])
