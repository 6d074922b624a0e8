"""How an analysis of the report is declared: its names, how it is read, and the controls that say something of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from colgraph.analysis import Result
from colgraph.report.context import Context

__all__ = ["ANSWERS", "NO_CONTROL", "PLACED", "PLACELESS", "Analysis", "Catalogue"]

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
    """

    key: str
    title: str
    family: str
    reading: str
    controls: tuple[str, ...]
    compute: Callable[[Context], Result]


NO_CONTROL = {
    "shuffled": "does not depend on where columns lie",
    "untrained": "answers by chance",
}
"""Why an analysis is not asked of some kinds of controls."""

PLACED = ("untrained", "shuffled", "trained")
PLACELESS = ("untrained", "trained")
ANSWERS = ("trained",)


class Catalogue(list[Analysis]):
    """Analyses in the order in which they are declared."""

    def family(self, family: str) -> Callable[..., Callable[[Callable[[Context], R]], Callable[[Context], R]]]:
        """A decorator that makes of a function an analysis of this family, whose key is the function's name.

        An analysis that has nothing to do with places is computed once for a network, wherever its columns stand.
        """

        def declare(title: str, reading: str, controls: tuple[str, ...] = PLACED) -> Any:
            def add(compute: Callable[[Context], R]) -> Callable[[Context], R]:
                key = compute.__name__

                def once(context: Context) -> R:
                    if key not in context.shared:
                        context.shared[key] = compute(context)
                    found: R = context.shared[key]
                    return found

                chosen = compute if "shuffled" in controls else once
                self.append(Analysis(key, title, family, reading, controls, chosen))
                return chosen

            return add

        return declare
