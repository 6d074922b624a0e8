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

It is `colgraph train` as a file to start, by torchrun among others; colgraph/training/command.py has its six steps:
settings, sheet, images, model, training, summary.
Every setting is a flag (--help lists them) and a key of a YAML file (--config FILE). A run writes
runs/<name>/{config.yaml, metrics.csv, summary.json, checkpoints/, figures/}.
"""

from __future__ import annotations

import os

# Threads that wait for each other must not spin where they share a few cores; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Any

from colgraph.training import run_script
from colgraph.training.command import main as train_by_flags


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train what the flags describe; returns what ``summary.json`` holds."""
    return train_by_flags(arguments, __doc__)


if __name__ == "__main__":
    run_script(main)
