"""Batches of images for Lightning, in an order that follows from the seed and the step alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from colgraph.data import Batch, ImageSet, ImageSplits, MemoryImages
from colgraph.data.augment import mix_pairs, mix_seed
from colgraph.tasks import find_task
from colgraph.training.config import TrainConfig
from colgraph.training.questions import seen_held_out, transform_of, views_of

_MIXING = 0x319  # sets the draws of mixup apart from those of the augmentation


class StepSampler(Sampler[int]):
    """Shuffled indices of one epoch, beginning where a given optimizer step is.

    Epoch and place in the epoch are computed from the step, so that a run that stopped anywhere goes on with exactly
    the batches it would have seen.

    Args:
        count: number of images.
        batch_size: per process.
        seed: of the shuffling.
        step: returns the number of optimizer steps taken.
        rank: of this process.
        world: number of processes.
        epoch: images of an epoch; all by default.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        step: Callable[[], int],
        rank: int = 0,
        world: int = 1,
        epoch: int | None = None,
    ) -> None:
        epoch = count if epoch is None else min(epoch, count)
        self.batch_size = max(1, min(batch_size, epoch // world))
        self.batches = max(1, epoch // (self.batch_size * world))
        self.count, self.seed, self.step, self.rank, self.world = count, seed, step, rank, world

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        epoch, done = divmod(self.step(), self.batches)
        generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
        order = torch.randperm(self.count, generator=generator)[self.rank :: self.world]
        yield from order[done * self.batch_size : len(self)].tolist()


def steps_per_epoch(config: TrainConfig, count: int) -> int:
    """Optimizer steps of an epoch of ``count`` training images, on ``config.devices`` processes."""
    world = max(int(config.devices) // config.sheet_parallel, 1)
    return StepSampler(count, config.batch_size, 0, lambda: 0, 0, world, config.epoch_images).batches


def share_of(trainer: Any) -> tuple[int, int]:
    """Which share of the images this process sees, of how many; processes that share a sheet see the same."""
    share = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
    return share["rank"], share["num_replicas"]


class ImageBatches(pl.LightningDataModule):
    """Training, held-out and test batches; augmented and normalised on the device.

    Args:
        images: the splits.
        config: batch size, workers, augmentation and seed.
    """

    def __init__(self, images: ImageSplits, config: TrainConfig) -> None:
        super().__init__()
        self.images = images
        self.config = config
        self.views = find_task(config.task).views
        self.transform = transform_of(config, images.mean, images.std)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled full batches; the rest of an epoch that fills none is left out."""
        trainer: Any = self.trainer
        sampler = StepSampler(
            len(self.images.train),
            self.config.batch_size,
            self.config.seed,
            lambda: trainer.global_step,
            *share_of(trainer),
            self.config.epoch_images,
        )
        return self._loader(self.images.train, sampler, sampler.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The held-out images in order, each exactly once over all processes."""
        return self._held_out(self.images.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test images in order, each exactly once over all processes."""
        return self._held_out(self.images.test)

    def _held_out(self, images: ImageSet) -> DataLoader[Batch]:
        rank, world = share_of(self.trainer)
        mine = range(rank, len(images), world)
        return self._loader(images, mine, max(self.config.batch_size, 256))

    def _loader(self, images: ImageSet, sampler: Any, batch_size: int) -> DataLoader[Batch]:
        in_memory = isinstance(images, MemoryImages)
        workers = self.config.workers if self.config.workers is not None else min(8, os.cpu_count() or 1)
        workers = 0 if in_memory else workers
        return DataLoader(
            images,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_interrupt if workers else None,
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, ...]:
        """Bytes to normalised floats, augmented when training; with mixup also the other label and the own share."""
        images, labels = batch
        trainer: Any = self.trainer
        dtype = next(trainer.lightning_module.parameters()).dtype
        if not trainer.training:
            return seen_held_out(self.transform, images, self.views).to(dtype), labels
        step, rank = trainer.global_step, share_of(trainer)[0]
        pixels = views_of(self.transform, images, self.views, step, rank)
        if self.config.mixup == 0:
            return pixels.to(dtype), labels
        mixed, partner, share = mix_pairs(pixels, self.config.mixup, mix_seed(self.config.seed, step, rank, _MIXING))
        return mixed.to(dtype), labels, labels[partner], share


def _as_it_is(batch: Any) -> Any:
    """Data sets here return whole batches."""
    return batch


def _ignore_interrupt(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the main one decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
