"""The handwritten digits that come inside scikit-learn: real data that needs no network."""

from __future__ import annotations

import numpy as np
import torch

from colgraph.data.decode import image_to_tensor
from colgraph.data.sets import MemoryImages, content_keys
from colgraph.extras import optional


def load_digits(image_size: int = 8, channels: int = 1) -> tuple[MemoryImages, list[str]]:
    """1,797 handwritten digits of 8 x 8 pixels with 17 grey levels.

    The test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998), as
    ``sklearn.datasets.load_digits`` carries it.

    Args:
        image_size: side of the images that come out, in pixels; 8 leaves them as they are.
        channels: 1, or 3 to repeat the grey.

    Returns:
        images ``[1797, channels, S, S]`` with labels, of one key at every size, and the names of the ten classes.

    Raises:
        ImportError: if scikit-learn is missing.
    """
    bunch = optional("--data digits needs", "sklearn.datasets", "train").load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    if image_size == 8:
        images = torch.from_numpy(pixels)[:, None].repeat(1, channels, 1, 1)
    else:
        from PIL import Image

        images = torch.stack([image_to_tensor(Image.fromarray(p), image_size, channels) for p in pixels])
    keys = content_keys(image.tobytes() for image in pixels)
    return MemoryImages(images, bunch.target, keys), [str(name) for name in bunch.target_names]
