"""Run benchmarks and append their rows to RESULTS.md.

    python benchmarks/run.py [NAME...]        # default: all of install, retrieval, rag, index, embed, graph, ann, store, serve
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import append

NAMES = ("install", "retrieval", "rag", "index", "embed", "graph", "ann", "store", "serve")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    for name in options.parse_args().names or NAMES:
        print(f"running {name} ...", flush=True)
        rows = importlib.import_module(f"benchmarks.{name}").rows()
        append(rows)
        for row in rows:
            print(f"  {row.benchmark}: {row.result}")


if __name__ == "__main__":
    main()
