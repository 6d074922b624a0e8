"""The folder of a run: its settings, steps, results, predictions, checkpoints and figures."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colgraph.data import IGNORED
from colgraph.hints import in_one_line
from colgraph.output import replacing, write_text
from colgraph.training.errors import UnwritableRunError
from colgraph.training.lock import check_settled
from colgraph.training.resume import RunRecord, changes_text, read_record

_KEPT = re.compile(r"step-\d{7,}")


class _Inside:
    """A file or folder of a run, by its place in the run's folder."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, run: RunFolder | None, kind: type[RunFolder]) -> Path:
        if run is None:
            return self  # type: ignore[return-value]  # of the class itself, as a property is
        return run.path.joinpath(*self._parts)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it writes, and the way back to it.

    Attributes:
        path: the folder.
        resume: whether the run goes on from ``last``.
        overwrite: whether what an earlier run left is to be replaced.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    config = _Inside("config.yaml")
    """All settings of the run."""
    metrics = _Inside("metrics.csv")
    """One row per step, those at the end of an epoch with its results."""
    summary = _Inside("summary.json")
    """Results, once the run has ended."""
    predictions = _Inside("predictions.npz")
    """What the model says of each test image, once the run has ended."""
    checkpoints = _Inside("checkpoints")
    """The folder of ``last.ckpt``, ``best.ckpt`` and those kept on the way."""
    last = _Inside("checkpoints", "last.ckpt")
    """The newest checkpoint."""
    best = _Inside("checkpoints", "best.ckpt")
    """The checkpoint with the highest held-out accuracy."""
    figures = _Inside("figures")
    """The folder of the PNG files."""
    tensorboard = _Inside("tensorboard")
    """The folder of TensorBoard's event files."""
    images = _Inside("images")
    """The folder of parquet files of a run on arrays, see :func:`colgraph.training.fit`."""
    mlflow = _Inside("mlflow")
    """The folder of MLflow's files, where no tracking server is named."""
    wandb = _Inside("wandb")
    """The folder of W&B's files."""
    loggers = _Inside("loggers.json")
    """Which runs of W&B and MLflow are told of this one."""
    searchlight = _Inside("searchlight.json")
    """Where on the sheet recordings are found, which the report's page draws."""
    analysis = _Inside("analysis")
    """The folder of what ``colgraph analyse`` finds."""
    plasticity = _Inside("plasticity.json")
    """Which edges a run with ``rewire`` has won and lost."""
    encoding = _Inside("encoding.json")
    """What ``colgraph encode`` finds, where no other file is named."""
    rsa = _Inside("rsa.json")
    """What ``colgraph rsa`` finds, where no other file is named."""

    @property
    def kept(self) -> list[Path]:
        """The checkpoints kept on the way (``--keep-checkpoints``), in order of steps."""
        return sorted(path for path in self.checkpoints.glob("step-*.ckpt") if _KEPT.fullmatch(path.stem))

    def kept_at(self, step: int) -> Path:
        """The checkpoint that is kept after a step."""
        return self.checkpoints / f"step-{step:07d}.ckpt"

    def evaluation(self, data: str | None = None, split: str = "test", checkpoint: str = "last") -> Path:
        """``evaluation.json``; one of another checkpoint, split or data says which in its name."""
        name = "" if data is None else Path(data).name
        # Options of made data have points in their numbers: mazes:openness=0.6.
        name = name if "=" in name else name.partition(".")[0]
        other = "" if data is None else re.sub(r"[^\w.-]+", "-", name) or "data"
        words = [word for word, usual in ((checkpoint, "last"), (split, "test"), (other, "")) if word != usual]
        return self.path / f"{'-'.join(['evaluation', *words])}.json"

    # ------------------------------------------------------------------ reading

    @property
    def is_run(self) -> bool:
        """Whether there is a run, however far it has come."""
        return self.config.is_file()

    @property
    def finished(self) -> bool:
        """Whether the run has its results."""
        return self.summary.is_file()

    def check(self) -> None:
        """Raise ValueError where there is no run."""
        if not self.path.is_dir():
            raise ValueError(f"{str(self.path)!r} is no run folder: it does not exist or is a file")
        if not self.is_run:
            raise ValueError(f"{str(self.path)!r} is no run folder: it has no {self.config.name}")

    def checkpoint(self, name: str = "last") -> Path:
        """The file of a checkpoint that is there to be read: "last", "best", or one kept on the way: "step-0000100".

        Raises:
            ValueError: where there is no run or no such checkpoint, and while another process trains the run.
        """
        self.check()
        file = self.checkpoints / f"{name}{self.last.suffix}"
        if not file.is_file():
            missing, there = file.relative_to(self.path).as_posix(), ", ".join(path.name for path in self.kept)
            hint = f"it has {there}" if there and _KEPT.fullmatch(name) else "train it first"
            raise ValueError(f"run {str(self.path)!r} has no checkpoint ({missing} is missing): {hint}")
        check_settled(self.path)
        return file

    def record(self) -> RunRecord:
        """What ``config.yaml`` says; raises ValueError as :func:`read_record` does."""
        return read_record(self.config)

    def check_sheet(self, what: str) -> None:
        """Raise ValueError for a run of a baseline, or a network of one's own; ``what`` is not done with those."""
        self.check()
        config = self.record().config
        if config.is_own:
            raise ValueError(
                f"run {str(self.path)!r} trained {config.baseline}: only colgraph's own models with a sheet are "
                f"{what}; colgraph evaluate, analyze and report take it, and colgraph.analysis its responses as arrays"
            )
        if config.baseline is not None:
            raise ValueError(
                f"run {str(self.path)!r} trained {config.baseline}, a baseline: only models with a sheet are {what}"
            )

    def settings(self) -> dict[str, Any]:
        """The settings as plain values, and what was changed when the run went on; empty where there is no run.

        Raises:
            ValueError: as :func:`read_record` does.
        """
        if not self.is_run:
            return {}
        record = self.record()
        changed = changes_text(record.changes)
        return record.config.flat() | ({"changes": changed} if changed else {})

    def results(self) -> dict[str, Any]:
        """What ``summary.json`` holds; empty where the run has not ended.

        Raises:
            ValueError: if it cannot be read.
        """
        if not self.finished:
            return {}
        try:
            content = json.loads(self.summary.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {str(self.summary)!r}: {error}") from error
        return content if isinstance(content, dict) else {}

    def predicted(self) -> dict[str, NDArray[Any]] | None:
        """What ``predictions.npz`` holds; None where there is none.

        Arrays ``image`` (a key for each of n, see :meth:`colgraph.data.ImageSet.keys`); ``label`` and ``prediction``
        (indices ``[n]``, or ``[n,columns]`` with -100 where a column does not count), or ``score`` (``[n]``); and
        ``classes`` (names).

        Raises:
            ValueError: if it cannot be read, or holds indices of no class or no numbers.
        """
        if not self.predictions.is_file():
            return None
        try:
            with np.load(self.predictions, allow_pickle=False) as file:
                said = ("score",) if "score" in file else ("label", "prediction")
                found = {name: file[name] for name in ("image", *said, "classes")}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"cannot read {str(self.predictions)!r}: {error}") from error
        shapes = {found[name].shape for name in said}
        of_each = len(shapes) == 1 and found["image"].ndim == 1 and shapes.pop()[:1] == found["image"].shape
        if not of_each or not len(found["image"]) or not _are_answers(found):
            raise ValueError(
                f"{str(self.predictions)!r} does not hold labels and predictions by the numbers of classes, or scores"
            )
        return found

    # ------------------------------------------------------------------ writing

    def prepare(self, record: RunRecord, ended: bool = False) -> None:
        """Make the folder ready to be written to: remove an earlier run if asked to, and write ``config.yaml``.

        Only what a run writes, and what was measured of it, is removed; other files in the folder stay.

        Args:
            record: the settings and what became of them.
            ended: whether the run that goes on has nothing left to do, so that its results stand.
        """
        if self.overwrite:
            patterns = ("evaluation*.json", "confusion*.png", "steps*.png", "rsa.png", "rsa-differences.json")
            measured = [path for pattern in patterns for path in self.path.glob(pattern)]
            for path in (
                self.searchlight,
                self.loggers,
                self.metrics,
                self.config,
                self.encoding,
                self.rsa,
                self.plasticity,
                self.predictions,
                self.analysis / "results.json",
                *measured,
            ):
                path.unlink(missing_ok=True)
            for path in (self.checkpoints, self.figures, self.tensorboard, self.wandb, self.mlflow):
                shutil.rmtree(path, ignore_errors=True)
        with writing(self.path):
            if not ended:
                self.summary.unlink(missing_ok=True)
                self.predictions.unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
            # Settings first: they make the folder that of a run, however soon it ends.
            write_text(self.config, record.text())
            for path in (self.checkpoints, self.figures):
                path.mkdir(exist_ok=True)

    def write_predictions(self, found: Mapping[str, NDArray[Any]]) -> None:
        """Write ``predictions.npz``."""
        with writing(self.predictions, f"go on with --resume --out {self.path}"), replacing(self.predictions) as part:
            np.savez_compressed(part, **found)  # type: ignore[arg-type]

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        with writing(self.summary, f"go on with --resume --out {self.path}"):
            write_text(self.summary, json.dumps(dict(summary), indent=2) + "\n")


