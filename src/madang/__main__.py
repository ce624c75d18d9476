"""`python -m madang` is `madang`."""

import sys

from madang.cli.main import entry

if __name__ == "__main__":
    sys.exit(entry())
