"""``colgraph train``: settings, sheet, images, model, training and summary, as a user would write them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from colgraph.ops.compile_ahead import compile_ahead
from colgraph.script import is_helper_process
from colgraph.training import images_of, make_model, num_answers, open_run_folder, parse_flags, sheet_of_run, train
from colgraph.training.effects import check_on_data
from colgraph.training.presets import PRESETS

_ABOUT = """Train a columnformer to classify images: ImageNet-100 by default, any images and any geometry by flags.

    colgraph train --data digits                    # 1,797 handwritten digits, no network, a minute
    colgraph train --config digits-tied             # a preset of the package, or a YAML file of settings
    colgraph train --data path/to/images --geometry sphere --neighbors knn:16
    colgraph train --data digits --geometry my_geometry.py:moebius
    colgraph train --data digits --model vit --depth 4 --num-heads 4
    colgraph train --out runs/digits-stack-seed0 --resume

Every setting is a flag and a key of a YAML file (--config FILE). A run writes
runs/<name>/{config.yaml, metrics.csv, summary.json, checkpoints/, figures/}.
"""


def run_train(words: Sequence[str]) -> None:
    """``colgraph train``."""
    main(words, _ABOUT, "colgraph train")


def main(
    arguments: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> dict[str, Any]:
    """Train what a command line describes; returns what ``summary.json`` holds.

    Args:
        arguments: the command line; ``sys.argv[1:]`` if not given.
        description: shown by ``--help``.
        prog: what ``--help`` calls the program; its file if not given.

    Raises:
        ValueError: as :func:`parse_flags` and :func:`train` do.
    """
    # 1. Settings: defaults, then the data's preset, then --config, then flags. An existing run is never overwritten.
    config, flags = parse_flags(arguments, presets=PRESETS, description=description or _ABOUT, prog=prog)
    folder = open_run_folder(config, flags)

    # 2. The sheet: columns in space, and who listens to whom. It is quick to build, so its mistakes show up first.
    sheet = None if config.baseline else sheet_of_run(config, folder)
    if sheet is not None and config.backend in ("auto", "numba") and not is_helper_process():
        compile_ahead(config.accelerator)

    # 3. Images, split into training, validation and test.
    images = images_of(config)
    check_on_data(config, flags.given, images)
    # Mistakes in the data come before the report on the sheet, which would hide them.
    if not config.is_own:
        print(f"no sheet: {config.baseline}, a baseline" if sheet is None else sheet.describe())
    print(
        f"\n{config.data}: {len(images.train):,} training and {len(images.test):,} test images "
        f"of {len(images.classes)} classes"
    )

    # 4. The model: patches enter at the input columns, the sheet talks for some steps, output columns are read out.
    # Its parameters are drawn from the seed.
    model = make_model(config, sheet, num_classes=num_answers(config, sheet, images))
    size = f", {config.steps} steps" if config.recurs else "" if config.is_own else f", {config.depth} blocks"
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters{size}, writing to {folder.path}\n")

    # 5. Training, with checkpoints, logs and figures.
    summary = train(model, images, config, folder)

    # 6. What came out.
    print(f"\ntest accuracy {summary['test_accuracy']:.1%} on {summary['test_images']:,} images never trained on")
    if config.task != "classify":
        print(f"accuracy is the {summary['accuracy_is']}")
    print(f"everything is in {folder.path}: summary.json, metrics.csv, checkpoints/, figures/")
    return summary
