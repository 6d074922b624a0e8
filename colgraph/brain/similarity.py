"""``colgraph rsa``: a run and its controls beside recorded dissimilarities, as plain rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from colgraph.analysis import correct_p_values, rdm, responses, sheet_regions
from colgraph.analysis.arrays import Array
from colgraph.analysis.signals import Signal
from colgraph.brain.comparison import Comparison, compare_with
from colgraph.brain.networks import Network, Networks
from colgraph.brain.rdm_parts import Rdms
from colgraph.brain.stimuli import Shown
from colgraph.hints import in_one_line
from colgraph.output import finite

RESERVED = ("run", "untrained", "untrained-independent", "pixels")


@dataclass(frozen=True)
class Choices:
    """What is compared, and how.

    Attributes:
        signals: what of columns, the first one by default.
        step: the step that is the default, counted from 1; None for the last one.
        metric: of the networks' dissimilarities, as :func:`colgraph.analysis.rdm` takes it.
        regions: of the sheet, as :func:`colgraph.analysis.sheet_regions` takes them.
        method: of the comparison, as rsatoolbox calls it.
        bootstraps: samples of subjects and stimuli.
        seed: of the samples, and of the images that checkpoints are chosen on.
        progress: show progress bars.
    """

    signals: tuple[Signal, ...] = ("normed",)
    step: int | None = None
    metric: str = "correlation"
    regions: str | None = None
    method: str = "spearman"
    bootstraps: int = 1000
    seed: int = 0
    progress: bool = False


@dataclass(frozen=True, eq=False)
class OtherData:
    """What the default step is chosen on: recordings that are not compared, and the images that were shown in them."""

    recordings: Sequence[Rdms]
    images: Tensor


@dataclass(eq=False)
class _Model:
    """One dissimilarity matrix that is compared, and what its row says of it."""

    triangle: Array
    model: str
    signal: Signal | None = None
    step: int | None = None
    region: str | None = None
    is_default: bool = True
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str | None]:
        """Of which network it is."""
        return self.model, self.more.get("equal_to")


@dataclass(frozen=True, eq=False)
class Similarities:
    """What :func:`similarities` returns.

    Attributes:
        rows: one for each recording and model, signal, step and region, plain values; the run's default row is first.
        differences: between default rows of one recording, and between the run's steps.
        missing: ``name`` and ``reason`` of what was left out.
    """

    rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    missing: list[dict[str, str]]


def joined(rdms: Sequence[Rdms], shown: Shown) -> tuple[list[Rdms], list[str]]:
    """The same matrices with their stimuli in the order of the images, and what to say of it.

    Raises:
        ValueError: if the stimuli of one do not match the images, naming both.
    """
    found, notes = [], []
    for each in rdms:
        places, more = _places(each, shown)
        found.append(each.in_order(np.argsort(places).tolist()))
        notes += [*each.notes, *more]
    return found, list(dict.fromkeys(notes))


def _places(each: Rdms, shown: Shown) -> tuple[list[int], list[str]]:
    """The place of each stimulus among the images, by whatever names it, and what to say of it.

    Raises:
        ValueError: if nothing that names them does, and if two lists of names lead to different orders.
    """
    if not each.keys:
        return shown.places(None, each.count, each.where)
    found: dict[str, tuple[list[int], list[str]]] = {}
    errors: dict[str, ValueError] = {}
    for key in each.keys:
        if each.perhaps_in in found:
            break  # a count of rows says nothing beside names
        try:
            found[key.label] = shown.places(key.names, each.count, each.where)
        except ValueError as error:
            errors[key.label] = error
    # Where there are texts, numbers beside them may be of anything; images without names can be told by numbers alone.
    texts = [key.label for key in each.keys if key.is_text and key.is_called] if shown.names is not None else []
    deciding = texts or [key.label for key in each.keys]
    used = next((label for label in deciding if label in found), None)
    if used is None:
        first = errors[deciding[0]]
        if not each.perhaps_in:
            raise first
        raise ValueError(
            f"{each.where!r}: {each.perhaps_in} may hold the names of the stimuli, which are not those of the "
            f"images of {shown.where!r}: call it 'stimuli' and give it theirs, or leave it out"
        ) from first
    other = next((label for label, (places, _) in found.items() if places != found[used][0]), None)
    if other is not None:
        raise ValueError(
            f"{each.where!r} names its stimuli in {used} and in {other}, which put the images into different orders: "
            "leave one of them out"
        )
    places, notes = found[used]
    unused = ", ".join(errors)
    said = [f"stimuli of {each.where!r} are joined by {used}, not by {unused}, which are no names of images"]
    return places, [*notes, *(said if unused else [])]


def check_other_recordings(recordings: Sequence[Rdms], others: Sequence[Rdms]) -> None:
    """Raise ValueError where the step would be chosen on a recording that it is then compared with."""
    for mine in recordings:
        for other in others:
            if mine.values.shape[1] == other.values.shape[1] and _share_a_matrix(mine, other):
                raise ValueError(
                    f"{other.name!r} of --choose-on {other.where!r} is the recording {mine.name!r} of {mine.where!r}: "
                    "a step that is chosen on what it is compared with is the best by chance, too: give another one"
                )


def given_twice(recordings: Sequence[Rdms], models: Sequence[Rdms]) -> list[str]:
    """What to say of models that are one of the recordings."""
    return [
        f"the model {model.name!r} of {model.where!r} is the recording {mine.name!r} itself"
        for model in models
        for mine in recordings
        if mine.values.shape[1] == model.values.shape[1] and _share_a_matrix(mine, model)
    ]


def _share_a_matrix(first: Rdms, second: Rdms) -> bool:
    """Whether a matrix of one is one of the other's, up to scale."""
    alike = np.corrcoef(np.concatenate([first.values, second.values]))[: len(first.values), len(first.values) :]
    return bool((alike > 1 - 1e-9).any())


