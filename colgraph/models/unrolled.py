"""What running a sheet returns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

RECORDS = ("state", "attention", "heard", "hidden")


@dataclass
class Unroll:
    """What :meth:`colgraph.Columnformer.unroll` returns.

    Attributes:
        state: ``[N,B,C]`` after the last step.
        wiring_cost: scalar, the mean over steps, columns, batch and heads of ``sum_j a_ij d_ij^p``, in the sheet's
            units of distance. On the complete graph it is N times the original's ``(dist * attn).mean()``, which
            averages over pairs instead of summing over j.
        states: ``[T,N,B,C]`` after each step, where "state" was recorded.
        attention: ``[T,E,B,H]`` in edge order, where "attention" was recorded.
        heard: ``[T,N,B,H,C/H]`` the values that others hear of each column, by head, where "heard" was recorded. What
            arrives along an edge is its attention times the source's value. With conduction delays there are D N rows
            in place of N, row ``(d - 1) N + j`` what column j said ``d - 1`` steps before; see ``heard_rows``.
        hidden: ``[T,N,B,M]`` the MLP's hidden units after the nonlinearity, where "hidden" was recorded.
        history: with conduction delays of up to D steps, ``[D-1,N,B,C]``, what going on from ``state`` needs beside it:
            the states at the beginning of the last D - 1 steps, the latest last, zero before the first step. None
            without delays.
        heard_rows: ``[E]`` int64, with conduction delays the row of ``heard`` that arrives along each edge, else None.
    """

    state: Tensor
    wiring_cost: Tensor
    states: Tensor | None = None
    attention: Tensor | None = None
    heard: Tensor | None = None
    hidden: Tensor | None = None
    history: Tensor | None = None
    heard_rows: Tensor | None = None


def why_recorded_plain(record: Collection[str]) -> str | None:
    """What is recorded that the fused column step does not keep; None where that is nothing."""
    kept = [name for name in RECORDS[1:] if name in record]
    return f"recording {' and '.join(kept)}" if kept else None
