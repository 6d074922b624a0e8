"""Data sets of the Hugging Face Hub, with a bounded wait when it cannot be reached."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

from colgraph.data.labels import EncodedSplits, Join, Part, import_datasets, join_parts
from colgraph.data.splits import split_of
from colgraph.hints import reason_of

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PROBE_SECONDS = 12.0


def load_hub(name: str, join: Join = join_parts) -> EncodedSplits:
    """A data set with an image and a label column, by its Hub id ``owner/name``.

    The Hub is first asked whether it has the data set, for at most ``PROBE_SECONDS``. If it does not answer, a copy
    downloaded earlier is used where there is one.

    Raises:
        ValueError: if the Hub cannot be reached, has no such data set or does not give it away.
    """
    datasets = import_datasets()
    fault = _probe(name)
    if fault is None:
        tables = _load(datasets, name)
    else:
        refused = _refusal(name, fault)
        if refused is not None:
            raise ValueError(refused) from fault
        try:
            with _offline():
                tables = _load(datasets, name)
        except ValueError:
            raise ValueError(
                f"cannot reach the Hugging Face Hub for {name!r} ({reason_of(fault)}) and no downloaded copy is here: "
                "use --data digits (needs no network) or --data <folder> with one subfolder per class"
            ) from fault
    return _joined(name, {str(key): table for key, table in tables.items()}, join)


def _joined(name: str, tables: dict[str, Any], join: Join) -> EncodedSplits:
    by_split: dict[str, str] = {}
    for key in tables:
        split = split_of(key)
        if split in by_split:
            raise ValueError(f"{name!r} has two {split} splits: {by_split[split]!r} and {key!r}")
        if split is not None:
            by_split[split] = key
    if "train" not in by_split:
        raise ValueError(f"{name!r} has no train split: it has {', '.join(tables) or 'none'}")
    others = ", ".join(key for key in tables if key not in by_split.values())
    notes = [f"{others} of {name} are no split for training or tests and are passed over"] if others else []
    return join([Part(split, tables[key], f"{name} ({key})") for split, key in by_split.items()], name, notes)


def _probe(name: str) -> BaseException | None:
    """What is in the way of the data set ``name``, or None."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return ConnectionError("offline mode is on")
    fault: list[BaseException | None] = [TimeoutError(f"no answer within {PROBE_SECONDS:g} s")]

    def ask() -> None:
        try:
            HfApi().dataset_info(name, timeout=PROBE_SECONDS)
            fault[0] = None
        except BaseException as error:
            fault[0] = error

    # Name resolution has no timeout of its own, so a thread that may be left behind does the asking.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return fault[0]


def _refusal(name: str, fault: BaseException) -> str | None:
    """The message for a Hub that answered "no", or None if it did not answer."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    other = "or use --data digits or --data <folder>"
    if isinstance(fault, GatedRepoError):
        return f"the Hub data set {name!r} is gated: accept its terms and run `hf auth login`, {other}"
    if isinstance(fault, RepositoryNotFoundError):
        return f"{name!r} is neither a local path nor a data set on the Hub: check its name, {other}"
    if isinstance(fault, HFValidationError):
        return f"{name!r} is no Hub id: expected owner/name, {other}"
    return None


def _load(datasets: Any, name: str) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = datasets.load_dataset(name)
    except Exception as error:
        raise ValueError(f"cannot load {name!r} from the Hugging Face Hub: {reason_of(error)}") from error
    return loaded


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep both Hub libraries from asking again, with their long retries, what the probe has answered."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
