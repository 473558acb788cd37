"""Run the command line: ``python -m cvmlab``."""

from __future__ import annotations

from cvmlab.cli import main

if __name__ == "__main__":
    main()
