"""How an analysis of the report is declared: its names, how it is read, and the controls that say something of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from colgraph.analysis import Result
from colgraph.hints import in_one_line
from colgraph.report.context import Context

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Analysis:
    """One analysis of the report.

    Attributes:
        key: its name in files and for ``--only``.
        title: its heading.
        family: "topography", "connectivity", "representation", "fields" or "robustness".
        reading: how to read the figure; see :meth:`colgraph.report.context.Context.said` for what braces stand for.
        controls: the kinds of controls for which it is computed, too.
        compute: from a context to a result.
        needs: what of :data:`colgraph.report.needs.NEEDS` the network must have.
    """

    key: str
    title: str
    family: str
    reading: str
    controls: tuple[str, ...]
    compute: Callable[[Context], Result]
    needs: tuple[str, ...] = ()


PLACED = ("untrained", "untrained-independent", "input", "shuffled", "shuffled-within-patches", "trained")
PLACELESS = ("untrained", "untrained-independent", "input", "trained")
ANSWERS = ("trained",)

_OF_INPUT = {
    "connectivity": "patches listen to nothing: there is no attention",
    "fields": "by definition a patch sees itself and nothing else",
    "robustness": "patches give no answers",
}


def no_control(item: Analysis, kind: str) -> str | None:
    """Why an analysis is not asked of a kind of controls; None where it is."""
    if kind == "input" and item.family in _OF_INPUT:
        return _OF_INPUT[item.family]
    if kind in item.controls:
        return None
    if kind == "input":
        return "it is what is given"
    return "does not depend on where columns lie" if kind.startswith("shuffled") else "answers by chance"


class Catalogue(list[Analysis]):
    """Analyses in the order in which they are declared."""

    def family(
        self, family: str, *all_need: str
    ) -> Callable[..., Callable[[Callable[[Context], R]], Callable[[Context], R]]]:
        """A decorator that makes of a function an analysis of this family, whose key is the function's name.

        What ``all_need`` of a network, and what one of them ``needs`` beside it, is said before it is computed.
        An analysis that has nothing to do with places is computed once for a network, wherever its columns stand.
        """

        def declare(
            title: str, reading: str, controls: tuple[str, ...] = PLACED, *, needs: tuple[str, ...] = ()
        ) -> Any:
            def add(compute: Callable[[Context], R]) -> Callable[[Context], R]:
                key = compute.__name__

                def once(context: Context) -> R:
                    if key not in context.shared:
                        context.shared[key] = compute(context)
                    found: R = context.shared[key]
                    return found

                chosen = compute if "shuffled" in controls else once
                self.append(Analysis(key, title, family, reading, controls, chosen, (*all_need, *needs)))
                return chosen

            return add

        return declare


def attempt(item: Analysis, context: Context) -> tuple[Result | None, str | None]:
    """A result, or why the analysis does not apply; a missing package is a reason, too."""
    lacks = context.run.lacks
    lacking = next((lacks[need] for need in item.needs if need in lacks), None)
    if lacking is not None:
        return None, lacking
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            result = item.compute(context)
        _check_defined(result)
        return result, None
    except (ValueError, ImportError) as error:
        return None, in_one_line(error)


def _check_defined(result: Result) -> None:
    """Raise ValueError where a number came out that is none: it would be a hole in a table."""
    for what, numbers in (("number", np.array([result.value])), ("null", result.null)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"its {what} is not defined here: {result.name} came out as {numbers.flat[0]:g}")
