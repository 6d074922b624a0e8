"""Does reading images keep up with training? 160-pixel JPEGs to batches of 128-pixel squares, and a model on top.

    python benchmarks/loader.py

Images are read in three ways: by the workers of a DataLoader (sets that do not fit in memory), by threads into memory,
and, for the floor, by one thread without anything around it. On a machine that does other things meanwhile, wall-clock
time says little; so the same work is also given per second of processor time, times the number of cores.
"""

from __future__ import annotations

import os

# As the training script does: threads that wait must not spin beside the decoders.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import machine, print_machine, write_json

from colgraph.data import ImageSplits, load_images
from colgraph.data.decode import decode_image
from colgraph.training import RunFlags, TrainConfig, make_model, make_sheet, open_run_folder, train
from colgraph.training.batches import ImageBatches
from colgraph.training.measure import cpu_seconds

SIZE, BATCH, CLASSES = 128, 128, 10


def write_jpegs(folder: Path, count: int) -> list[bytes]:
    """Smooth colors with fine noise, 200 x 160 pixels, quality 85: about 9 kB each, as small photographs are."""
    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for i in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)).resize((200, 160))
        noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-12, 13, (160, 200, 3))
        out = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
        path = folder / str(i % CLASSES) / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
        encoded.append(out.getvalue())
    return encoded


def rates(images: int, wall: float, cpu: float, cores: int) -> dict[str, float]:
    """Images per second on the clock, and per second of processor time times cores."""
    return {"images_per_second": images / wall, "per_cpu_second_times_cores": cores * images / cpu}


def timed(work: Any, cores: int) -> dict[str, float]:
    """Run ``work``, which returns a number of images, and say how fast it was."""
    begin, cpu = time.perf_counter(), cpu_seconds()
    images = work()
    return rates(images, time.perf_counter() - begin, cpu_seconds() - cpu, cores)


def read_with_workers(images: ImageSplits, config: TrainConfig) -> int:
    """One epoch of training batches from worker processes, from their start to their end."""
    loader = ImageBatches(images, config)._loader(images.train, range(len(images.train)), BATCH)
    return sum(len(labels) for _, labels in loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    known = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    about = machine("pillow", "datasets")
    print_machine(about)
    report: dict[str, Any] = {"machine": about, "cores": cores, "images": known.images, "size": SIZE, "batch": BATCH}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        encoded = write_jpegs(root / "images", known.images)
        report["bytes_per_image"] = float(np.mean([len(data) for data in encoded]))
        source = str(root / "images")
        config = TrainConfig(
            data=source,
            image_size=SIZE,
            patch_size=16,
            epochs=2,
            batch_size=BATCH,
            neighbors="knn:16",
            dim=32,
            qk_dim=16,
            mlp_dim=32,
            steps=3,
            workers=cores,
            memory_gb=0,
            tensorboard=False,
            figure_every=0,
            options={"widths": [8, 8]},
        )
        report["decode_and_crop"] = timed(lambda: len([decode_image(data, SIZE, 3) for data in encoded[:1000]]), cores)
        report["decode_and_crop"]["images_per_second"] *= cores  # one thread was timed
        images = load_images(source, image_size=SIZE, memory_gb=0)
        report["workers"] = timed(lambda: read_with_workers(images, config), cores)
        encoded_set = images.train.encoded
        report["into_memory"] = timed(lambda: len(encoded_set.decode_all(SIZE, 3, cores, images.skipped).labels), cores)
        net = make_model(config, make_sheet(config), CLASSES)
        summary = train(net, images, config, open_run_folder(config, RunFlags(root / "run")))
        report["training"] = {
            "images_per_second": summary["images_per_second"],
            "parameters": summary["parameters"],
            "flops_per_image": summary["flops_per_image"],
        }
    for name in ("decode_and_crop", "workers", "into_memory", "training"):
        print(name, {key: round(value) for key, value in report[name].items()})
    write_json("loader", report)


if __name__ == "__main__":
    main()
