"""The searchlight of a run beside those of its controls: plain values, a figure, and what the report's page draws."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colgraph.analysis import rdm, responses, searchlight, spatial_edges
from colgraph.analysis.arrays import check_count
from colgraph.analysis.plotting import draw_map, look_at
from colgraph.analysis.signals import Signal
from colgraph.hints import in_one_line
from colgraph.output import finite, write_text
from colgraph.report.light_maps import FORMAT, MODELS
from colgraph.report.loading import Run
from colgraph.report.patches import Patches
from colgraph.training import RunFolder
from colgraph.viz.style import few_ticks, new_figure, save_figure


@dataclass(frozen=True)
class LightSettings:
    """How a searchlight is made.

    Attributes:
        hops: how many steps from neighbor to neighbor in space a light reaches.
        step: after which step columns are measured (0 is the first, -1 the last).
        signal: what of a column is measured, see :func:`colgraph.analysis.responses`.
        metric: of the lights' dissimilarities.
        method: "spearman" or "pearson".
        permutations: shuffles of the stimuli.
        seed: of the shuffles.
        batch_size: images at a time.
    """

    hops: int = 1
    step: int = -1
    signal: Signal = "normed"
    metric: str = "correlation"
    method: str = "spearman"
    permutations: int = 1000
    seed: int = 0
    batch_size: int = 64


Recordings = Mapping[str, Any] | Sequence[tuple[str, Any]]
"""Dissimilarities by name, as :func:`colgraph.analysis.searchlight` takes them."""


def searchlight_of(
    run: Run, stimuli: Any, recordings: Recordings, settings: LightSettings | None = None
) -> dict[str, Any]:
    """The searchlights of a run, of its untrained network (of both kinds), and of its input, for each recording.

    The input's lights are the pixels of the patches that their columns see; those without input columns are dark. The
    run's map is also made with the dissimilarities of the whole images' pixels given.

    Args:
        run: from :func:`colgraph.report.load_run`.
        stimuli: ``[stimuli, channels, height, width]`` of the size that the run's network takes, between 0 and 1 or
            bytes.
        recordings: for each name dissimilarities ``[pairs]``, ``[stimuli, stimuli]``, or these of several subjects.
        settings: how.

    Returns:
        Plain values that JSON can hold: ``light`` (what it is made of), ``columns``, ``fingerprint`` of the sheet,
        ``optimizer_steps`` of the run by then, and a list ``recordings`` of ``name``, ``subjects`` and ``models``; each
        of these has its ``model``, the numbers of ``summary()``, and the lists ``map``, ``p`` and ``p_corrected`` (None
        where a light is dark), or ``why_not``.

    Raises:
        ValueError: for no recordings, two of one name, images in another range, and for stimuli or recordings that do
            not fit, by the recording's name.
    """
    how = settings or LightSettings()
    check_count("permutations", how.permutations)
    pairs = recordings.items() if isinstance(recordings, Mapping) else recordings
    named = [(str(name), values) for name, values in pairs]
    names = [name for name, _ in named]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice or not names:
        what = f"two recordings are called {twice[0]!r}" if twice else "a searchlight needs at least one recording"
        raise ValueError(what)
    images = _images(stimuli)
    face = run.sheet.face.numpy()
    faces = face if face.shape[1] else None
    beside = spatial_edges(run.sheet.pos.numpy(), faces=faces, metric=run.sheet.space)
    models: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in named}
    for which in MODELS:
        answers, pixels = _answers(which, run, images, how)
        for name, recording in named:
            try:
                models[name].append(_model(which, answers, recording, beside, pixels, how))
            except ValueError as error:
                raise ValueError(f"recording {name!r}: {in_one_line(error)}") from error
    return {
        "format": FORMAT,
        "light": {**asdict(how), "adjacency": "four nearest" if faces is None else "faces"},
        "stimuli": len(images),
        "columns": run.sheet.num_columns,
        "fingerprint": run.sheet.fingerprint,
        "optimizer_steps": run.optimizer_steps,
        "recordings": [
            {"name": name, "subjects": found[0]["subjects"], "models": found} for name, found in models.items()
        ],
    }


def _images(stimuli: Any) -> Tensor:
    images = torch.as_tensor(stimuli)
    if images.is_floating_point() and images.numel() and not (images.amin() >= 0 and images.amax() <= 1):
        raise ValueError(
            f"stimuli must lie between 0 and 1, or be bytes, got {float(images.amin()):.3g} to "
            f"{float(images.amax()):.3g}"
        )
    return images


def _answers(
    which: str, run: Run, images: Tensor, how: LightSettings
) -> tuple[NDArray[np.float32] | str, NDArray[np.float64] | None]:
    """What a model's columns answer, or why there is none; and the dissimilarities that are given."""
    shown: dict[str, Any] = {"batch_size": how.batch_size, "progress": False}
    if which == "input":
        return responses(Patches(run), images, signal="state", **shown), None
    try:
        given = rdm(images.flatten(1)) if which == "run-given-pixels" else None
        independent = which == "untrained-independent"
        net = run.untrained(independent=independent) if which.startswith("untrained") else run.net
    except ValueError as error:
        return in_one_line(error), None
    return responses(net, images, signal=how.signal, steps=how.step, **shown), given


