"""The command line of a training script: defaults, then a data preset, then a YAML file, then flags."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colgraph.geometry import option_names
from colgraph.script import OneLineParser, parse_options
from colgraph.training.config import GEOMETRY_SETTINGS, TrainConfig, coerce, describe_settings, load_yaml

__all__ = ["RunFlags", "load_settings", "parse_flags"]

_SESSION = ("out", "resume", "overwrite", "config")


@dataclass(frozen=True)
class RunFlags:
    """What the command line says about the run itself; not part of what a run depends on.

    Attributes:
        out: the run folder, or None for ``runs/<name>``.
        resume: go on from the run folder's last checkpoint.
        overwrite: replace the run that the folder holds.
    """

    out: Path | None = None
    resume: bool = False
    overwrite: bool = False


def parse_flags(
    arguments: Sequence[str] | None = None, *, presets: str | Path | None = None, description: str = ""
) -> tuple[TrainConfig, RunFlags]:
    """Read a training script's command line.

    Every setting of :class:`TrainConfig` is a flag, with dashes for underscores (switches as ``--flag`` and
    ``--no-flag``), and so is every option of the chosen geometry. Later sources override earlier ones: the defaults of
    ``TrainConfig``; the preset of the data source, ``<presets>/<data>.yaml``; the file given by ``--config``; flags.
    With ``--resume``, the run folder's ``config.yaml`` stands in place of the first two.

    What belongs to one geometry (its options, and defaults and presets of ``GEOMETRY_SETTINGS``) is dropped when a
    later source chooses another one.

    Args:
        arguments: the command line; ``sys.argv[1:]`` if not given.
        presets: folder of YAML files named after data sources.
        description: shown by ``--help``.

    Raises:
        ValueError: for an unknown flag or key (with the closest), or a bad value.
    """
    known, extra = _parser(description).parse_known_args(arguments)
    flags = vars(known)
    session = {name: flags.pop(name) for name in _SESSION if name in flags}
    run = RunFlags(
        Path(session["out"]).expanduser() if "out" in session else None,
        session.get("resume", False),
        session.get("overwrite", False),
    )
    if run.resume and run.overwrite:
        raise ValueError("--resume goes on with a run and --overwrite replaces it: give one of them")
    file = load_settings(session["config"]) if "config" in session else {}
    if "out" in file:
        run = RunFlags(run.out or Path(str(file.pop("out"))).expanduser(), run.resume, run.overwrite)
    user = [
        (file, "the config file"),
        (flags | parse_options(extra, _flag_names(), option_names()), "the command line"),
    ]
    saved = run.out / "config.yaml" if run.resume and run.out is not None else None
    if saved is not None and saved.is_file():
        base, owned = load_yaml(saved), True
    else:
        data = {**file, **flags}.get("data", TrainConfig.data)
        base, owned = _preset(presets, data), False
    return _config([(base, owned), *((layer, True) for layer, _ in user)]), run


# ---------------------------------------------------------------------- pieces


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flag_names() -> list[str]:
    return [_flag(name) for name in (*describe_settings(), *_SESSION)]


def _parser(description: str) -> OneLineParser:
    parser = OneLineParser(
        description=description,
        usage="%(prog)s [--SETTING VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        epilog="Options of the geometry are flags too: --geometry stack --widths 8,8,8 (see `colgraph list`).",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file of the same settings, with underscores, and perhaps a base"
    )
    parser.add_argument("--out", metavar="DIR", help="the run folder (default: runs/<data>-<geometry>-seed<seed>)")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that the folder holds")
    for name, (default, switch, text) in describe_settings().items():
        shown = "" if default is None else f" (default: {default})"
        # argparse expands % in help texts.
        text = f"{text}{shown}".replace("%", "%%")
        if switch:
            parser.add_argument(_flag(name), dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(_flag(name), dest=name, metavar="X", help=text)
    return parser


def load_settings(path: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a YAML file, on top of those of the file that its key ``base`` names (relative to it).

    A file that chooses another geometry than its base drops what belonged to the base's one.

    Raises:
        ValueError: if a file cannot be read, has a key that is none, or is a base of itself.
    """
    here = Path(path).expanduser()
    if here.resolve() in above:
        raise ValueError(f"config {str(path)!r} is a base of itself")
    settings = _checked(here)
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str) or not base:
        raise ValueError(f"base in {str(path)!r} must name a YAML file, got {base!r}")
    below = load_settings(here.parent / base, (*above, here.resolve()))
    if settings.get("geometry", below.get("geometry")) != below.get("geometry"):
        known = describe_settings()
        below = {name: value for name, value in below.items() if name in known and name not in GEOMETRY_SETTINGS}
    return {**below, **dict.fromkeys(_replaced(settings)), **settings}


