"""Images to batches: the only room that knows the ``datasets`` library."""

from colgraph.data.augment import AUGMENTATIONS, BatchTransform, augment_affine, augment_natural
from colgraph.data.decode import as_bytes, decode_image, image_to_tensor
from colgraph.data.folders import find_images
from colgraph.data.sets import IGNORED, Batch, ImageSet, LazyImages, MemoryImages, hold_out
from colgraph.data.sources import MADE, ImageSplits, load_images, made_size
from colgraph.data.writing import write_images

__all__ = [
    "AUGMENTATIONS",
    "IGNORED",
    "MADE",
    "Batch",
    "BatchTransform",
    "ImageSet",
    "ImageSplits",
    "LazyImages",
    "MemoryImages",
    "as_bytes",
    "augment_affine",
    "augment_natural",
    "decode_image",
    "find_images",
    "hold_out",
    "image_to_tensor",
    "load_images",
    "made_size",
    "write_images",
]
