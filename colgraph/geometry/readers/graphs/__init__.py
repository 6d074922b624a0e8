"""Networks of nodes and edges with attributes."""
