"""The ways in which a training run ends early."""

from __future__ import annotations

from colgraph.script import ScriptError


class TrainingDivergedError(ScriptError):
    """The loss or a parameter is no longer a finite number; the message names the step."""


class LostRankError(ScriptError):
    """Another process of the run has died; the message names it and says how to go on."""


class UnwritableRunError(ScriptError):
    """The disk is full, or the run folder can no longer be written to; the message says how to go on."""


class InterruptedRunError(ScriptError):
    """A signal has stopped the run; the message says how to go on."""

    exit_code = 130