def similarities(
    networks: Networks,
    images: Tensor,
    recordings: Sequence[Rdms],
    models: Sequence[Rdms],
    choices: Choices,
    chosen_on: OtherData | None = None,
) -> Similarities:
    """Every network, the pixels and every given model compared with every recording.

    Args:
        networks: the run, then its controls.
        images: ``[stimuli, channels, size, size]`` between 0 and 1.
        recordings: of the same stimuli in their order.
        models: of the same stimuli, one matrix each.
        choices: what is compared, and how.
        chosen_on: on which each network's default step is chosen; what the choices say if not given.

    Raises:
        ValueError: for a signal that the run does not have, and a run none of whose matrices is defined.
    """
    missing = list(networks.missing)
    found: list[_Model] = []
    for network in networks.all:
        try:
            found += _of_network(network, images, chosen_on, choices)
        except ValueError as error:
            if network.name == "run" and network.equal_to is None:
                raise
            missing.append({"name": network.name, "reason": in_one_line(error)})
    try:
        found.append(_Model(rdm(images.flatten(1).numpy(), choices.metric), "pixels"))
    except ValueError as error:
        missing.append({"name": "pixels", "reason": in_one_line(error)})
    found += _given(models, {each.model for each in found})
    # Sorting is stable: the run is the first of the defaults.
    found.sort(key=lambda each: not each.is_default)
    compared = compare_with(
        np.stack([each.triangle for each in found]),
        [each.values for each in recordings],
        method=choices.method,
        bootstraps=choices.bootstraps,
        seed=choices.seed,
        progress=choices.progress,
    )
    names = unique_names(recordings)
    rows, differences = [], []
    for name, recorded, one in zip(names, recordings, compared, strict=True):
        mine, pairs = _rows(name, recorded, found, one, choices), _differences(name, found, one)
        # The run is the first of all pairs of models that it is in.
        others = [row for row, each in zip(mine, found, strict=True) if each.is_default][1:]
        for row, pair in zip(others, pairs, strict=False):
            row["run_minus_this"] = {key: pair[key] for key in ("difference", "interval", "p", "p_corrected")}
        rows += mine
        differences += pairs
    return Similarities(rows, differences, missing)


def unique_names(rdms: Sequence[Rdms]) -> list[str]:
    """The names of recordings or models, with that of the file where several have one name."""
    count = Counter(each.name for each in rdms)
    names = [f"{each.name} ({Path(each.where).name})" if count[each.name] > 1 else each.name for each in rdms]
    twice = Counter(names)
    return [f"{name} {i}" if twice[name] > 1 else name for i, name in enumerate(names, start=1)]


def _given(models: Sequence[Rdms], taken: set[str]) -> list[_Model]:
    names = unique_names(models)
    clear = [f"{name} (given)" if name in taken or name in RESERVED else name for name in names]
    return [_Model(each.values[0], name, more={"file": each.where}) for name, each in zip(clear, models, strict=True)]


# ---------------------------------------------------------------------- matrices of networks


def _of_network(network: Network, images: Tensor, chosen_on: OtherData | None, choices: Choices) -> list[_Model]:
    """Of every signal and step, and of every region at the default step."""
    found = []
    for signal in choices.signals:
        number, why = _default_step(network, signal, chosen_on, choices)
        every = _of_steps(network, images, signal, choices)
        _check_defined(network, signal, number, every)
        more = {"step_chosen": why} | _about(network)
        is_first = signal == choices.signals[0]
        steps = [
            _Model(each, network.name, signal, _shown_step(network, t), None, is_first and t == number, more)
            for t, each in enumerate(every)
            if each is not None
        ]
        found += sorted(steps, key=lambda each: not each.is_default)
        found += _of_regions(network, images, signal, number, more, choices)
    return found


def _of_steps(network: Network, images: Tensor, signal: Signal, choices: Choices) -> list[Array | None]:
    """The dissimilarities ``[pairs]`` after each step; of a network without a sheet, of what is read out.

    None where they are not defined: columns that no image has reached yet answer all alike.
    """
    found: list[Array | None] = []
    for step in [None] if network.sheet is None else range(network.steps):
        answers = responses(network.net, images, steps=step, signal=signal, progress=False)
        try:
            found.append(rdm(answers, choices.metric))
        except ValueError:
            found.append(None)
    return found


