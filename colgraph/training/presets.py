"""Files of settings that the package brings, and how they are named: the one answer to where ``--config X`` is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from colgraph.hints import nearest

PRESETS = Path(__file__).parents[1] / "configs"
"""The folder of the package's own files of settings."""

_KNOWN_AS = Path("examples", "configs")
_SUFFIX = ".yaml"
_WILD = frozenset("*?[")


def find_config(given: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The file of settings that is meant: a path that is there, or a preset of the package.

    A preset is named ``digits-tied``, ``digits-tied.yaml`` or ``examples/configs/digits-tied.yaml``, from any folder.

    Args:
        given: what the user has written.
        beside: the folder that relative paths start from; the working directory if not given.

    Raises:
        ValueError: for what is neither, with what was probably meant, or what may be either.
    """
    path = Path(given).expanduser()
    here = path if beside is None else beside / path
    preset = _preset_of(path)
    if here.exists() and not here.is_dir():
        return here
    if preset is not None and preset.is_file():
        file = here.with_name(preset.name)
        if file.is_file() and not file.samefile(preset):
            raise ValueError(
                f"config {str(given)!r} may be the file {str(file)!r} or the preset of this name: give {file.name}, or "
                f"{known_as(preset)} for the preset"
            )
        return preset
    if here.is_dir():
        raise ValueError(f"config {str(given)!r} is a folder: give a YAML file of settings")
    raise ValueError(f"cannot read config {str(given)!r}: there is no such file{_hint(here, preset)}")


def preset_folder(given: str | os.PathLike[str]) -> Path:
    """The folder of presets that a script names: the package's own, where it names that as it was once called."""
    path = Path(given)
    return PRESETS if path.parts[-2:] == _KNOWN_AS.parts and not path.exists() else path


def known_as(preset: Path) -> str:
    """The name of a preset that means it from any folder."""
    return (_KNOWN_AS / preset.name).as_posix()


def matching_configs(given: Iterable[str]) -> list[str]:
    """Names and patterns of files of settings, with each pattern replaced by what it matches, files before presets.

    A shell replaces patterns of files that are there; those of presets it hands on.

    Raises:
        ValueError: for a pattern that matches nothing.
    """
    found: list[str] = []
    for name in given:
        found += [name] if not _WILD & set(name) or Path(name).is_file() else _matching(name)
    return found


def _matching(pattern: str) -> list[str]:
    path = Path(pattern).expanduser()
    preset = _preset_of(path)
    files = [] if path.name == str(path) else sorted(map(str, path.parent.glob(path.name)))
    if preset is not None and not files:
        files = [known_as(each) for each in sorted(PRESETS.glob(preset.name))]
    if not files:
        raise ValueError(f"no file of settings and no preset matches {pattern!r}")
    return files


def _preset_of(path: Path) -> Path | None:
    """The preset that a path names, whether or not there is one of this name; None where it names none."""
    bare = path.name == str(path)
    parts = [part for part in path.parts if part not in (os.curdir, os.pardir)]
    known = tuple(parts[:-1]) == _KNOWN_AS.parts or path.parent == PRESETS.parents[1] / _KNOWN_AS
    if not path.name or not (bare or known):
        return None
    return PRESETS / (path.name if path.suffix == _SUFFIX else path.name + _SUFFIX)


def _hint(here: Path, preset: Path | None) -> str:
    """What was probably meant: a file in the same folder, or a preset."""
    near = nearest(here.name, [each.name for each in here.parent.glob(f"*{_SUFFIX}")])
    if near is not None:
        return f"; did you mean {str(here.parent / near)!r}?"
    wanted = here.name if preset is None else preset.name
    near = nearest(wanted, [each.name for each in PRESETS.glob(f"*{_SUFFIX}")])
    if near is not None:
        return f"; did you mean {known_as(Path(near))!r}?"
    return "; give a YAML file of settings, or the name of a preset such as digits"
