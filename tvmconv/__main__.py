"""`python -m tvmconv` is the `tvmconv` command."""

import sys

from tvmconv.cli import main

if __name__ == "__main__":
    sys.exit(main())