def _check_defined(network: Network, signal: Signal, step: int, every: Sequence[Array | None]) -> None:
    if every[step] is None:
        raise ValueError(
            f"the {signal} answers of {network.name!r} after step {step + 1} do not vary for some stimulus: they have "
            "no dissimilarities"
        )


def _shown_step(network: Network, number: int) -> int | None:
    """Steps count from 1; what is read out of a network without a sheet is no step of the same time."""
    return None if network.sheet is None else number + 1


def _of_regions(
    network: Network, images: Tensor, signal: Signal, step: int, more: dict[str, Any], choices: Choices
) -> list[_Model]:
    if network.sheet is None:
        return []
    regions = sheet_regions(network.sheet, choices.regions)
    if len(regions) < 2:
        return []
    answers = responses(network.net, images, steps=step, signal=signal, progress=False)
    found = []
    for name, columns in regions.items():
        try:
            triangle = rdm(answers[:, columns], choices.metric)
        except ValueError:
            continue  # columns that answer all stimuli alike have no dissimilarities
        found.append(_Model(triangle, network.name, signal, step + 1, name, False, more))
    return found


def _default_step(network: Network, signal: Signal, chosen_on: OtherData | None, choices: Choices) -> tuple[int, str]:
    """The place of the default step, and how it was found: never on the recordings that are compared."""
    if network.sheet is None:
        return 0, "what is read out"
    if choices.step is not None:
        return min(choices.step, network.steps) - 1, f"--step {choices.step}"
    if chosen_on is None:
        return network.steps - 1, "the last one"
    steps = {
        t: each for t, each in enumerate(_of_steps(network, chosen_on.images, signal, choices)) if each is not None
    }
    if not steps:
        raise ValueError(f"the {signal} answers of {network.name!r} to the images of --choose-on do not vary")
    recorded = [each.values for each in chosen_on.recordings]
    compared = compare_with(np.stack(list(steps.values())), recorded, method=choices.method, bootstraps=0)
    files = ", ".join(dict.fromkeys(each.where for each in chosen_on.recordings))
    best = int(np.mean([each.similarity for each in compared], axis=0).argmax())
    return list(steps)[best], f"the best one on {files}"


def _about(network: Network) -> dict[str, Any]:
    about: dict[str, Any] = {"checkpoint": network.checkpoint or None, "optimizer_steps": network.optimizer_steps}
    if network.folder is not None:
        about["folder"] = network.folder
    if network.equal_to is not None:
        about["equal_to"] = network.equal_to
    if network.accuracy:
        about["accuracy"] = network.accuracy
    return about


# ---------------------------------------------------------------------- rows


def _rows(
    name: str, recorded: Rdms, models: Sequence[_Model], compared: Comparison, choices: Choices
) -> list[dict[str, Any]]:
    ceiling = None if compared.ceiling is None else list(compared.ceiling)
    rows = []
    for model, value, each, ends in zip(
        models, compared.similarity, compared.values, compared.intervals(), strict=True
    ):
        more = {key: what for key, what in model.more.items() if what is not None}
        if "equal_to" in more and model.is_default:
            more["default_step"] = True
        rows.append(
            {
                "recording": name,
                "subjects": len(recorded.values),
                "model": model.model,
                "signal": model.signal,
                "step": model.step,
                "region": model.region,
                "default": model.is_default and "equal_to" not in more,
                "similarity": float(value),
                "interval": finite([float(end) for end in ends]),
                "ceiling": ceiling,
                "of_subjects": {who: float(one) for who, one in zip(recorded.subjects, each, strict=True)},
                "stimuli": recorded.count,
                "method": choices.method,
                "metric": choices.metric if model.signal is not None or model.model == "pixels" else None,
                "file": recorded.where,
                **({"model_file": more.pop("file")} if "file" in more else {}),
                **more,
            }
        )
    return rows


def _differences(name: str, models: Sequence[_Model], compared: Comparison) -> list[dict[str, Any]]:
    """Of all pairs of default rows, and of all pairs of the run's steps; p-values corrected within each."""
    of_models = [i for i, each in enumerate(models) if each.is_default]
    run = models[0]
    of_steps = sorted(
        (i for i, each in enumerate(models) if each.key == run.key and each.signal == run.signal and not each.region),
        key=lambda i: models[i].step or 0,
    )
    found = []
    for what, chosen in (("models", of_models), ("steps of the run", of_steps)):
        pairs = compared.differences(chosen)
        corrected = correct_p_values({k: pair["p"] for k, pair in enumerate(pairs)}).benjamini_hochberg
        for pair, p in zip(pairs, corrected, strict=True):
            first, second = (models[chosen[pair[side]]] for side in ("first", "second"))
            found.append(
                {"recording": name, "between": what, "first": _called(first), "second": _called(second)}
                | {key: pair[key] for key in ("difference", "interval", "p")}
                | {"p_corrected": float(p)}
            )
    return found


def _called(model: _Model) -> dict[str, Any]:
    which = {"model": model.model, "step": model.step, "signal": model.signal}
    return which | {key: model.more[key] for key in ("equal_to", "checkpoint") if model.more.get(key)}
