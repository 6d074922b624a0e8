"""A network of the user's own that has columns: what it must bring, tried once, and how it is run for analyses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from colgraph.models.unrolled import RECORDS
from colgraph.models.vision import VisionColumnformer, VisionUnroll
from colgraph.sheet import Sheet


class SheetNetwork(Protocol):
    """What makes the columns of a network known. It is a ``torch.nn.Module`` from images to logits beside that.

    What else it may have, as :class:`colgraph.VisionColumnformer` has it: ``steps`` (a number), ``normed(state)``,
    ``evidence(state)`` ``[N,B,classes]``, and an ``unroll`` that takes ``record=`` and returns the attributes of
    :class:`colgraph.models.Unroll`.

    Attributes:
        sheet: N columns in space and their edges.
    """

    sheet: Sheet

    def unroll(
        self, images: Tensor, *, state: Tensor | None = None, steps: int | None = None, start: int | None = None
    ) -> Any:
        """Run on images ``[B,channels,S,S]``; what is returned has ``state`` ``[N,B,C]``, that after the last step.

        Args:
            images: normalized.
            state: ``[N,B,C]`` to go on from; that before the first step if not given.
            steps: how many; all if not given.
            start: the number of the first of them, from 0.
        """

    def classify(self, state: Tensor) -> Tensor:
        """Logits ``[B,classes]`` from a state ``[N,B,C]``."""


def sheet_of(network: nn.Module) -> Sheet | None:
    """The sheet of a network of the user's own; None where it has no columns.

    Raises:
        ValueError: for an attribute ``sheet`` that is none, and for a sheet without ``unroll`` or ``classify``.
    """
    if isinstance(network, VisionColumnformer):
        return network.model.sheet
    name, sheet = type(network).__name__, getattr(network, "sheet", None)
    if sheet is None:
        return None
    if not isinstance(sheet, Sheet):
        raise ValueError(
            f"the network {name} has a sheet of type {type(sheet).__name__}, expected a colgraph.Sheet: give it one, "
            "or the attribute another name"
        )
    for method, takes in (("unroll", "images, state=, steps=, start="), ("classify", "state")):
        if not callable(getattr(network, method, None)):
            raise ValueError(
                f"the network {name} has a sheet of {sheet.num_columns} columns but no {method}({takes}): give it this "
                "method, or no attribute sheet"
            )
    return sheet


class OwnColumns(nn.Module):
    """A :class:`SheetNetwork` with the ends that analyses ask of a sheet.

    Args:
        network: the network, in evaluation mode; it is tried on the images.
        images: ``[B,channels,S,S]``, as the network takes them. With more or fewer of them than columns, a state that
            has the batch first is told from one that has the columns first.

    Attributes:
        sheet: its sheet.
        steps: how many steps it takes; 1 where it does not say so.
        channels: C of a state.
        num_classes: how many numbers it answers.
        lacks: what analyses may ask of a network and this one does not have, and why: "states" (after every step),
            "stepping" (to go on from a state), "attention", "heard", "hidden", "evidence".

    Raises:
        ValueError: where states, answers or what is recorded are not of the shapes that the sheet gives them, and where
            the network answers otherwise than its last state says.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        sheet = sheet_of(network)
        if sheet is None:
            raise ValueError(f"the network {type(network).__name__} has no sheet")
        self.network, self.sheet = network, sheet
        self._name = type(network).__name__
        self._records: tuple[str, ...] = ()
        self.lacks: dict[str, str] = {}
        with torch.no_grad():
            self._try(images)

    # ------------------------------------------------------------------ what is asked of it

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B,classes]``."""
        logits: Tensor = self.network(images)
        return logits

    def classify(self, state: Tensor) -> Tensor:
        """Logits ``[B,classes]`` from a state ``[N,B,C]``."""
        logits: Tensor = self._network.classify(state)
        return logits

    def unroll(
        self,
        images: Tensor,
        *,
        state: Tensor | None = None,
        steps: int | None = None,
        start: int | None = None,
        history: Tensor | None = None,
        record: Collection[str] = (),
    ) -> VisionUnroll:
        """Run, and keep what is asked for; states that the network does not keep are those of one step after another.

        Raises:
            ValueError: for what the network does not record.
        """
        given = {"state": state, "steps": steps, "start": start, "history": history}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        wanted = tuple(name for name in record if name in self._records)
        for name in {*record} - {*wanted, "state"}:
            raise ValueError(self.lacks[name])
        seen: list[Tensor] = []
        if "state" in record and "state" not in wanted and not options and "stepping" not in self.lacks:
            self._walk(images, seen.append)
        out = self._network.unroll(images, **options, **({"record": wanted} if wanted else {}))
        kept = {_ATTRIBUTES[name]: getattr(out, _ATTRIBUTES[name]) for name in wanted}
        if "state" in record and "state" not in wanted:
            kept["states"] = torch.stack(seen or [out.state])
        cost = out.state.new_zeros(())
        history = getattr(out, "history", None)
        return VisionUnroll(out.state, cost, logits=self.classify(out.state), history=history, **kept)

    def _walk(self, images: Tensor, see: Callable[[Tensor], None]) -> Tensor:
        """The last state of one step after another, each of which is shown."""
        out = self._network.unroll(images, steps=1)
        see(out.state)
        for t in range(1, self.steps):
            history = getattr(out, "history", None)
            more = {} if history is None else {"history": history}
            out = self._network.unroll(images, state=out.state, steps=1, start=t, **more)
            see(out.state)
        last: Tensor = out.state
        return last

    def __getattr__(self, name: str) -> Any:
        if name in _OF_STATES:  # there, where the network has it
            return getattr(super().__getattr__("network"), name)
        return super().__getattr__(name)

    @property
    def _network(self) -> Any:
        return self.network

    # ------------------------------------------------------------------ whether it is there

    def _try(self, images: Tensor) -> None:
        self.steps, says = self._own_steps()
        state = self._called("unroll(images)", lambda: self._network.unroll(images).state)
        self._check_state(state, images, "unroll(images)")
        self.channels = state.size(-1)
        self._check_answer(state, images)
        taken = inspect.signature(self._network.unroll).parameters.values()
        if any(each.name == "record" or each.kind is each.VAR_KEYWORD for each in taken):
            self._records = tuple(name for name in RECORDS if self._recorded(name, images))
        else:
            self.lacks |= {name: f"{self._name} keeps no {name!r}: its unroll takes no record=" for name in RECORDS[1:]}
        if "state" in self._records and not says:
            self.steps, says = len(self._network.unroll(images, record=("state",)).states), True
        if not says:
            self.lacks["stepping"] = f"{self._name} does not say how many steps it takes: it needs an attribute steps"
        else:
            self._try_stepping(images, state)
        if "stepping" in self.lacks and "state" not in self._records:
            self.lacks["states"] = f"the states after each step are not known: {self.lacks['stepping']}"
        self._try_readout(state)

    def _own_steps(self) -> tuple[int, bool]:
        steps = getattr(self.network, "steps", None)
        if steps is None:
            return 1, False
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"{self._name}.steps must be a whole number of at least 1, got {steps!r}")
        return steps, True

    def _called(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the network {self._name} has a sheet, and its {what} failed: {type(error).__name__}: {reason}"
            ) from error

    def _check_state(self, state: Any, images: Tensor, what: str) -> None:
        columns, count = self.sheet.num_columns, len(images)
        fits = isinstance(state, Tensor) and state.dim() == 3 and tuple(state.shape[:2]) == (columns, count)
        if not fits or not state.is_floating_point() or not state.size(-1):
            found = list(state.shape) if isinstance(state, Tensor) else type(state).__name__
            raise ValueError(
                f"the network {self._name} has a sheet of {columns} columns, and the state of {what} is {found}: "
                f"expected [columns, images, channels], here [{columns}, {count}, C]"
            )

    def _check_answer(self, state: Tensor, images: Tensor) -> None:
        """The states that are analyzed must be those that answer; where answers are drawn at random, who knows."""
        logits, said = self(images), self._called("classify(state)", lambda: self.classify(state))
        self.num_classes = logits.size(-1)
        if not isinstance(said, Tensor) or said.shape != logits.shape:
            found = list(said.shape) if isinstance(said, Tensor) else type(said).__name__
            raise ValueError(
                f"the network {self._name} answers {list(logits.shape)}, its classify(state) {found}: expected the same"
            )
        if _alike(logits, self(images)) and not _alike(logits, said):
            raise ValueError(
                f"the network {self._name} answers otherwise than classify(unroll(images).state), by up to "
                f"{float((logits - said).abs().max()):.3g}: the state must be what it answers from"
            )

    def _recorded(self, name: str, images: Tensor) -> bool:
        """Whether the network keeps something, of the right shape; why not, where it does not."""
        attribute, count = _ATTRIBUTES[name], len(images)
        try:
            found = getattr(self._network.unroll(images, record=(name,)), attribute, None)
        except Exception as error:
            found, reason = None, f": {type(error).__name__}: {' '.join(str(error).split())[:120]}"
        else:
            reason = ""
        if found is None:
            if name != "state":
                self.lacks[name] = f"{self._name} keeps no {name!r}{reason}"
            return False
        rows = {"attention": self.sheet.edge_index.size(1)}.get(name, self.sheet.num_columns)
        sizes = {"state": "C", "attention": "heads", "heard": "heads, C / heads", "hidden": "units"}[name]
        dims = 4 + sizes.count(",")
        fits = isinstance(found, Tensor) and found.dim() == dims and tuple(found.shape[1:3]) == (rows, count)
        if not fits:
            what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"the network {self._name} has a sheet of {self.sheet.num_columns} columns and "
                f"{self.sheet.edge_index.size(1)} edges, and of {attribute} the shape {what}: expected "
                f"[steps, {rows}, {count}, {sizes}]"
            )
        return True

    def _try_stepping(self, images: Tensor, state: Tensor) -> None:
        """Whether one step after another is the whole; other states in between would be a network of another kind."""
        seen: list[Tensor] = []
        try:
            last = self._walk(images, seen.append)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            self.lacks["stepping"] = (
                f"{self._name} does not run step by step: unroll(images, state=, steps=1, start=) failed "
                f"({type(error).__name__}: {reason})"
            )
            return
        for each in seen:
            self._check_state(each, images, "a single step, unroll(images, steps=1),")
        if not _alike(last, state):
            self.lacks["stepping"] = (
                f"{self._name} has another state after {self.steps} single steps, unroll(images, state=, steps=1, "
                "start=), than after unroll(images)"
            )

    def _try_readout(self, state: Tensor) -> None:
        columns, count = state.shape[:2]
        if not hasattr(self.network, "evidence"):
            self.lacks["evidence"] = f"{self._name} has no method evidence(state): what each column says for each class"
        for name in _OF_STATES:
            if not hasattr(self.network, name):
                continue
            method = getattr(self._network, name)
            found = self._called(f"{name}(state)", lambda method=method: method(state))  # type: ignore[misc]
            if not isinstance(found, Tensor) or found.dim() != 3 or tuple(found.shape[:2]) != (columns, count):
                shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(
                    f"{name}(state) of the network {self._name} is {shape}: expected [{columns}, {count}, ...], a "
                    "row for each column and image"
                )


_OF_STATES = ("normed", "evidence")
_ATTRIBUTES = {"state": "states", "attention": "attention", "heard": "heard", "hidden": "hidden"}


def _alike(a: Tensor, b: Tensor) -> bool:
    scale = max(float(a.abs().max()), 1e-6)
    return a.shape == b.shape and bool(((a - b).abs() <= 1e-3 * scale).all())
