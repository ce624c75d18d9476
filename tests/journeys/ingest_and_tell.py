"""A child process for the kill test: ingests a folder and prints each source when it is acknowledged."""

from __future__ import annotations

import sys

import madang
from madang.rag.ingest import IngestProgress


def tell(event: IngestProgress) -> None:
    for uri in event.committed:
        print(uri, flush=True)


with madang.open(sys.argv[1]) as ws:
    print("started", flush=True)
    ws.ingest(sys.argv[2], "docs", embedder="bundled/static", progress=tell)
    print("finished", flush=True)
