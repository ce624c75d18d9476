"""`madang serve`: the server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from madang.cli import options

if TYPE_CHECKING:
    from madang.workspace import Workspace


@click.command()
@click.option("--host", metavar="ADDRESS", help="The address to listen at. Default: [serve] host in madang.toml "
              "(127.0.0.1). Any other than this machine's own needs a key: madang key create.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N",
              help="The port to listen at; 0 chooses a free one. Default: [serve] port in madang.toml (7860).")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME",
              help="A name under which it may be asked for, besides this machine's own; several times for several.")
@click.option("--cors-origin", "cors_origins", multiple=True, metavar="ORIGIN",
              help="Pages of this origin may ask from a browser; several times for several.")
@click.option("--max-body-mb", type=click.FloatRange(0, min_open=True), metavar="MB",
              help="The most that one request may send. Default: 64.")
@click.option("--rate", "rate_per_s", type=click.FloatRange(0), metavar="N",
              help="Requests a second of one key, or address; 0 for no bound. Default: 0.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads for long work. Default: 8.")
@click.option("--log", type=click.Choice(["text", "json", "off"]),
              help="A line on standard error for each request. Default: text.")
@options.common
def serve(workspace: str, as_json: bool, **given: Any) -> None:
    """Serve a workspace to other programs: Pinecone's protocol at /, OpenAI's at /v1, our own routes at /api.

    Existing programs need only environment variables:

    \b
      PINECONE_CONTROLLER_HOST=http://127.0.0.1:7860  PINECONE_API_KEY=any
      OPENAI_BASE_URL=http://127.0.0.1:7860/v1        OPENAI_API_KEY=any

    /health says that it is alive, /ready that collections are open, /metrics is for Prometheus, and /api/openapi.json
    describes our own routes. Every option is a key of [serve] in madang.toml, too. Ctrl-C stops it; requests that are
    under way are finished first.
    """
    from madang.serve.run import serve as run

    with options.opened(workspace, create=True) as ws:
        chosen = {name: value for name, value in given.items() if value is not None and value != ()}
        settings = replace(ws.settings.serve, **chosen)

        def started(address: str) -> None:
            if as_json:
                click.echo(json.dumps({"address": address}))     # one line, at once
            else:
                _say(ws, address)

        run(ws, settings, started)


def _say(workspace: Workspace, address: str) -> None:
    """What is served, and what its owner should know."""
    from madang.serve.access import Access, Keys
    from madang.serve.gate import host_of, is_loopback

    names = workspace.collections()
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    click.echo(f"serving {workspace.path} at {address} (Ctrl-C stops)")
    click.echo(f"  collections: {shown or 'none yet'}")
    click.echo(f"  Pinecone's protocol {address}   our own {address}/api/docs   numbers {address}/metrics")
    if Access(Keys(workspace.path)).required:
        click.echo("  a key is needed: Api-Key, or Authorization: Bearer (madang key list)")
    else:
        click.echo("  no key is needed: every program of this machine may read and write")
    if not is_loopback(host_of(address.removeprefix("http://"))):
        click.echo("warning: keys and documents travel unencrypted; put a proxy with TLS in front of it.", err=True)
