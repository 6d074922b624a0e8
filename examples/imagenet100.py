"""Train a columnformer to classify images: ImageNet-100 by default, any images and any geometry by flags.

    python examples/imagenet100.py                                  # ImageNet-100 from the Hugging Face Hub
    python examples/imagenet100.py --data digits                    # 1,797 handwritten digits, no network, a minute
    python examples/imagenet100.py --data path/to/images --geometry sphere --neighbors knn:16
    python examples/imagenet100.py --data digits --geometry stack --widths 4,4,4,4 --direction forward
    python examples/imagenet100.py --data digits --geometry my_geometry.py:moebius
    python examples/imagenet100.py --data digits --model vit --depth 4 --num-heads 4
    python examples/imagenet100.py --data digits --model cnn --depth 2 --dim 28
    python examples/imagenet100.py --data digits --control random-graph
    python examples/imagenet100.py --out runs/digits-stack-seed0 --resume

Every setting is a flag (--help lists them) and a key of a YAML file (--config FILE). A run writes
runs/<name>/{config.yaml, metrics.csv, summary.json, checkpoints/, figures/}.
"""

from __future__ import annotations

import os

# Threads that wait for each other must not spin where they share a few cores; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pathlib import Path
from typing import Any

from colgraph.training import (
    images_of,
    make_model,
    num_answers,
    open_run_folder,
    parse_flags,
    run_script,
    sheet_of_run,
    train,
)

PRESETS = Path(__file__).parent / "configs"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Settings, data, sheet, model, training, summary."""
    # 1. Settings: defaults, then the data's preset, then --config, then flags. An existing run is never overwritten.
    config, flags = parse_flags(arguments, presets=PRESETS, description=__doc__)
    folder = open_run_folder(config, flags)

    # 2. The sheet: columns in space, and who listens to whom. It is quick to build, so its mistakes show up first.
    sheet = None if config.baseline else sheet_of_run(config, folder)

    # 3. Images, split into training, validation and test.
    images = images_of(config)
    # Mistakes in the data come before the report on the sheet, which would hide them.
    print(f"no sheet: {config.baseline}, a baseline" if sheet is None else sheet.describe())
    print(
        f"\n{config.data}: {len(images.train):,} training and {len(images.test):,} test images "
        f"of {len(images.classes)} classes"
    )

    # 4. The model: patches enter at the input columns, the sheet talks for some steps, output columns are read out.
    # Its parameters are drawn from the seed.
    model = make_model(config, sheet, num_classes=num_answers(config, sheet, images))
    size = f"{config.steps} steps" if config.recurs else f"{config.depth} blocks"
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {size}, writing to {folder.path}\n")

    # 5. Training, with checkpoints, logs and figures.
    summary = train(model, images, config, folder)

    # 6. What came out.
    print(f"\ntest accuracy {summary['test_accuracy']:.1%} on {summary['test_images']:,} images never trained on")
    if config.task != "classify":
        print(f"accuracy is the {summary['accuracy_is']}")
    print(f"everything is in {folder.path}: summary.json, metrics.csv, checkpoints/, figures/")
    return summary


if __name__ == "__main__":
    run_script(main)
