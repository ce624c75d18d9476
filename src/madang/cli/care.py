"""`madang collection audit|repair|reindex`: whether a collection finds what it should, and mending it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from madang.base.errors import InvalidInput
from madang.cli import options, render

_name = click.argument("name")


@click.command()
@_name
@click.option("--ef-search", type=click.IntRange(1), help="Candidates of a search. Default: the collection's own.")
@click.option("--samples", type=click.IntRange(1), default=200, show_default=True, help="How many queries to measure.")
@click.option("--top-k", type=click.IntRange(1), default=10, show_default=True, help="How many neighbours count.")
@options.common
def audit(name: str, ef_search: int | None, samples: int, top_k: int, workspace: str, as_json: bool) -> int:
    """Measure what a collection finds, against exact search, and look for damage.

    Recall is measured with queries that were really asked (a sample is kept), by filter selectivity, with 95 %
    intervals. The exit code is 1 when something is unreachable, missing or damaged; `madang collection repair` mends
    it.
    """
    with options.opened(workspace) as ws, render.busy(f"auditing {name}"):
        found = ws.collection(name).audit(k=top_k, ef_search=ef_search, samples=samples)
    if as_json:
        render.emit(asdict(found))
    else:
        click.echo(str(found))
    return 1 if found.missing or found.damaged or (found.index is not None and found.index.unreachable) else 0


@click.command()
@_name
@options.common
def repair(name: str, workspace: str, as_json: bool) -> None:
    """Link what a search cannot reach, index what is missing, write damaged index files again."""
    with options.opened(workspace) as ws, render.busy(f"repairing {name}"):
        done = ws.collection(name).repair()
    if as_json:
        render.emit(asdict(done))
    else:
        click.echo(str(done))


@click.command()
@_name
@click.option("--kind", type=click.Choice(["flat", "hnsw", "nsw", "ivf"]), required=True, help="The kind of index.")
@click.option("--m", type=int, help="Links for each vector (hnsw, nsw).")
@click.option("--ef-construction", type=int, help="Candidates considered for links (hnsw, nsw).")
@click.option("--ef-search", type=int, help="Candidates of a search (hnsw, nsw).")
@click.option("--nlist", type=int, help="Cells (ivf).")
@click.option("--nprobe", type=int, help="Cells that a search looks into (ivf).")
@options.common
def reindex(name: str, kind: str, workspace: str, as_json: bool, **parameters: int | None) -> None:
    """Search a collection with another index. It answers with the old one until the new one is ready."""
    given = {key: value for key, value in parameters.items() if value is not None}
    with options.opened(workspace) as ws, render.busy(f"building the {kind} index of {name}"):
        target = ws.collection(name)
        target.set_index(_made(kind, given))
        target.wait_until_indexed()
        stats = target.stats()
    if as_json:
        render.emit(asdict(stats))
    else:
        click.echo(f"{name} is searched with {stats.index} now ({stats.records:,} records)")


def _made(kind: str, parameters: dict[str, Any]) -> Any:
    from madang.index.specs import class_of

    try:
        return class_of({"kind": kind})(**parameters)
    except TypeError:
        raise InvalidInput(f"index kind {kind!r} does not take all of {', '.join(sorted(parameters))}.",
                           remedy="See: madang collection reindex --help") from None


COMMANDS = (audit, repair, reindex)      # of `madang collection`
