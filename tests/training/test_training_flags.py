"""Flags and YAML files: one list of settings, precedence, and errors that name the closest flag."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from colgraph.training import RunFlags, TrainConfig, open_run_folder, parse_flags
from colgraph.training.presets import PRESETS
from colgraph.training.resume import RunRecord
from colgraph.training.yaml_files import load_yaml, save_yaml


def parse(*words: str) -> TrainConfig:
    return parse_flags(words, presets=PRESETS)[0]


def test_defaults_are_imagenet_100_on_a_stack() -> None:
    config = parse()
    assert (config.data, config.geometry, config.neighbors) == ("clane9/imagenet-100", "stack", "knn:32")
    assert (config.image_size, config.dim, config.qk_dim, config.mlp_dim, config.steps) == (128, 384, 64, 64, 6)
    assert config == TrainConfig()


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("lr: 1e-2\ndim: 24\nuntied: [mlp, norm]\n")
    preset = parse("--data", "digits")
    assert (preset.image_size, preset.channels, preset.dim) == (8, 1, load_yaml(PRESETS / "digits.yaml")["dim"])
    config = parse("--data", "digits", "--config", str(file), "--dim", "32")
    assert (config.image_size, config.lr, config.dim, config.untied) == (8, 0.01, 32, "norm,mlp")


def test_a_folder_for_the_run_may_be_named_twice(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("data: digits\nout: one\n")
    assert parse_flags(["--config", str(file)], presets=PRESETS)[1].out == Path("one")
    assert parse_flags(["--config", str(file), "--out", "two"], presets=PRESETS)[1].out == Path("two")


def test_data_named_in_the_file_brings_its_preset(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("data: digits\nepochs: 7\n")
    config = parse("--config", str(file))
    assert (config.image_size, config.epochs) == (8, 7)


def test_every_setting_is_a_flag_with_dashes_and_comes_back_from_yaml(tmp_path: Path) -> None:
    words = []
    for item in fields(TrainConfig):
        if item.name == "options":
            continue
        value = getattr(TrainConfig(), item.name)
        flag = "--" + item.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif value is not None:
            words += [flag, str(value)]
    assert parse(*words) == TrainConfig()
    file = tmp_path / "config.yaml"
    config = parse("--widths", "4,4", "--no-tensorboard", "--locality-sigma", "1e-3", "--time-embedding")
    file.write_text(save_yaml(config.flat()))
    assert yaml.safe_load(file.read_text())["widths"] == [4, 4]
    assert parse("--config", str(file)).flat() == yaml.safe_load(file.read_text())


def test_options_of_the_geometry_are_flags_and_keys(tmp_path: Path) -> None:
    config = parse("--geometry", "grid", "--shape", "9,12", "--spacing=0.5")
    assert config.options == {"shape": [9, 12], "spacing": 0.5}
    file = tmp_path / "c.yaml"
    file.write_text("geometry: stack\nwidths: [5, 5]\ndirection: forward\n")
    assert parse("--config", str(file)).options == {"widths": [5, 5], "direction": "forward"}
    assert parse("--config", str(file), "--direction", "forward+lateral").options["direction"] == "forward+lateral"


def test_another_geometry_drops_what_belonged_to_the_preset_and_keeps_what_the_user_said(tmp_path: Path) -> None:
    config = parse("--data", "digits", "--geometry", "sphere")
    assert (config.options, config.neighbors, config.patch_size) == ({}, None, 2)
    file = tmp_path / "c.yaml"
    file.write_text("neighbors: knn:9\n")
    assert parse("--config", str(file), "--geometry", "ring").neighbors == "knn:9"
    assert parse("--geometry", "stack").neighbors == "knn:32"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epoch 3", "unknown flag --epoch; did you mean --epochs?"),
        ("--batch_size 3", "unknown flag --batch_size; did you mean --batch-size?"),
        ("--width 3", "unknown flag or key --width; did you mean --widths?"),
        ("--lr abc", "--lr: must be a finite number, got 'abc'"),
        ("--lr nan", "--lr: must be a finite number"),
        ("--lr 0", "--lr: must be greater than 0"),
        ("--epochs 1.5", "--epochs: must be a whole number, got '1.5'"),
        ("--epochs 0", "--epochs: must be at least 1"),
        ("--epochs", "expected one argument"),
        ("--label-smoothing 1", "--label-smoothing: must be less than 1"),
        ("--precision b16", "did you mean bf16?"),
        ("--augment natura", "did you mean natural?"),
        ("--untied norm,mpl", "did you mean 'mlp'?"),
        ("--devices 0", "--devices: must be a number of at least 1"),
        ("--devices ²", "--devices: must be a number of at least 1"),
        (f"--seed {2**64}", f"--seed: must be at most {2**64 - 1}"),
        ("--dim 10 --heads 3", "--dim: 10 is not divisible by num_heads=3"),
        ("--image-size 100 --patch-size 16", "--patch-size: image_size 100 is not divisible by 16"),
        ("--resume --overwrite", "give one of them"),
        ("stray", "unexpected 'stray'"),
        ("--channels 2", "--channels: must be one of 1, 3"),
    ],
)
def test_bad_flags_are_refused_in_one_line(words: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(*words.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'"),
        ("epochs: many", "--epochs: must be a whole number, got 'many'"),
        ("time_embedding: 1", "must be true or false"),
        ("- a\n- b", "lines of `setting: value`"),
        ("lr: [", "cannot read config"),
        ("resume: true", "is a flag of the command line"),
        ("frobnicate: 3", "unknown flag or key --frobnicate"),
        ("dim: 8\nepochs: 2\ndim: 16", "sets 'dim' twice: keep one"),
        ("epochs: 010", "line 1: YAML reads 010 as 8: write the number that is meant"),
        ("dim: 8\nsteps: 1:30", "line 2: YAML reads 1:30 as 90"),
        ("widths: &w [1, *w]", "the alias in line 1 points to what it lies in"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        parse("--config", str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        parse("--config", str(tmp_path / "nowhere.yaml"))
    (tmp_path / "digits-tied.yaml").write_text("lr: 0.1\n")
    with pytest.raises(ValueError, match=r"no such file; did you mean '.*digits-tied\.yaml'\?"):
        parse("--config", str(tmp_path / "digits-teid.yaml"))


def test_columns_by_name_replace_a_number_of_columns_of_a_lower_layer(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("geometry: ring\nnum_outputs: 5\nnum_inputs: 4\n")
    (tmp_path / "mine.yaml").write_text("base: base.yaml\noutputs: [7, 9]\n")
    config, _ = parse_flags(["--config", str(tmp_path / "mine.yaml"), "--inputs", "0-3"])
    assert (config.inputs, config.num_inputs) == ("0-3", None)
    assert (config.outputs, config.num_outputs) == ("7,9", None)
    config, _ = parse_flags(["--config", str(tmp_path / "mine.yaml"), "--num-outputs", "3"])
    assert (config.outputs, config.num_outputs) == (None, 3)


def test_yaml_files_cannot_make_objects(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match="cannot read config"):
        parse("--config", str(file))


def test_flags_of_a_run_that_goes_on_need_not_fit_the_defaults(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    settings = parse("--data", "digits", "--model", "vit", "--patch-size", "2", "--tied-blocks", "--inject", "every")
    (run / "config.yaml").write_text(save_yaml(settings.flat()))
    assert parse("--resume", "--out", str(run), "--burn-in", "5").burn_in == 5


def test_resume_starts_from_the_settings_of_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(save_yaml(parse("--data", "digits", "--dim", "20", "--widths", "2,2").flat()))
    config, flags = parse_flags(["--resume", "--out", str(run), "--epochs", "9"], presets=PRESETS)
    assert (config.data, config.dim, config.epochs, config.options) == ("digits", 20, 9, {"widths": [2, 2]})
    assert flags == RunFlags(run, resume=True)


def test_run_folder_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse("--data", "digits", "--geometry", "maps/knot.obj", "--seed", "4")
    assert open_run_folder(config, RunFlags()).path == Path("runs/digits-knot-seed4")
    assert not (tmp_path / "runs").exists()
    run = tmp_path / "run"
    folder = open_run_folder(config, RunFlags(run))
    folder.prepare(RunRecord(config))
    (run / "keep.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"exists: go on with --resume, replace it with --overwrite"):
        open_run_folder(config, RunFlags(run))
    # A run that was killed before its first checkpoint goes on by beginning.
    again = open_run_folder(config, RunFlags(run, resume=True))
    assert (again.resume, again.overwrite) == (False, True)
    folder.summary.write_text("{}")
    with pytest.raises(ValueError, match="nothing to resume"):
        open_run_folder(config, RunFlags(run, resume=True))
    with pytest.raises(ValueError, match="nothing to resume"):
        open_run_folder(config, RunFlags(tmp_path / "nowhere", resume=True))
    folder.summary.unlink()
    folder.last.write_bytes(b"x")
    assert open_run_folder(config, RunFlags(run, resume=True)).resume
    open_run_folder(config, RunFlags(run, overwrite=True)).prepare(RunRecord(config))
    assert not folder.last.exists()
    assert (run / "keep.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("important")
    for flags in (RunFlags(other), RunFlags(other, overwrite=True)):
        with pytest.raises(ValueError, match="not a run folder"):
            open_run_folder(config, flags)
    with pytest.raises(ValueError, match="is a file"):
        open_run_folder(config, RunFlags(other / "thesis.tex"))


def test_numbers_of_numpy_and_torch_are_plain_ones(tmp_path: Path) -> None:
    config = TrainConfig(
        batch_size=np.int64(16),  # type: ignore[arg-type]
        lr=np.float64(0.5),
        flip=np.bool_(False),  # type: ignore[arg-type]
        data=np.str_("digits"),
        epochs=torch.tensor(3),  # type: ignore[arg-type]
        options={"widths": np.array([2, 3]), "columns": np.int32(4)},
    )
    assert config == TrainConfig(
        batch_size=16, lr=0.5, flip=False, data="digits", epochs=3, options={"widths": [2, 3], "columns": 4}
    )
    (tmp_path / "config.yaml").write_text(save_yaml(config.flat()))
    assert load_yaml(tmp_path / "config.yaml") == config.flat()
    for wrong in (np.float32(3.5), np.bool_(True)):
        with pytest.raises(ValueError, match="epochs: must be a whole number"):
            TrainConfig(epochs=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        ("--depth 3", "--model vit, cnn, local or recurrent"),
        ("--model cnn --num-heads 2", "--model columnformer or vit"),
        ("--model local --mlp-dim 5", "--model columnformer, vit or recurrent"),
        ("--model cnn --parametrization shared+difference", "--model columnformer or local"),
        ("--model local --difference-lr 2", "--parametrization shared"),
        ("--model cnn --embedding-lr 2", "--model columnformer or vit"),
        ("--model vit --steps 3", "--model columnformer or recurrent"),
        ("--model vit --untied none", "--model columnformer"),
        ("--model vit --backend reference", "--model columnformer"),
        ("--model vit --wiring 0.5", "--model columnformer"),
        ("--model vit --patch-size 2 --widths 4,4", "--model columnformer"),
        ("--model vit --patch-size 2 --geometry sphere", "--model columnformer"),
        ("--crop 0.5", "--augment natural or kornia"),
        ("--no-flip", "--augment natural, kornia or shift"),
        ("--augment shift --color 0.5", "--augment natural or kornia"),
        ("--difference-lr 2", r"--parametrization shared\+difference"),
        ("--parametrization shared+difference --untied none", "untied parts"),
        ("--edge-bias fixed --edge-bias-lr 2", "--edge-bias learned"),
        ("--edge-bias none --locality-sigma 2", "--edge-bias learned or fixed"),
        ("--no-position-embedding --embedding-lr 2", "--position-embedding or --time-embedding"),
        ("--inject every --steps 1", r"--steps \(of vit, cnn and local: --depth\) 2 or more"),
        ("--model vit --depth 1 --inject every", r"--steps \(of vit, cnn and local: --depth\) 2 or more"),
        ("--tied-blocks", "--model vit"),
        ("--model cnn --no-position-embedding", "--model columnformer or vit"),
        ("--model recurrent --tied-blocks", "--model vit"),
        ("--model recurrent --num-heads 2", "--model columnformer or vit"),
        ("--memory-gb 1", "--data of image files"),
        ("--init runs/x --freeze --wiring 0.5", "more than the head to learn: --init without --freeze"),
        ("--init runs/x --freeze --weight-similarity 1", "more than the head to learn"),
    ],
)
def test_a_flag_without_an_effect_is_refused_with_what_it_needs(words: str, needs: str) -> None:
    with pytest.raises(ValueError, match=f"has no effect here: it needs {needs}"):
        parse("--data", "digits", *words.split())


def test_settings_may_be_spelled_as_in_britain_or_america(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    for color, neighbors in (("color", "neighbors"), ("colour", "neighbours")):
        words = parse(f"--{color}", "0.5", f"--{neighbors}=knn:7")
        assert (words.color, words.colour, words.neighbors) == (0.5, 0.5, "knn:7")
        file.write_text(f"{color}: 0.5\n{neighbors}: knn:7\n")
        assert parse("--config", str(file)) == words
    twice = (
        ("color", "colour", "color is what colour means"),
        ("neighbors", "neighbours", "gives a setting twice, in Br"),
    )
    for one, other, message in twice:
        file.write_text(f"{one}: 1\n{other}: 1\n")
        with pytest.raises(ValueError, match=message):
            parse("--config", str(file))


def test_a_flag_with_an_effect_is_taken() -> None:
    for words in (
        "--model vit --depth 3 --embedding-lr 2",
        "--model local --depth 3 --parametrization shared+difference --difference-lr 2",
        "--augment shift --no-flip",
        "--parametrization shared+difference --difference-lr 2",
        "--inject every",
        "--model vit --tied-blocks --inject every --no-position-embedding",
        "--model recurrent --steps 1 --depth 2 --mlp-dim 9",
        "--depth 4",  # its default
    ):
        parse("--data", "digits", *words.split())


def test_no_vit_has_a_control() -> None:
    with pytest.raises(ValueError, match="control: a vit has no sheet"):
        TrainConfig(model="vit", control="random-graph")


def test_resuming_without_out_finds_the_record_of_the_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse("--data", "digits", "--lr", "0.25")
    open_run_folder(config, RunFlags()).prepare(RunRecord(config))
    again, flags = parse_flags(["--data", "digits", "--resume"], presets=PRESETS)
    assert (again.lr, flags.out) == (0.25, Path("runs/digits-stack-seed0"))


def test_devices_that_are_not_there_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    config = TrainConfig(devices="9999", accelerator="cpu")
    with pytest.raises(ValueError, match=r"--devices 9999: there are \d+ CPU cores here; give --devices \d+ or fewer"):
        open_run_folder(config, RunFlags(tmp_path / "run"))
