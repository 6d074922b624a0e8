"""Text in rows: lists of edges, tables of edges with named columns, matrices with or without names."""
