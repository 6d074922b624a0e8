"""Names of stimuli and targets, as files of recordings give them: which words say what they are, and in which order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

STIMULI = re.compile(
    r"(stim|stimulus|stimuli|images?|imgs?|pictures?|photos?|files?)(ids?|names?|numbers?|index|paths?|files?|filenames?)?"
)
"""What the names of stimuli are called, without capitals, blanks and marks."""
TARGETS = re.compile(
    r"(targets?|units?|neurons?|neuroids?|channels?|electrodes?|voxels?|sites?|cells?)(ids?|names?|numbers?)?"
)
NUMBER = re.compile(r"(\d+)(?:[.,]0*)?")


def first_twice(names: Sequence[str]) -> str | None:
    """The first name that comes again; None where each is there once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def plain_number(name: str) -> str:
    """A whole number without leading zeros, and without the decimals that spreadsheets and pandas may give it."""
    match = NUMBER.fullmatch(name)
    return name if match is None else str(int(match[1]))