def _model(
    which: str,
    answers: NDArray[np.float32] | str,
    recording: Any,
    beside: NDArray[np.int64],
    given: NDArray[np.float64] | None,
    how: LightSettings,
) -> dict[str, Any]:
    if isinstance(answers, str):
        return {"model": which, "why_not": answers}
    result = searchlight(
        answers,
        recording,
        beside,
        hops=how.hops,
        metric=how.metric,
        method=how.method,
        given=given,
        permutations=how.permutations,
        seed=how.seed,
    )
    maps = {"map": result.map, "p": result.p_map, "p_corrected": result.p_corrected}
    return {"model": which, **result.summary(), **{name: finite(values.tolist()) for name, values in maps.items()}}


# ---------------------------------------------------------------------- files


def write_searchlight(run: Run, content: dict[str, Any]) -> list[Path]:
    """Write ``searchlight.json`` and a figure for each recording into the run's folder, for its report.

    Returns:
        The files.
    """
    folder = RunFolder(run.path)
    folder.figures.mkdir(exist_ok=True)
    names: list[str] = []
    for recording in content["recordings"]:
        stem = "searchlight-" + (re.sub(r"[^\w.-]+", "-", recording["name"]) or "recording")
        names.append(stem if stem not in names else f"{stem}-{len(names)}")
    paths = [folder.figures / f"{name}.png" for name in names]
    for recording, path in zip(content["recordings"], paths, strict=True):
        draw_lights(recording, run.sheet.pos.numpy().astype(np.float64), path)
        recording["figure"] = path.relative_to(run.path).as_posix()
    write_text(folder.searchlight, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return [folder.searchlight, *paths]


def draw_lights(recording: Mapping[str, Any], positions: NDArray[np.float64], path: Path) -> None:
    """The maps of a recording's models beside each other, on one color scale.

    Args:
        recording: one of the list ``recordings`` of :func:`searchlight_of`.
        positions: ``[columns, 3]``.
        path: of the picture.
    """
    shown = [one for one in recording["models"] if "map" in one]
    maps = [np.array(one["map"], dtype=np.float64) for one in shown]
    reach = max(float(np.nanmax(np.abs(values))) for values in maps)
    people = "" if recording["subjects"] == 1 else f", mean of {recording['subjects']} subjects"
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    wide, high = np.ptp(look_at(positions).points, axis=0)
    # A map is as high as its columns lie, below two lines of title and above its axis.
    height = 1.1 + 2.1 * float(np.clip(high / max(wide, 1e-9), 0.3, 1))
    figure = new_figure(3 * across, height * down + 1.2, f"Searchlight: {recording['name']}{people}")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    axes = grid[: len(shown)]
    for ax in grid[len(shown) :]:
        ax.set_axis_off()
    for ax, one, values in zip(axes, shown, maps, strict=True):
        above = np.array([p is not None and p < 0.05 for p in one["p_corrected"]])
        title = f"{MODELS[one['model']]}\nmean {one['mean']:.3f}, {above.sum()} above chance"
        draw_map(
            ax, positions, values, label="", title="", centred=True, faint=~above, limits=(-reach, reach), bar=False
        )
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7)
        ax.xaxis.label.set_size(7)
        ax.yaxis.label.set_size(7)
    figure.colorbar(
        axes[0].collections[-1],
        ax=grid,
        location="bottom",
        shrink=0.7,
        aspect=40,
        label="correlation of dissimilarities; small: not above chance (corrected for columns)",
        ticks=few_ticks(),
    )
    save_figure(figure, path)
