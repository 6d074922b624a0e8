"""Models as folders and from the Hub: what comes back is the same, and what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import colgraph as cg

hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("safetensors.torch")

FILES = {"config.json", "sheet.npz", "model.safetensors", "README.md"}


def vision(neighbors: str = "knn:5", **options: Any) -> cg.VisionColumnformer:
    sheet = cg.build_sheet("sphere", subdivisions=1, neighbors=neighbors, num_inputs=16)
    model = cg.Columnformer(sheet, **{"dim": 8, "steps": 3, "qk_dim": 4, "mlp_dim": 6, **options})
    net = cg.VisionColumnformer(model, image_size=8, patch_size=2, in_channels=1, num_classes=5, readout="spatial")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    net.about = {
        "data": "digits",
        "classes": list("abcde"),
        "mean": [0.5],
        "std": [0.2],
        "scores": {"test_accuracy": 0.9},
    }
    return net.eval()


IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_heads": 2, "value_projection": True, "time_embedding": True, "untied": ("mlp",), "wiring_power": 2.0},
        {"edge_bias": "fixed", "locality_sigma": 0.3, "inject": "every", "attention_residual": False},
        {"edge_bias": None, "position_embedding": False, "parametrization": "shared+difference"},
    ],
)
def test_what_comes_back_is_the_same_model_on_the_same_sheet(tmp_path: Path, options: dict[str, Any]) -> None:
    net = vision(**options)
    assert net.save_pretrained(tmp_path / "model") == tmp_path / "model"
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    back = cg.VisionColumnformer.from_pretrained(tmp_path / "model")
    assert not back.training
    assert back.about == net.about
    assert back.model.sheet.fingerprint == net.model.sheet.fingerprint
    assert back.model.sheet.geometry_fingerprint == net.model.sheet.geometry_fingerprint
    assert torch.equal(back.model.sheet.inputs, net.model.sheet.inputs)
    with torch.no_grad():
        mine, theirs = net.unroll(IMAGES), back.unroll(IMAGES)
    assert torch.equal(mine.logits, theirs.logits)
    assert torch.equal(mine.wiring_cost, theirs.wiring_cost)
    plain = net.to_plain()
    plain.save_pretrained(tmp_path / "plain")
    assert torch.allclose(cg.VisionColumnformer.from_pretrained(tmp_path / "plain")(IMAGES), mine.logits, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_parameters_come_back_to_the_bit_in_their_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    net = vision().to(dtype)
    with torch.no_grad():
        net.head.weight.mul_(1 + 2**-40)
    net.save_pretrained(tmp_path)
    back = dict(cg.VisionColumnformer.from_pretrained(tmp_path).named_parameters())
    for name, parameter in net.named_parameters():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], parameter), name


def test_card_tells_data_scores_sheet_and_config(tmp_path: Path) -> None:
    net = vision()
    net.save_pretrained(tmp_path)
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "colgraph"
    assert "columnformer" in card.data.tags
    for text in (
        "trained on digits",
        '"test_accuracy": 0.9',
        net.model.sheet.fingerprint[:16],
        '"qk_dim": 4',
        "[B, 1, 8, 8]",
    ):
        assert text in card.text


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"already holds README\.md"):
        vision().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    with pytest.raises(ValueError, match="is a file"):
        vision().save_pretrained(tmp_path / "README.md")
    vision().save_pretrained(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, other = tmp_path / "a", tmp_path / "b"
    vision().save_pretrained(first)
    vision("knn:3").save_pretrained(other)

    def mixed(name: str, content: bytes | None = None) -> Path:
        shutil.rmtree(tmp_path / "mixed", ignore_errors=True)
        shutil.copytree(first, tmp_path / "mixed")
        (tmp_path / "mixed" / name).write_bytes((other / name).read_bytes() if content is None else content)
        return tmp_path / "mixed"

    with pytest.raises(cg.SheetMismatchError, match="do not belong together"):
        cg.VisionColumnformer.from_pretrained(mixed("sheet.npz"))
    with pytest.raises(cg.SheetMismatchError, match="another graph"):
        cg.VisionColumnformer.from_pretrained(mixed("model.safetensors"))
    config = json.loads((first / "config.json").read_text())
    for name, content, message in (
        ("model.safetensors", b"half", r"cannot read model\.safetensors"),
        ("config.json", b"{", r"cannot read config\.json"),
        ("config.json", json.dumps({**config, "format": 9}).encode(), "format 9"),
        ("config.json", json.dumps({**config, "model": {**config["model"], "dim": 16}}).encode(), "does not fit"),
        ("config.json", json.dumps({**config, "model": {"width": 16}}).encode(), "another version of colgraph"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            cg.VisionColumnformer.from_pretrained(mixed(name, content))
        assert "\n" not in str(caught.value)
    (first / "sheet.npz").unlink()
    with pytest.raises(ValueError, match=r"lacks sheet\.npz"):
        cg.VisionColumnformer.from_pretrained(first)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    vision().save_pretrained(tmp_path)
    np.savez(tmp_path / "sheet.npz", evil=np.array([Path], dtype=object))
    with pytest.raises(ValueError, match="cannot read a sheet"):
        cg.VisionColumnformer.from_pretrained(tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError):
        cg.VisionColumnformer.from_pretrained(tmp_path)


def test_model_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = vision()
    net.save_pretrained(tmp_path)
    asked: list[tuple[str, Any]] = []

    def download(repo_id: str, filename: str, **options: Any) -> str:
        asked.append((repo_id, options.get("revision")))
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", lambda **options: str(tmp_path / "config.json"))
    back = cg.VisionColumnformer.from_pretrained("somebody/sheet", revision="v1")
    assert torch.equal(back(IMAGES), net(IMAGES))
    assert set(asked) == {("somebody/sheet", "v1")}


@pytest.mark.parametrize("error", [OSError("no\nroute"), LookupError("offline"), RuntimeError("x")])
def test_hub_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(ValueError, match="cannot load 'somebody/sheet' from the Hugging Face Hub") as caught:
        cg.VisionColumnformer.from_pretrained("somebody/sheet")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(hub.HfApi, "create_repo", fail)
    with pytest.raises(ValueError, match="cannot push to 'somebody/sheet'"):
        vision().push_to_hub("somebody/sheet")


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "/a/b", "a/b/c"])
def test_folder_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(ValueError, match="no folder"):
        cg.VisionColumnformer.from_pretrained(source)


@pytest.mark.parametrize("change", ["eps", "embedding", "head"])
def test_what_the_options_do_not_make_again_is_not_saved(change: str, tmp_path: Path) -> None:
    sheet = cg.build_sheet("grid", shape=(4, 4), neighbors="knn:3", num_inputs=4)
    model = cg.Columnformer(sheet, dim=8, steps=2, qk_dim=4, mlp_dim=8, time_embedding=True)
    net = cg.VisionColumnformer(model, 8, patch_size=4, in_channels=1, num_classes=3)
    if change == "eps":
        net.norm.eps = 0.5
    elif change == "embedding":
        net.model.steps = 4
    else:
        net.head = torch.nn.Sequential(torch.nn.Dropout(0.1), net.head)
    with pytest.raises(ValueError, match="of the network is another than its options make, and would be lost"):
        net.save_pretrained(tmp_path / "net")
    assert not list((tmp_path / "net").glob("*"))
