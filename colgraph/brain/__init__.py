"""Recordings of brains: read, joined to what was shown, and compared with the columns of a sheet."""
