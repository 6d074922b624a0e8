"""``python -m colgraph`` is the ``colgraph`` command."""

from colgraph.cli import main

if __name__ == "__main__":
    main()
