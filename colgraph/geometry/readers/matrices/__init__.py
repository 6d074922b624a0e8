"""Adjacency matrices: a file per format."""