def _are_answers(found: Mapping[str, NDArray[Any]]) -> bool:
    """Whether scores are numbers, and labels and predictions those of classes, or of columns that do not count."""
    if "score" in found:
        return found["score"].ndim == 1 and found["score"].dtype.kind == "f" and bool(np.isfinite(found["score"]).all())
    label, prediction, classes = (found[name] for name in ("label", "prediction", "classes"))
    if label.ndim not in (1, 2) or not label.size or label.dtype.kind not in "iu" or prediction.dtype.kind not in "iu":
        return False
    counted = label[label != IGNORED] if label.ndim > 1 else label
    return all(bool(((each >= 0) & (each < len(classes))).all()) for each in (counted, prediction))


def finished_runs(path: Path) -> list[Path]:
    """The run folder itself, if it holds a finished run; else those of finished runs in it, by name."""
    inside = sorted(path.iterdir()) if path.is_dir() and not RunFolder(path).finished else [path]
    return [folder for folder in inside if RunFolder(folder).finished]


@contextlib.contextmanager
def writing(path: Path, hint: str = "", part: Path | None = None) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written to into an error of one line.

    Args:
        path: what is being written.
        hint: how to go on.
        part: an unfinished file that is then removed.

    Raises:
        UnwritableRunError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        reason = error.strerror or in_one_line(error)
        more = f"; what was saved before is intact: {hint}" if hint else ""
        raise UnwritableRunError(f"cannot write {str(path)!r}: {reason}{more}") from error
