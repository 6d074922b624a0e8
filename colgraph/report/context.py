"""What analyses look at: one network's responses to all probes, collected once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from colgraph.analysis import (
    Pairs,
    Probes,
    Result,
    among,
    responses,
    sample_pairs,
    spatial_edges,
    varying,
)
from colgraph.analysis.stats import permuted
from colgraph.models import OwnColumns
from colgraph.report.activity import (
    Activity,
    activity_of,
    class_evidence,
    collect,
    is_one_number,
    own_activity,
)
from colgraph.report.loading import PlainImages, Run
from colgraph.report.patches import Patches
from colgraph.report.shown import ProbeSet, Settings, mean_attention
from colgraph.report.some_columns import SomeColumns, is_searched
from colgraph.sheet import Sheet
from colgraph.space import Index

R = TypeVar("R", bound=Result)


_SAID = {
    "normed": "normed states",
    "evidence": "evidence",
    "hidden": "hidden units",
    "state": "states",
    "norm": "lengths of states",
    "mean": "mean channels",
}
"""Signals, as sentences have them."""
_AS_LARGE = 64
_OF_COLUMNS = (
    "of every column is disturbed, by shares of the size of its kind, and independently, also where columns share "
    "weights: so networks of one function score the same, however they are written"
)
_AS_WRITTEN = (
    "is disturbed by shares of the size of its kind, as the network has it: where one weight serves many places, all "
    "get the same noise, and the curve is not comparable with that of a sheet"
)


@dataclass(frozen=True, eq=False)
class Context:
    """A network on its sheet, with its responses.

    Attributes:
        name: what the report calls it.
        kind: "run", "untrained", "untrained-independent" (every column's own weights drawn by themselves), "input" (the
            patches), "shuffled" (positions), "shuffled-within-patches", or "trained" (a run of its own).
        net: the network.
        probes: the stimuli.
        settings: how much is computed.
        run: the run that is analyzed.
        order: ``[columns]``, for shuffled positions: column i stands in the place of column ``order[i]``.
        attention_before: ``[E]`` the untrained network's attention, for comparison.
        seed: of the run that a trained control comes from.
    """

    name: str
    kind: str
    net: PlainImages | Patches
    probes: ProbeSet
    settings: Settings
    run: Run
    order: Index | None = None
    attention_before: NDArray[np.float64] | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def shuffled(self, within: Index | None = None) -> Context:
        """The same responses with the columns' positions shuffled; the responses are not collected again.

        With ``within [columns]`` only columns of one label change places.
        """
        order = next(permuted(1, self.sheet.num_columns, self.settings.seed, within))
        everywhere = within is None
        name, kind = ("positions", "shuffled") if everywhere else ("within patches", "shuffled-within-patches")
        other = replace(self, name=f"shuffled {name}", kind=kind, order=order)
        alike = ("natural_states", "natural", "grating", *(() if "attention" in self.run.lacks else ("attention",)))
        for name in alike:
            other.__dict__[name] = getattr(self, name)
        return other

    def call(self, function: Callable[..., R], *given: Any, **named: Any) -> R:
        """Call an analysis, with what its signature has and the caller does not give taken from here.

        That is the seed, the number of permutations, how images are run, and where there are columns, their positions
        and their number.
        """
        signature = inspect.signature(function)
        taken = signature.bind_partial(*given, **named).arguments
        offered: dict[str, Any] = {
            "seed": self.settings.seed,
            "permutations": self.settings.permutations,
            "batch_size": self.settings.batch_size,
            "progress": self.settings.progress,
        }
        if "columns" not in self.run.lacks:
            offered |= {"positions": self.drawn(self.positions), "columns": len(self.positions)}
        more = {name: value for name, value in offered.items() if name in signature.parameters and name not in taken}
        return function(*given, **named, **more)

    def drawn(self, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Positions as they are, for pictures and blocks; None where they are all in one place."""
        return points if len(points) and np.ptp(points, axis=0).any() else None

    def shuffles(self, most: int) -> int:
        """The number of permutations, at most so many."""
        return min(self.settings.permutations, most)

    def said(self, reading: str) -> str:
        """How to read a figure: ``{sampled}``, ``{signal}`` and ``{activity}`` stand for what was measured.

        And ``{untrained}`` for what the network was before training, ``{itself}`` for what categories are compared by,
        ``{accuracy}`` for what it is where it is no share of images, ``{blind}`` for the null of answers, and
        ``{weights}`` for what noise on weights falls on.
        """
        signal = self.settings.signal
        name = f"channel {signal}" if isinstance(signal, int) else _SAID[signal]
        untrained = "before training" + (", when all columns were alike" if self.run.starts_alike else "")
        measured: dict[str, Any] = {"sampled": "", "signal": name, "activity": ""}
        if "columns" not in self.run.lacks:
            measured |= {"sampled": len(self.sample), "activity": self.activity.label}
        told: dict[str, str] = {"itself": "", "accuracy": f"Accuracy is the {self.run.task.accuracy_is}. ", "blind": ""}
        if self.run.says_classes:
            blind = "The null answers as often, but blindly: below it, something is left, and no more is shown. "
            told = {"itself": "; of evidence, that for the class itself", "accuracy": "", "blind": blind}
        told["weights"] = _OF_COLUMNS if hasattr(self.run.net, "to_untied") else _AS_WRITTEN
        return reading.format(untrained=untrained, **measured, **told)

    @property
    def sheet(self) -> Sheet:
        """That of the network; raises ValueError where it has none."""
        return self.net.sheet

    @property
    def size(self) -> int:
        """Columns, by which time is reckoned; without any, as many as a small sheet has."""
        return _AS_LARGE if "columns" in self.run.lacks else self.sheet.num_columns

    @property
    def edges(self) -> NDArray[np.int64]:
        """``[2,E]``."""
        return np.asarray(self.sheet.edge_index.numpy())

    @cached_property
    def beside(self) -> Index:
        """``[2,A]`` places that lie beside each other: over the surface where there is one, else the four nearest.

        Those of the sheet in space, however it is wired, so that a map scores the same in a run and its controls.
        """
        face, points = self.sheet.face.numpy(), self.sheet.pos.numpy()
        return spatial_edges(points, faces=face if face.shape[1] else None, metric=self.sheet.space)

    @property
    def place(self) -> Index:
        """``[columns]`` in the place of which column of the sheet each stands."""
        return np.arange(self.sheet.num_columns) if self.order is None else self.order

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """``[columns, 3]`` where each column stands."""
        return self.sheet.pos.numpy().astype(np.float64)[self.place]

    @cached_property
    def distance(self) -> NDArray[np.float64]:
        """``[E]`` length of each edge, between the places of its ends: that of the sheet's own edge, or by its metric.

        Raises:
            ValueError: where columns stand in places between which the metric knows no way, or too many to search.
        """
        own = self.sheet.edge_distance.numpy().astype(np.float64)
        if self.order is None:
            return own
        # Edges of a sheet are sorted by target, then by source.
        weight = np.array([1, self.sheet.num_columns])
        code, moved = weight @ self.edges, weight @ self.order[self.edges]
        nearest = np.minimum(np.searchsorted(code, moved), len(code) - 1)
        distance, others = own[nearest], code[nearest] != moved
        if others.any():
            self._check_search()
            distance[others] = self.sheet.space.between(*self.order[self.edges[:, others]])
        if not np.isfinite(distance).all():
            raise ValueError(
                f"metric {self.sheet.metric!r} does not say how far all columns of {self.sheet.geometry!r} are from "
                "each other"
            )
        return distance

    def _check_search(self, most: int = 20_000) -> None:
        """Ways from everywhere to everywhere take a minute on ten thousand columns, and sixteen times that on four."""
        columns = self.sheet.num_columns
        if is_searched(self.sheet) and columns > most:
            raise ValueError(
                f"left out on a sheet of {columns:,} columns for its time: metric {self.sheet.metric!r} searches ways "
                "across all of it where columns are dealt out anew"
            )

    @property
    def activity(self) -> Activity:
        """The one number per column that maps are made of."""
        run = self.run
        # A label per column is answered class by class, too.
        classes = run.says_classes or (run.task.labels == "column" and run.labels.dtype.kind in "iu")
        if isinstance(run.net.net, OwnColumns):
            return own_activity(self.settings.signal, run.lacks, run.net.net.channels)
        return activity_of(self.settings.signal, run.net.net.options.head, classes)

    @cached_property
    def natural_states(self) -> NDArray[np.float32]:
        """``[stimuli, steps, columns]`` one number per column for natural images, after every step."""
        return self._activity(self.probes.natural, steps="all")

    @cached_property
    def natural(self) -> NDArray[np.float32]:
        """``[stimuli, columns]`` of the last step."""
        return np.ascontiguousarray(self.natural_states[:, -1])

    @cached_property
    def grating(self) -> NDArray[np.float32]:
        """``[stimuli, columns]`` one number per column for gratings, after the last step."""
        return self._activity(self.probes.gratings)

    @cached_property
    def noise(self) -> NDArray[np.float32]:
        """``[stimuli, columns]`` one number per column for noise, after the last step."""
        return self._activity(self.probes.noise)

    @cached_property
    def sample_states(self) -> NDArray[np.float32]:
        """``[stimuli, steps, some columns, channels]`` of the signal for natural images."""
        found = self._collect(self.probes.natural, steps="all", columns=self.sample)
        return np.asarray(found[..., None] if is_one_number(self.settings.signal) else found)

    def states_of(self, columns: Index) -> NDArray[np.float32]:
        """``[stimuli, these columns]``, or with channels, of the signal for natural images after the last step."""
        return np.asarray(self._collect(self.probes.natural, columns=columns), dtype=np.float32)

    @property
    def units(self) -> tuple[NDArray[np.float32], NDArray[np.float64], Pairs]:
        """The signal of natural images for the columns at the places of :attr:`pairs`, the places, and the pairs.

        That is ``[stimuli, some columns, channels]``, or without channels, not kept: of all columns it would be large.
        """
        if is_one_number(self.settings.signal):
            return self.at_places(self.natural[:, self.answering]), self.points, self.pairs
        used, pairs = self.pairs.columns, self.pairs
        here = np.flatnonzero(self.answering)[np.argsort(self.place[self.answering])][used]
        number = [np.searchsorted(used, each) for each in (pairs.first, pairs.second)]
        vectors = self._collect(self.probes.natural, columns=here)
        return vectors, self.points[used], replace(pairs, first=number[0], second=number[1])

    @property
    def beside_input(self) -> dict[str, Any]:
        """The columns that see a patch and answer: what they respond and see, where they stand, and how far apart.

        In the order of their places; as :func:`colgraph.analysis.partial_correlation_by_distance` takes them.

        Raises:
            ValueError: if fewer than three columns that see a patch answer the probes, and for the input itself.
        """
        if not isinstance(self.net, PlainImages):
            raise ValueError("the input is what is given")
        shown = self.probes.natural
        patches = responses(Patches(replace(self.run, net=self.net)), shown, signal="state", progress=False)
        here = np.flatnonzero(self.answering & varying(patches))
        if len(here) < 3:
            raise ValueError(f"{len(here)} of the columns that see a patch answer the probes: three are needed")
        here = here[np.argsort(self.place[here])]
        one = is_one_number(self.settings.signal)
        return {
            "responses": self.natural[:, here] if one else self._collect(shown, columns=here),
            "inputs": patches[:, here],
            "positions": self.positions[here],
            "metric": SomeColumns(self.sheet.space, self.place[here]),
            "unit": self.sheet.spacing,
        }

    def class_responses(self, classes: list[int]) -> NDArray[np.float32]:
        """``[stimuli, columns, classes]``: what of natural images is compared for each class.

        Of evidence for classes that for the class itself, less the mean over all; else one number, whatever the class.
        """
        if self.activity.signal != "evidence" or not self.run.says_classes:
            return np.repeat(self.natural[..., None], len(classes), -1)
        given = self.settings.batch_size, self.settings.progress
        return np.asarray(class_evidence(self.net, self.probes.natural, classes, *given))

    @property
    def categories(self) -> NDArray[Any]:
        """``[stimuli]`` the class of each natural image.

        Raises:
            ValueError: where images have none.
        """
        found = self.probes.natural.labels.get("category")
        if found is None:
            raise ValueError(
                f"images of task {self.run.config.task} have no class each here (labels of shape "
                f"{list(self.run.labels.shape[1:])}, {self.run.labels.dtype}): it needs a class per image"
            )
        return found

    @property
    def sample(self) -> NDArray[np.int64]:
        """``[at most 256]`` columns drawn at random, ascending."""
        return np.sort(np.random.default_rng(self.settings.seed).permutation(self.sheet.num_columns)[:256])

    def class_name(self, label: Any) -> str:
        """The name of a class of natural images."""
        return self.run.classes[int(label)]

    @cached_property
    def attention(self) -> NDArray[np.float64]:
        """``[E]`` attention of each edge, the mean over natural images, steps and heads."""
        return mean_attention(self.net, self.probes.natural.images)

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        """``[columns]``: those whose response to natural images (where there are several) and to gratings varies."""
        grating = varying(self.grating)
        return grating & varying(self.natural) if len(self.natural) > 1 else grating

    @property
    def answering(self) -> NDArray[np.bool_]:
        """The active columns.

        Raises:
            ValueError: if there are none.
        """
        if not self.active.any():
            raise ValueError("no column answers the probes: each is the same for all of them")
        return self.active

    @property
    def taken(self) -> NDArray[np.bool_]:
        """``[columns]``: the places of the sheet where an active column stands.

        Raises:
            ValueError: if there are none.
        """
        taken = np.zeros(len(self.active), dtype=bool)
        taken[self.place[self.answering]] = True
        return taken

    def at_places(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values ``[..., active columns]``, in the order of the places that are taken."""
        return values[..., np.argsort(self.place[self.answering])]

    @property
    def points(self) -> NDArray[np.float64]:
        """``[active columns, 3]`` the places that are taken."""
        return self.sheet.pos.numpy().astype(np.float64)[self.taken]

    def among_taken(self, groups: Index) -> Index:
        """The sheet's edges or faces ``[k, G]`` between places that are taken, by their numbers among those.

        Raises:
            ValueError: if there are none.
        """
        inside = among(groups, self.taken)
        if not inside.shape[1]:
            raise ValueError("no two connected columns answer the probes")
        return inside

    @cached_property
    def pairs(self) -> Pairs:
        """Pairs of places that are taken, at distances of the sheet's metric."""
        # A search costs as much for one pair of a column as for a hundred.
        return sample_pairs(
            self.points,
            metric=SomeColumns(self.sheet.space, np.flatnonzero(self.taken)),
            max_columns=1000 if is_searched(self.sheet) else 4000,
            spacing=self.sheet.spacing,
            seed=self.settings.seed,
        )

    def _collect(self, probes: Probes, **options: Any) -> Any:
        given = self.settings
        options |= {"batch_size": given.batch_size, "progress": given.progress}
        return responses(self.net, probes, signal=given.signal, **options)

    def _activity(self, probes: Probes, **options: Any) -> Any:
        return collect(self.net, probes, self.activity, self.settings.batch_size, self.settings.progress, **options)
