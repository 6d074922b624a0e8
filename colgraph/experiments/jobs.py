"""The runs of a sweep: configs x seeds, each one command, and what has become of each."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colgraph.script import flag_of, from_here
from colgraph.training.config import TrainConfig, describe_settings
from colgraph.training.flags import parse_flags
from colgraph.training.folder import RunFolder
from colgraph.training.presets import PRESETS, find_config, matching_configs
from colgraph.training.resume import changes_text

TRAIN = ("-m", "colgraph", "train")
"""The command that trains, as words behind Python."""

_COMMAND = "colgraph.training.command"

_NOT_SET = ("seed", "out", "config", "resume", "overwrite")


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: ``<config>-seed<seed>``.
        folder: the run folder.
        words: the command without ``--resume`` or ``--overwrite``: a training script or command, and its flags.
        settings: what the command's flags and files amount to.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    settings: TrainConfig

    @property
    def finished(self) -> bool:
        """Whether the run has its results."""
        return RunFolder(self.folder).finished

    def command(self) -> list[str]:
        """What to start now: from the beginning, or on from the last checkpoint."""
        words, run = [sys.executable, *self.words], RunFolder(self.folder)
        if run.last.is_file():
            return [*words, "--resume"]
        # A run that ended before its first checkpoint has nothing to lose.
        return [*words, "--overwrite"] if run.is_run else words

    def text(self) -> str:
        """The command as a shell would take it."""
        return shlex.join(self.words[1:] if self.words[: len(TRAIN)] == TRAIN else ["python", *self.words])

    def check_folder(self) -> None:
        """Raise ValueError if the folder holds a run with other settings than this one's."""
        run = RunFolder(self.folder)
        if not run.is_run:
            if self.folder.is_dir() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
                raise ValueError(f"{str(self.folder)!r} is not empty and not a run folder: name another --out")
            return
        record = run.record()
        changed = changes_text(record.changes)
        if changed:
            raise ValueError(f"{str(self.folder)!r} holds a run with {changed}: name another --out")
        here, there = self.settings.flat(), record.config.flat()
        for name in dict.fromkeys((*here, *there)):
            # What is left to the run is chosen by it, and then written down.
            if (name, here.get(name)) in (("patch_size", None), ("devices", "auto")):
                continue
            if here.get(name) != there.get(name):
                raise ValueError(
                    f"{str(self.folder)!r} holds a run with {name}={there.get(name)!r}, the sweep asks for "
                    f"{here.get(name)!r}: name another --out"
                )


def training_words(given: str | None) -> tuple[str, ...]:
    """What Python is to run: the script given, or ``colgraph train``.

    Raises:
        ValueError: if the script is not there.
    """
    if given is None:
        return TRAIN
    if not Path(given).is_file():
        raise ValueError(f"no training script {given!r}: leave out --script, or name one that takes the same flags")
    return (from_here(Path(given)),)


def _presets_of(script: str | None) -> Path:
    if script is None or _COMMAND in Path(script).read_text(encoding="utf-8", errors="replace"):
        return PRESETS
    return Path(script).parent / "configs"


def plan(
    configs: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    sets: Sequence[str] = (),
    script: str | None = None,
) -> list[Job]:
    """The runs of a sweep, in order; every setting is checked before the first begins.

    Args:
        configs: YAML files, presets, or patterns of them, named in ``--config`` of each command; their names without
            suffix name the rows.
        seeds: of each config.
        out: the folder of run folders.
        sets: ``key=value``, settings that all runs have in common.
        script: a training script in place of ``colgraph train``. Presets of data sources are those of the package where
            it calls ``colgraph.training.command``, else those in ``configs`` beside it.

    Raises:
        ValueError: for settings that cannot be, two configs of one name, or a folder that holds another run.
    """
    words = [word for text in sets for word in setting_words(text)]
    program, presets = training_words(script), _presets_of(script)
    configs = matching_configs(configs)
    names: dict[str, str] = {}
    jobs = []
    for config in configs:
        stem = find_config(config).stem
        if names.setdefault(stem, config) != config or configs.count(config) > 1:
            raise ValueError(f"two configs are called {stem!r} ({names[stem]} and {config}): rename one")
        for seed in seeds:
            name = f"{stem}-seed{seed}"
            flags = ["--config", config, "--seed", str(seed), "--out", str(out / name), *words]
            try:
                settings, _ = parse_flags(flags, presets=presets)
            except ValueError as error:
                raise ValueError(f"{config}: {error}") from error
            job = Job(name, out / name, (*program, *flags), settings)
            job.check_folder()
            jobs.append(job)
    return jobs


def setting_words(text: str) -> list[str]:
    """``key=value`` as words of the training script's command line.

    Raises:
        ValueError: if it is none, or a setting that the sweep itself chooses.
    """
    key, equals, value = text.partition("=")
    name = key.strip().lstrip("-").replace("-", "_")
    if not equals or not name.isidentifier():
        raise ValueError(f"--set {text!r}: expected key=value, such as epochs=10")
    if name in _NOT_SET:
        raise ValueError(f"--set {text!r}: {name} is chosen by the sweep (see --seeds and --out)")
    flag = flag_of(name)
    if not describe_settings().get(name, (None, False, ""))[1]:
        return [f"{flag}={value.strip()}"]
    if value.strip().lower() not in ("true", "false"):
        raise ValueError(f"--set {text!r}: {name} must be true or false")
    return [flag if value.strip().lower() == "true" else "--no-" + flag[2:]]


def parse_seeds(text: str) -> list[int]:
    """``0,1,2`` or ``0-4`` or both.

    Raises:
        ValueError: for anything else, a negative seed, or one that occurs twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise ValueError(f"--seeds {text!r}: expected numbers such as 0,1,2 or a range such as 0-4")
        seeds += range(int(first), int(last or first) + 1)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r}: a seed occurs twice")
    return seeds


def parse_share(text: str) -> tuple[int, int]:
    """``i/n``: the i-th of n shares of the runs, counted from 1.

    Raises:
        ValueError: for anything else.
    """
    first, slash, last = text.partition("/")
    if not slash or not first.isdigit() or not last.isdigit() or not 1 <= int(first) <= int(last):
        raise ValueError(
            f"--only {text!r}: expected i/n with i from 1 to n, such as 1/4; number a scheduler's array jobs from 1"
        )
    return int(first), int(last)
