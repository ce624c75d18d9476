"""`madang collection ...`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.records import Record
from madang.cli import options, render

_name = click.argument("name")


@click.group()
def collection() -> None:
    """List, make, inspect and drop collections."""


@collection.command("list")
@options.common
def list_(workspace: str, as_json: bool) -> int:
    """The collections of the workspace."""
    with options.opened(workspace) as ws:
        stats, damaged = [], dict[str, str]()
        for name in ws.collections():
            try:
                stats.append(ws.collection(name).stats())
            except Corrupt as error:  # one damaged collection must not hide the others
                damaged[name] = str(error)
    for message in damaged.values():
        click.echo(f"error: {message}", err=True)
    if as_json:
        render.emit([asdict(each) for each in stats] + [{"name": name, "error": e} for name, e in damaged.items()])
    elif not stats and not damaged:
        click.echo("no collections yet; make one with: madang ingest PATH")
    else:
        render.table(["name", "records", "sources", "dim", "metric", "embedder", "size"],
                     [[s.name, f"{s.records:,}", s.sources, s.dim, s.metric,
                       (s.embedder or "own vectors").partition("@")[0], render.size(s.size_bytes)] for s in stats],
                     render.console())
    return 1 if damaged else 0


@collection.command()
@_name
@click.option("--dim", type=int, required=True, help="Length of the vectors.")
@click.option("--metric", default="cosine", show_default=True, help="cosine, dot or euclidean.")
@options.common
def create(name: str, dim: int, metric: str, workspace: str, as_json: bool) -> None:
    """Make a collection for vectors of your own."""
    with options.opened(workspace, create=True) as ws:
        stats = ws.create_collection(name, dim, metric).stats()
    if as_json:
        render.emit(asdict(stats))
    else:
        click.echo(f"made {stats.name}: {stats.dim} dimensions, {stats.metric}")


@collection.command()
@_name
@options.common
def show(name: str, workspace: str, as_json: bool) -> None:
    """Counts and settings of a collection."""
    with options.opened(workspace) as ws:
        stats = ws.collection(name).stats()
    if as_json:
        render.emit(asdict(stats))
    else:
        rows = {**asdict(stats), "size_bytes": render.size(stats.size_bytes),
                "namespaces": ", ".join(f"{space or '(default)'}: {count:,}"
                                        for space, count in stats.namespaces.items()) or "none"}
        render.table(["", ""], [[key.removesuffix("_bytes"), "own vectors" if value is None else value]
                                for key, value in rows.items()], render.console())


@collection.command()
@_name
@options.common
def sources(name: str, workspace: str, as_json: bool) -> None:
    """The documents a collection was made from."""
    with options.opened(workspace) as ws:
        found = list(ws.collection(name).sources().values())
    if as_json:
        render.emit([asdict(source) for source in found])
    else:
        render.table(["source", "chunks", "size", "ingested"],
                     [[render.shown_path(s.uri), s.chunks, render.size(s.size_bytes), s.ingested_at] for s in found],
                     render.console())


@collection.command()
@_name
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--namespace", default="", help="The namespace.")
@options.common
def fetch(name: str, ids: tuple[str, ...], namespace: str, workspace: str, as_json: bool) -> int:
    """Show records by id. Missing ones are named on stderr, and the exit code is 1."""
    with options.opened(workspace) as ws:
        found = ws.collection(name).fetch(list(ids), namespace)
    missing = [identity for identity in ids if identity not in found]
    if as_json:
        render.emit({"records": [_plain(record) for record in found.values()], "missing": missing})
    for record in [] if as_json else found.values():
        click.echo(f"{record.id}  {json.dumps(record.metadata, ensure_ascii=False)}")
        if record.document:
            click.echo(f"    {' '.join(record.document.split())}")
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        click.echo(f"error: collection {name!r} has no record {missing[0]!r}{others}.", err=True)
    return 1 if missing else 0


def _plain(record: Record) -> dict[str, object]:
    values = [] if record.values is None else [float(value) for value in record.values]
    return {**asdict(record), "values": values}


@collection.command()
@_name
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--filter", "filter_text", metavar="JSON", help='A metadata filter, e.g. \'{"year": {"$lt": 2020}}\'.')
@click.option("--all", "everything", is_flag=True, help="Every record of the namespace.")
@click.option("--namespace", default="", help="The namespace.")
@options.common
def delete(name: str, ids: tuple[str, ...], filter_text: str | None, everything: bool, namespace: str,
           workspace: str, as_json: bool) -> None:
    """Delete records by id, by filter, or all of a namespace."""
    try:
        tree = None if filter_text is None else json.loads(filter_text)
    except ValueError as error:
        raise InvalidInput(f"--filter is not JSON: {error}.",
                           remedy='For example \'{"year": {"$lt": 2020}}\'.') from None
    with options.opened(workspace) as ws:
        count = ws.collection(name).delete(list(ids) or None, tree, everything, namespace)
    if as_json:
        render.emit({"deleted": count})
    else:
        click.echo(f"deleted {count} records")


@collection.command()
@_name
@click.argument("uris", nargs=-1, required=True, metavar="SOURCE...")
@options.common
def forget(name: str, uris: tuple[str, ...], workspace: str, as_json: bool) -> None:
    """Remove documents from a collection: those listed by `madang collection sources`. Files are not touched."""
    with options.opened(workspace) as ws:
        target = ws.collection(name)
        known = target.sources()
        wanted = [uri if uri in known else str(Path(uri).absolute()) for uri in uris]
        unknown = [uri for uri in wanted if uri not in known]
        if unknown:
            raise NotFound(f"collection {name!r} has no source {unknown[0]!r}.",
                           remedy=f"List them with: madang collection sources {name}")
        count = target.remove_sources(wanted)
    if as_json:
        render.emit({"forgotten": count})
    else:
        click.echo(f"forgot {count} documents")


@collection.command()
@_name
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.common
def drop(name: str, yes: bool, workspace: str, as_json: bool) -> None:
    """Remove a collection and all it holds."""
    with options.opened(workspace) as ws:
        try:
            count = ws.collection(name).stats().records
        except Corrupt:  # dropping it is the remedy
            count = 0
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidInput(f"dropping {name!r} needs a yes, and nobody is there to give it.",
                                   remedy="Add --yes.")
            click.confirm(f"Remove collection {name} with {count:,} records?", abort=True, err=True)
        ws.drop_collection(name)
    if as_json:
        render.emit({"dropped": name, "records": count})
    else:
        click.echo(f"dropped {name} ({count:,} records)")


@collection.command()
@_name
@options.common
def reanalyze(name: str, workspace: str, as_json: bool) -> None:
    """Rebuild the word index with the analyzer installed now (after installing the ko extra)."""
    with options.opened(workspace) as ws:
        target = ws.collection(name)
        count = target.reanalyze()
        analyzer = target.stats().analyzer
    if as_json:
        render.emit({"collection": name, "documents": count, "analyzer": analyzer})
    else:
        click.echo(f"re-analyzed {count:,} documents of {name} with {analyzer}")
