"""Who is told of metrics, by name: what ``--logger`` may say."""

from __future__ import annotations

from colgraph.hints import did_you_mean

LOGGERS = ("tensorboard", "wandb", "mlflow")
"""Who can be told, see :mod:`colgraph.training.loggers`."""


def parse_loggers(text: str, tensorboard: bool = True) -> tuple[str, ...]:
    """The names in ``tensorboard,wandb`` or ``none``, without TensorBoard where that is switched off.

    Raises:
        ValueError: for a name that is none or twice there, and for TensorBoard among others where it is switched off.
    """
    names = [name.strip().lower() for name in text.split(",")]
    for name in names if names != ["none"] else ():
        if name not in LOGGERS:
            hint = did_you_mean(name, LOGGERS, "; ")
            raise ValueError(f"logger: must be some of {', '.join(LOGGERS)}, or none, got {text!r}{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"logger: names one twice, got {text!r}")
    if not tensorboard and "tensorboard" in names and len(names) > 1:
        raise ValueError(f"logger: {text} names tensorboard, which is switched off: leave out one of them")
    return tuple(name for name in names if name != "none" and (tensorboard or name != "tensorboard"))