def _replaced(layer: Mapping[str, Any]) -> list[str]:
    """Settings of lower layers that a layer replaces under another name: a number of columns by a list of them."""
    pairs = (("inputs", "num_inputs"), ("outputs", "num_outputs"))
    return [b for pair in pairs for a, b in (pair, pair[::-1]) if layer.get(a) is not None and b not in layer]


def _checked(path: Path) -> dict[str, Any]:
    settings = load_yaml(path)
    for name in ("resume", "overwrite", "config"):
        if name in settings:
            raise ValueError(f"{name} in {str(path)!r} is a flag of the command line: give {_flag(name)} there")
    known = [*describe_settings(), "base", "out"]
    for name in settings:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if name not in known and near and name not in option_names():
            raise ValueError(f"unknown key {name!r} in {str(path)!r}; did you mean {near[0]!r}?")
    return settings


def _preset(presets: str | Path | None, data: Any) -> dict[str, Any]:
    """The settings of ``<presets>/<data>.yaml``, where ``data`` is a plain name that has one."""
    if presets is None or not str(data).isidentifier():
        return {}
    path = Path(presets) / f"{data}.yaml"
    return load_settings(path) if path.is_file() else {}


def _config(layers: Sequence[tuple[Mapping[str, Any], bool]]) -> TrainConfig:
    """Merge layers of settings and options; the flag says whether a user chose them."""
    settings = {name: default for name, (default, _, _) in describe_settings().items()}
    chosen: set[str] = set()
    options: dict[str, Any] = {}
    for layer, by_user in layers:
        if str(layer.get("geometry", settings["geometry"])) != settings["geometry"]:
            options = {}
            settings |= {name: None for name in GEOMETRY_SETTINGS if name not in chosen}
        settings |= dict.fromkeys(_replaced(layer))
        for name, value in layer.items():
            if name not in settings:
                options[name] = value
                continue
            try:
                settings[name] = coerce(name, value)
            except ValueError as error:
                raise ValueError(f"{_flag(name)}: {str(error).partition(': ')[2]}") from error
            if by_user:
                chosen.add(name)
    _check_option_names(str(settings["geometry"]), options)
    try:
        return TrainConfig(**settings, options=options)
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        raise ValueError(f"{_flag(name)}: {reason}") from error


def _check_option_names(geometry: str, options: Mapping[str, Any]) -> None:
    """Refuse what is neither a setting nor an option of a geometry whose options are known."""
    function = _function(geometry) if options else None
    if function is None:
        return
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            near = difflib.get_close_matches(name, [*describe_settings(), *_SESSION, *parameters], n=1)
            hint = f"; did you mean {_flag(near[0])}?" if near else ""
            has = ", ".join(map(_flag, parameters)) or "none"
            raise ValueError(f"unknown flag or key {_flag(name)}{hint} (options of geometry {geometry!r}: {has})")


def _function(geometry: str) -> Callable[..., Any] | None:
    """The function behind a registered or plug-in geometry; None for files, whose readers check for themselves."""
    from colgraph.geometry.registry import find_geometry, is_plugin, list_geometries, load_plugin

    if is_plugin(geometry):
        return load_plugin(geometry)
    return find_geometry(geometry) if geometry in list_geometries() else None
