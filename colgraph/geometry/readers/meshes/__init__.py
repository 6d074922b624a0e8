"""Meshes, point clouds and surfaces: a file per format."""
