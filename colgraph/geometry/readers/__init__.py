"""Files and objects people already have, made into geometries.

``formats.py`` lists the kinds of files, ``objects.py`` the types of objects, and which function reads each;
``masks.py`` reads which columns to keep. ``meshes/`` is for vertices and faces, ``graphs/`` for networks whose nodes
and edges have attributes, ``tables/`` for text in rows, ``matrices/`` for adjacency matrices. What the numbers of edges
mean is in ``lengths.py``.
"""

from colgraph.geometry.readers.formats import FORMATS, Format, read_geometry
from colgraph.geometry.readers.masks import MASK_SUFFIXES, read_mask
from colgraph.geometry.readers.objects import from_object

__all__ = ["FORMATS", "MASK_SUFFIXES", "Format", "from_object", "read_geometry", "read_mask"]
