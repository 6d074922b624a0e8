"""Whole runs looked at: every analysis with its controls, encoding of recordings, and a page to open in a browser."""

from colgraph.report.analyse import analyse
from colgraph.report.loading import Run, load_run
from colgraph.report.shown import Settings

__all__ = ["Run", "Settings", "analyse", "load_run"]
