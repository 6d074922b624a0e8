"""In which of its time steps a model is asked, and for how many it runs."""

from __future__ import annotations

import re

import torch

STEP_LOSSES = ("last", "every", "rising")
"""Which steps a loss counts, for :func:`step_weights`."""


def step_weights(kind: str, steps: int) -> list[float]:
    """How much the answer after each step counts, in order, one in all.

    Args:
        kind: "last" (the last step alone), "every" (all alike), or "rising" (in proportion to the number of the step).
        steps: time steps T.
    """
    if kind == "last":
        return [0.0] * (steps - 1) + [1.0]
    rising = [1.0] * steps if kind == "every" else [float(step) for step in range(1, steps + 1)]
    return [weight / sum(rising) for weight in rising]


def parse_steps(text: object) -> tuple[int | None, object]:
    """The least number of steps, None where it is no range, and the largest: 4 and 10 for ``4-10``.

    Raises:
        ValueError: for a range that is empty.
    """
    match = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", text) if isinstance(text, str) else None
    if match is None:
        return None, text
    least, most = map(int, match.groups())
    if not 1 <= least <= most:
        raise ValueError(f"steps: a range runs from a smaller number of at least 1 to a larger one, got {text!r}")
    return least if least < most else None, most


def drawn_steps(least: int | None, most: int, generator: torch.Generator) -> int:
    """A number of steps from ``least`` to ``most``, each as likely; ``most`` where there is no least.

    Args:
        least: the smaller number, or None.
        most: the larger.
        generator: what draws, on the CPU.
    """
    return most if least is None else int(torch.randint(least, most + 1, (1,), generator=generator))
