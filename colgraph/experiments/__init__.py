"""Beyond one run: sweeps over settings and seeds, tables of results, evaluation of a run, and sharing its model."""
