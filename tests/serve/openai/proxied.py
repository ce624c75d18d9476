"""A workspace whose models are a service on loopback, served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

import madang
from madang.serve.run import serving
from tests.models.service_stub import ServiceStub


@contextmanager
def proxied(directory: Path, more: str = "") -> Iterator[tuple[ServiceStub, httpx.Client]]:
    """The service, and a client of the server before it; `more` goes into madang.toml."""
    with ServiceStub() as stub:
        directory.mkdir()
        (directory / "madang.toml").write_text(
            f'[models]\nchat = "local/tiny"\nembed = "local/vectors"\ndraw = "local/painter"\n'
            f'[services.local]\nbase_url = "{stub.url}"\nretries = 0\n{more}', encoding="utf-8")
        with madang.open(directory) as ws, serving(ws) as address, httpx.Client(base_url=address, timeout=30) as client:
            yield stub, client
