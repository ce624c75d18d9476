"""`madang serve`: the server."""

from __future__ import annotations

import json

import click

from madang.base.errors import InvalidInput
from madang.cli import options


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True,
              help="The port to listen at; 0 chooses a free one.")
@options.common
def serve(host: str, port: int, workspace: str, as_json: bool) -> None:
    """Serve a workspace to other programs: Pinecone's protocol at /.

    Existing programs need only environment variables:

    \b
      PINECONE_CONTROLLER_HOST=http://127.0.0.1:7860  PINECONE_API_KEY=any

    Ctrl-C stops it; requests that are under way are finished first.
    """
    from madang.serve.run import is_loopback
    from madang.serve.run import serve as run

    if not is_loopback(host):
        raise InvalidInput(f"--host {host} can be reached from other machines, and there are no keys yet.",
                           remedy="Listen at 127.0.0.1.")

    def started(address: str) -> None:
        if as_json:
            click.echo(json.dumps({"address": address}))     # one line, at once
        else:
            click.echo(f"serving {workspace} at {address} (Ctrl-C stops)")

    with options.opened(workspace, create=True) as ws:
        run(ws, host, port, started)
