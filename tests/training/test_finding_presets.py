"""``--config X`` is a file that is there, or a preset of the package by any of its names, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from colgraph.training import parse_flags
from colgraph.training.presets import PRESETS, find_config, matching_configs

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "preset"),
    [
        *(("digits-tied", "digits-tied"), ("digits-tied.yaml", "digits-tied"), ("digits-wiring-0.01", None)),
        ("examples/configs/digits-tied.yaml", "digits-tied"),
        ("./examples/configs/digits-tied", "digits-tied"),
        ("../examples/configs/mazes.yaml", "mazes"),
        (str(CHECKOUT / "examples" / "configs" / "cifar10.yaml"), "cifar10"),
        (str(PRESETS / "cortex.yaml"), "cortex"),
    ],
)
def test_presets_are_found_by_their_names(given: str, preset: str | None) -> None:
    assert find_config(given) == PRESETS / f"{preset or given}.yaml"
    assert parse_flags(["--config", given, "--seed", "4"])[0].seed == 4


def test_a_file_that_is_there_wins_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "examples" / "configs").mkdir(parents=True)
    for name in ("examples/configs/digits.yaml", "digits.yaml", "mazes"):
        (elsewhere / name).write_text("base: cifar10\nlr: 0.25\n")
        config, _ = parse_flags(["--config", name])
        assert (config.lr, config.data) == (0.25, parse_flags(["--config", "cifar10"])[0].data)
    (elsewhere / "digits-tied").mkdir()
    assert find_config("digits-tied") == PRESETS / "digits-tied.yaml"
    (elsewhere / "mine").mkdir()
    with pytest.raises(ValueError, match="config 'mine' is a folder"):
        find_config("mine")


def test_a_name_that_may_be_either_is_refused(elsewhere: Path) -> None:
    (elsewhere / "digits.yaml").write_text("lr: 0.25\n")
    with pytest.raises(ValueError, match=r"the file 'digits\.yaml' or the preset .*examples/configs/digits\.yaml"):
        find_config("digits")
    (elsewhere / "sub").mkdir()
    (elsewhere / "sub" / "tied.yaml").write_text("base: digits\nuntied: none\n")
    assert parse_flags(["--config", "sub/tied.yaml"])[0].image_size == 8
    (elsewhere / "sub" / "digits.yaml").symlink_to(PRESETS / "digits.yaml")
    assert find_config("digits", elsewhere / "sub") == PRESETS / "digits.yaml"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("digits-teid", "did you mean 'examples/configs/digits-tied.yaml'?"),
        ("examples/configs/digist.yaml", "did you mean 'examples/configs/digits.yaml'?"),
        ("elsewhere/digits-tied.yaml", "did you mean 'examples/configs/digits-tied.yaml'?"),
        ("digits-own.yml", "did you mean './my-digits-own.yaml'?"),
        ("/nowhere/examples/configs/qqqq.yaml", "give a YAML file of settings"),
        ("", "is a folder"),
        ("..", "is a folder"),
    ],
)
def test_a_name_that_is_none_is_one_line(elsewhere: Path, given: str, hint: str) -> None:
    (elsewhere / "my-digits-own.yaml").write_text("lr: 1\n")
    with pytest.raises(ValueError) as caught:
        find_config(given)
    assert hint.replace("./", "") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_patterns_are_files_before_presets(elsewhere: Path) -> None:
    (elsewhere / "mine").mkdir()
    (elsewhere / "mine" / "digits-a.yaml").write_text("lr: 1\n")
    assert matching_configs(["mine/digits*", "b.yaml"]) == ["mine/digits-a.yaml", "b.yaml"]
    assert len(matching_configs(["examples/configs/digits*.yaml"])) == len(list(PRESETS.glob("digits*.yaml"))) > 20
    for pattern in ("mine/mazes*", "nothing*"):
        with pytest.raises(ValueError, match="no file of settings and no preset matches"):
            matching_configs([pattern])
