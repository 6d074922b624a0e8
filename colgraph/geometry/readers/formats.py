"""Which files make a geometry: one list, for reading, for messages and for ``colgraph list``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from colgraph.geometry.base import Geometry
from colgraph.geometry.options import call_with_options, list_options
from colgraph.geometry.readers.files import Source, naming, open_source
from colgraph.geometry.readers.graphs.graph_files import GRAPH_SUFFIXES, read_graph
from colgraph.geometry.readers.matrices.brainnet import BRAINNET_SUFFIXES, read_brainnet
from colgraph.geometry.readers.matrices.matlab import read_mat
from colgraph.geometry.readers.matrices.matrix_market import read_matrix_market
from colgraph.geometry.readers.matrices.numpy_files import read_numpy
from colgraph.geometry.readers.meshes.cortical import FREESURFER_SUFFIXES, is_freesurfer, read_freesurfer, read_gifti
from colgraph.geometry.readers.meshes.mesh import MESH_SUFFIXES, VTK_SUFFIXES, read_mesh
from colgraph.geometry.readers.tables.csv_txt import read_csv
from colgraph.geometry.readers.tables.edge_lists import EDGE_LIST_SUFFIXES, read_edge_list
from colgraph.hints import closest


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        about: what it is, as messages call it.
        suffixes: the suffixes it is known by, without dots; each may be followed by ``.gz``.
        reader: reads a :class:`Source`; its keyword arguments are the options of :func:`read_geometry`.
    """

    about: str
    suffixes: tuple[str, ...]
    reader: Callable[..., Geometry]

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options."""
        return tuple(option.name for option in list_options(partial(self.reader, None)))


_FREESURFER = Format("a FreeSurfer surface", FREESURFER_SUFFIXES, read_freesurfer)

FORMATS: tuple[Format, ...] = (
    Format("a mesh or point cloud", MESH_SUFFIXES, read_mesh),
    Format("a VTK surface", VTK_SUFFIXES, read_mesh),
    Format("a GIFTI surface", ("gii",), read_gifti),
    _FREESURFER,
    Format("a network", GRAPH_SUFFIXES, read_graph),
    Format("an edge list", EDGE_LIST_SUFFIXES, read_edge_list),
    Format("an edge list or adjacency matrix", ("txt",), read_csv),
    Format("an adjacency matrix or edge table", ("csv", "tsv"), read_csv),
    Format("an adjacency matrix or saved sheet", ("npz", "npy"), read_numpy),
    Format("an adjacency matrix", ("mtx",), read_matrix_market),
    Format("a MATLAB file", ("mat",), read_mat),
    Format("a network of BrainNet Viewer", BRAINNET_SUFFIXES, read_brainnet),
)


def read_geometry(path: str | os.PathLike[str], **options: Any) -> Geometry:
    """Read a geometry from a file, by its suffix (``.gz`` of each is decompressed).

    * Meshes and point clouds: obj (Wavefront and MNI), ply, stl, off, glb, gltf, xyz; dae and 3mf (trimesh); vtk, vtp
      and vtu (vtk); option ``merge_vertices``.
    * Cortical surfaces (nibabel): GIFTI, and FreeSurfer's binary surfaces, which are known by their first bytes too.
    * Networks (networkx): GraphML, GEXF, GML, Pajek, node-link JSON; options ``position, distance, weight, weight_is,
      names``.
    * Edge lists, adjacency matrices as CSV, TSV, npz, npy or MatrixMarket, and sheets saved as npz; options
      ``weight_is, transpose, directed, ...``.

    ``docs/files.md`` has the table of formats, options and conventions. Nothing is ever unpickled.

    Args:
        path: the file.
        options: those of the format (``Format.options``).

    Returns:
        A geometry called like the file. The metric of a surface is "geodesic", of a point cloud "euclidean"; networks
        with edge lengths have "given", networks with neither lengths nor positions "hops".

    Raises:
        ValueError: one line that names the file, for a file that is missing, empty, broken or incomplete, of an
            unknown kind, or whose contents make no geometry; and for options that the format does not have.
        ImportError: if a package that reads the format is missing, with the line that installs it.
    """
    source = open_source(path)
    form = find_format(source)
    with naming(source):
        geometry: Geometry = call_with_options(form.about, partial(form.reader, source), options)
    return geometry


def find_format(source: Source) -> Format:
    """The format of a file, by its suffix, else by its first bytes.

    Raises:
        ValueError: if neither is known, naming the closest suffix and all others.
    """
    for form in FORMATS:
        if source.suffix in form.suffixes:
            return form
    if is_freesurfer(source.data):
        return _FREESURFER
    known = [suffix for form in FORMATS for suffix in form.suffixes]
    if not source.suffix:
        raise ValueError(f"{str(source.path)!r} has no suffix to tell its format by: known are {', '.join(known)}")
    if source.suffix in ("xlsx", "xls", "xlsm", "ods", "numbers"):
        raise ValueError(f"{str(source.path)!r} is a spreadsheet's own file: save the table as .csv")
    near = closest(source.suffix, known)
    raise ValueError(f"{str(source.path)!r} has the unknown suffix {source.suffix!r}{near} (and .gz of each)")
