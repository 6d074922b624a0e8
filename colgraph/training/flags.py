"""The command line of a training script: defaults, then a data preset, then a YAML file, then flags."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colgraph.geometry import option_names
from colgraph.geometry.areas import AREA_OPTIONS
from colgraph.geometry.options import list_options
from colgraph.hints import did_you_mean, nearest
from colgraph.options import OptionError, as_now, other_names
from colgraph.script import OneLineParser, flag_of, spelled_as
from colgraph.training.config import GEOMETRY_SETTINGS, TrainConfig, coerce, describe_settings
from colgraph.training.folder import RunFolder
from colgraph.training.presets import find_config, preset_folder
from colgraph.training.resume import changed_settings, geometry_function, is_whole, repeatable
from colgraph.training.yaml_files import load_yaml

_SESSION = ("out", "resume", "overwrite", "config")


@dataclass(frozen=True)
class RunFlags:
    """What the command line says about the run itself; not part of what a run depends on.

    Attributes:
        out: the run folder, or None for ``runs/<name>``.
        resume: go on from the run folder's last checkpoint.
        overwrite: replace the run that the folder holds.
        given: names of settings that the command line says, and not as they are by default.
    """

    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    given: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("resume", "overwrite"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.out is not None:
            if not isinstance(self.out, str | os.PathLike):
                raise ValueError(f"out must be the path of a folder, got {self.out!r}")
            object.__setattr__(self, "out", Path(self.out).expanduser())
        if self.resume and self.overwrite:
            raise ValueError("--resume goes on with a run and --overwrite replaces it: give one of them")


def parse_flags(
    arguments: Sequence[str] | None = None,
    *,
    presets: str | Path | None = None,
    description: str = "",
    prog: str | None = None,
) -> tuple[TrainConfig, RunFlags]:
    """Read a training script's command line.

    Every setting of :class:`TrainConfig` is a flag, with dashes for underscores (switches as ``--flag`` and
    ``--no-flag``), and so is every option of the chosen geometry. Later sources override earlier ones: the defaults of
    ``TrainConfig``; the preset of the data source, ``<presets>/<data>.yaml``; the file or preset given by ``--config``
    (:func:`colgraph.training.presets.find_config`); flags.
    A file that names every setting, as the record of a run does, needs no preset.
    With ``--resume``, the run folder's ``config.yaml`` stands in place of the first two, and what cannot change
    (:data:`colgraph.training.resume.ON_RESUME`) is refused.

    What belongs to one geometry (its options, and defaults and presets of ``GEOMETRY_SETTINGS``) is dropped when a
    later source chooses another one.

    Args:
        arguments: the command line; ``sys.argv[1:]`` if not given.
        presets: folder of YAML files named after data sources, or one YAML file for all of them.
        description: shown by ``--help``.
        prog: what ``--help`` calls the program; its file if not given.

    Raises:
        ValueError: for an unknown flag or key (with the closest), a bad value, a flag that would have no effect, or a
            setting that the run to go on with cannot take.
    """
    known, options = _parser(description, prog).parse_with_options(arguments)
    flags = vars(known)
    session = {name: flags.pop(name) for name in _SESSION if name in flags}
    run = RunFlags(session.get("out"), session.get("resume", False), session.get("overwrite", False))
    words = flags | options
    # A run that goes on may be told its own record again, whatever has changed since it began.
    given = None if run.resume else words
    file = load_settings(session["config"], given=given) if "config" in session else {}
    if "out" in file:
        named = Path(str(file.pop("out")))  # of no meaning to a configuration, whichever of the two holds
        run = replace(run, out=run.out or named)
    user = [(file, True), (words, True)]
    # Flags are of the run that goes on, and may not fit the defaults.
    if run.resume and (going_on := _gone_on(run.out, user)) is not None:
        return going_on, run
    preset = {} if is_whole(file) else _preset(presets, {**file, **flags}.get("data", TrainConfig.data))
    config = _config([(preset, False), *user])
    if run.resume:
        run = replace(run, out=run.out or default_folder(config))
        return _gone_on(run.out, user) or config, run
    return config, replace(run, given=_with_effect(config, words))


def _gone_on(folder: Path | None, user: Sequence[tuple[Mapping[str, Any], bool]]) -> TrainConfig | None:
    """The settings of a run that goes on, with those that may change; None where there is no run."""
    if folder is None or not RunFolder(folder).is_run:
        return None
    record = RunFolder(folder).record().config
    config = _config([(record.flat(), True), *user])
    # A run without a checkpoint begins again: nothing has been learned with the settings that it had.
    if RunFolder(folder).last.is_file():
        changed_settings(record, config)
    return config


# ---------------------------------------------------------------------- pieces


def _parser(description: str, prog: str | None) -> OneLineParser:
    parser = OneLineParser(
        prog=prog,
        description=description,
        usage="%(prog)s [--SETTING VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        others=option_names(),
        epilog="Options of the geometry are flags too: --geometry stack --widths 8,8,8 (see `colgraph list`).",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file of the same settings, with underscores, and perhaps a base; or a preset such as digits-tied",
    )
    parser.add_argument("--out", metavar="DIR", help="the run folder (default: runs/<data>-<geometry>-seed<seed>)")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that the folder holds")
    for name, (default, switch, text) in describe_settings().items():
        shown = "" if default is None else f" (default: {default})"
        # argparse expands % in help texts.
        text = f"{text}{shown}".replace("%", "%%")
        flags = [*map(flag_of, (name, *other_names(name)))]
        if switch:
            parser.add_argument(*flags, dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(*flags, dest=name, metavar="X", help=text)
    return parser


def load_settings(
    path: str | Path,
    above: tuple[Path, ...] = (),
    given: Collection[str] | None = (),
    beside: Path | None = None,
) -> dict[str, Any]:
    """The settings of a YAML file or preset, on top of those of the one that its key ``base`` names (relative to it).

    A file that chooses another geometry than its base drops what belonged to the base's one.

    Args:
        path: the file, or the name of a preset.
        above: files that have this one as their base.
        given: settings that the command line says anew; None lets a record pass that no settings can repeat.
        beside: the folder that a relative path starts from; the working directory if not given.

    Raises:
        ValueError: if a file cannot be read, has a key that is none, is a base of itself, or is the record of a run
            that no settings can repeat.
    """
    here = find_config(path, beside)
    if here.resolve() in above:
        raise ValueError(f"config {str(path)!r} is a base of itself")
    settings = _checked(here, given)
    base = settings.pop("base", None)
    if base is None:
        return settings
    if not isinstance(base, str) or not base:
        raise ValueError(f"base in {str(path)!r} must name a YAML file, got {base!r}")
    below = load_settings(base, (*above, here.resolve()), given, here.parent)
    if settings.get("geometry", below.get("geometry")) != below.get("geometry"):
        known = describe_settings()
        below = {name: value for name, value in below.items() if name in known and name not in GEOMETRY_SETTINGS}
    return {**below, **dict.fromkeys(_replaced(settings)), **settings}


def _replaced(layer: Mapping[str, Any]) -> list[str]:
    """Settings of lower layers that a layer replaces under another name: a number of columns by a list of them."""
    pairs = (("inputs", "num_inputs"), ("outputs", "num_outputs"))
    return [b for pair in pairs for a, b in (pair, pair[::-1]) if layer.get(a) is not None and b not in layer]


def _checked(path: Path, given: Collection[str] | None) -> dict[str, Any]:
    content = as_now(repeatable(load_yaml(path), given, path))
    own, ours = option_names(), describe_settings()
    settings = {spelled_as(name, () if name in own else ours): content[name] for name in content}
    if len(settings) < len(content):
        raise ValueError(f"{str(path)!r} gives a setting twice, in British and American spelling: leave one out")
    for name in ("resume", "overwrite", "config"):
        if name in settings:
            raise ValueError(f"{name} in {str(path)!r} is a flag of the command line: give {flag_of(name)} there")
    known = [*describe_settings(), "base", "out"]
    for name in settings:
        near = nearest(name, known, cutoff=0.8)
        if name not in known and near and name not in option_names():
            raise ValueError(f"unknown key {name!r} in {str(path)!r}; did you mean {near!r}?")
    return settings


def default_folder(config: TrainConfig) -> Path:
    """Where a run goes that names no folder: ``runs/<data>-<geometry>-seed<seed>``."""

    def stem(text: str) -> str:
        return re.sub(r"[^\w.-]+", "-", Path(text.rpartition(":")[2] or text).name.partition(".")[0]) or "run"

    return Path("runs") / f"{stem(config.data)}-{stem(config.geometry)}-seed{config.seed}"


def _preset(presets: str | Path | None, data: Any) -> dict[str, Any]:
    """The settings of ``<presets>/<data>.yaml``, where ``data`` is a name that has one, or of the one file.

    Options of made data, as in ``mazes:size=16``, are no part of the name.
    """
    data = str(data).partition(":")[0]
    if presets is not None and Path(presets).suffix == ".yaml":
        return load_settings(presets)
    if presets is None or not data.isidentifier():
        return {}
    path = preset_folder(presets) / f"{data}.yaml"
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
            except OptionError as error:
                raise ValueError(f"{flag_of(name)}: {error.reason}") from error
            if by_user:
                chosen.add(name)
    _check_option_names(str(settings["geometry"]), options)
    try:
        return TrainConfig(**settings, options=options)
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        raise ValueError(f"{flag_of(name)}: {reason}") from error


def _with_effect(config: TrainConfig, words: Mapping[str, Any]) -> frozenset[str]:
    """The flags that ask for something, as none at its default does; refuse one that plays no part with the others."""
    known, default = describe_settings(), TrainConfig()
    if words.get("tensorboard") is True and "tensorboard" not in config.loggers:
        both = ",".join(("tensorboard", *config.loggers))
        raise ValueError(f"--tensorboard contradicts --logger {config.logger}: give --logger {both}")
    asking = [name for name in words if name not in known or getattr(config, name) != getattr(default, name)]
    for name in asking:
        needs = config.lacks(name if name in known else "geometry")
        if needs:
            raise ValueError(f"{flag_of(name)} has no effect here: it needs {needs}; leave it out")
    return frozenset(asking)


def _check_option_names(geometry: str, options: Mapping[str, Any]) -> None:
    """Refuse what is neither a setting nor an option of a geometry whose options are known."""
    function = geometry_function(geometry) if options else None
    if function is None:
        return
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
        return
    parameters = [*dict.fromkeys((*(option.name for option in list_options(function)), *AREA_OPTIONS))]
    for name in options:
        if name not in parameters:
            hint = did_you_mean(name, [*describe_settings(), *_SESSION, *parameters], "; ", flag_of)
            has = ", ".join(map(flag_of, parameters)) or "none"
            raise ValueError(f"unknown flag or key {flag_of(name)}{hint} (options of geometry {geometry!r}: {has})")
