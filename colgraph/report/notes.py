"""What each control takes away, and where it is so by construction that it says little of what was learned."""

from __future__ import annotations

from colgraph.report.catalogue import PLACELESS, Analysis
from colgraph.report.context import Context

_ABOUT = {
    "untrained": "learning: the run's own network, drawn again from its seed",
    "untrained-independent": "learning, and all that columns have in common: each column's own weights are drawn by "
    "themselves, with the mean and variance that the tensors have before training",
    "input": "the network: the pixels of the patch that each input column sees; all other columns are left out",
    "shuffled": "place, from the analysis: the run's own responses, columns dealt out anew over the sheet, whose own "
    "distances hold between places",
    "shuffled-within-patches": "place, but for what the patches give: columns that see one patch are dealt out anew "
    "among themselves",
}
_TIED = "; before training its columns are all alike (shared weights, differences of zero)"

_GRAPHS = ("modularity", "small_world", "communicability", "rich_club")
_WIRE = ("wiring", "edge_lengths")

_ONE_DRAW = "by construction: one draw of what the null shuffles"
_RELABELLED = (
    "near chance by construction: it was trained on the same graph and patches, and its columns got other places; no "
    "evidence that training makes maps"
)
_LONGER = "longer by construction where the run's edges are local: compare each with its own null"
_NOTES: dict[tuple[str, str], str] = {
    **{("shuffled", key): _LONGER for key in _WIRE},
    **{(name, key): _LONGER for key in _WIRE for name in ("random graph", "trained on shuffled positions")},
    **{
        ("no wiring cost", key): "the run's loss has this very term: a difference shows that the term works"
        for key in _WIRE
    },
    **{("random graph", key): "drawn as the random graphs of the null are, by construction" for key in _GRAPHS},
    ("random graph", "strengths"): "listens to, and is heard by, as many columns as the run's, by construction",
}


def about(context: Context) -> str:
    """What a control takes away from the run, in words."""
    if context.kind == "trained":
        return f"a run of its own, trained otherwise in one setting alone (seed {context.seed})"
    if context.kind == "untrained" and context.run.config.is_own:
        return f"learning: the network as {context.run.config.model} makes it, with the run's seed"
    begun = context.run.config.init
    took = "" if begun is None else f", and what the run took over from {begun}"
    tied = context.kind == "untrained" and context.run.starts_alike
    drawn = context.kind.startswith("untrained")
    return _ABOUT[context.kind] + (took if drawn else "") + (_TIED if tied else "")


def note_of(item: Analysis, context: Context) -> str | None:
    """Why a control says little of a measure, where that is so: what comes out of it follows from how it is made."""
    given = _NOTES.get((context.kind, item.key)) or _NOTES.get((context.name, item.key))
    if given or item.family != "topography":
        return given
    if context.kind == "shuffled":
        return _ONE_DRAW
    if context.name == "trained on shuffled positions" and item.controls != PLACELESS:
        return _RELABELLED
    if context.kind == "untrained" and context.run.starts_alike:
        return "columns are all alike here, and differ by their patch, their neighbors and their embedding alone"
    return None
