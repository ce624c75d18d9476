"""`madang key`: who may ask the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from madang.cli import options, render

if TYPE_CHECKING:
    from pathlib import Path

    from madang.serve.access import Keys


@click.group()
def key() -> None:
    """Keys of the server: without any, only programs of this machine may ask, and everything.

    Keys are kept as digests in keys.json of the workspace. A running server knows of changes at once.
    """


@key.command()
@click.argument("name")
@click.option("--scope", type=click.Choice(["read", "write", "admin"]), default="read", show_default=True,
              help="What it allows; each allows what those before it do. admin: "
              "making and dropping collections, snapshots.")
@click.option("--collection", "collections", multiple=True, metavar="NAME",
              help="Only this collection; several times for several.")
@click.option("--namespace", "namespaces", multiple=True, metavar="NAME",
              help="Only this namespace; several times for several.")
@options.common
def create(name: str, scope: str, collections: tuple[str, ...], namespaces: tuple[str, ...], workspace: str,
           as_json: bool) -> None:
    """Make a key and show it, this once."""
    with options.opened(workspace, create=True) as ws:
        token, made = _keys(ws.path).create(name, scope, namespaces or None, collections or None)
    if as_json:
        render.emit({"key": token, **made.shown()})
    else:
        click.echo(token)
        click.echo("Keep it now: it is shown this once, and nobody can read it here again.", err=True)


@key.command("list")
@options.common
def list_keys(workspace: str, as_json: bool) -> None:
    """The keys there are, with what they allow and when they were used last."""
    with options.opened(workspace) as ws:
        found = list(_keys(ws.path).read().values())
    if as_json:
        render.emit({"keys": [each.shown() for each in found]})
    elif not found:
        click.echo("no keys")
    else:
        render.table(["name", "scope", "collections", "namespaces", "created", "last used"],
                     [[each.name, each.scope, ", ".join(each.collections or ("all",)),
                       ", ".join(repr(space) for space in each.namespaces) if each.namespaces else "all",
                       each.created_at, each.last_used_at or "never"] for each in found], render.console())


@key.command()
@click.argument("name")
@options.common
def revoke(name: str, workspace: str, as_json: bool) -> None:
    """Take a key back, by its name or id. The server goes on asking for keys even when none is left."""
    with options.opened(workspace) as ws:
        gone = _keys(ws.path).revoke(name)
    if as_json:
        render.emit({"revoked": gone.shown()})
    else:
        click.echo(f"revoked {gone.name}")


def _keys(directory: Path) -> Keys:
    from madang.serve.access import Keys

    return Keys(directory)
