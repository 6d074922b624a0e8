"""What models learn from images: a class each, one per column, hidden patches, or which views belong together."""

from colgraph.tasks.classify import Classify
from colgraph.tasks.contrast import Contrast
from colgraph.tasks.known import find_task, list_tasks, make_task, register_task
from colgraph.tasks.per_column import Columns
from colgraph.tasks.reconstruct import Reconstruct
from colgraph.tasks.step_losses import STEP_LOSSES, drawn_steps, parse_steps, step_weights
from colgraph.tasks.task import Question, Task

__all__ = [
    "STEP_LOSSES",
    "Classify",
    "Columns",
    "Contrast",
    "Question",
    "Reconstruct",
    "Task",
    "drawn_steps",
    "find_task",
    "list_tasks",
    "make_task",
    "parse_steps",
    "register_task",
    "step_weights",
]
