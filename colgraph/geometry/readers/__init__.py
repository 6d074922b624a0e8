"""Files and objects people already have, made into geometries."""

from colgraph.geometry.readers.formats import FORMATS, Format, read_geometry
from colgraph.geometry.readers.masks import MASK_SUFFIXES, read_mask
from colgraph.geometry.readers.objects import from_object

__all__ = ["FORMATS", "MASK_SUFFIXES", "Format", "from_object", "read_geometry", "read_mask"]
