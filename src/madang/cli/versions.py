"""`madang collection snapshot|backup|restore|export|import|copy|salvage`: collections kept, moved and rescued."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from madang.cli import options, render

_name = click.argument("name")
_file = click.argument("file", type=click.Path(path_type=Path))
_overwrite = click.option("--overwrite", is_flag=True, help="Replace the file if there is one.")


@click.group()
def snapshot() -> None:
    """Named states of a collection: keep, list, read back, delete."""


@snapshot.command("create")
@_name
@click.argument("snapshot_name", metavar="SNAPSHOT")
@options.common
def snapshot_create(name: str, snapshot_name: str, workspace: str, as_json: bool) -> None:
    """Keep the state of this moment. Writers go on meanwhile."""
    with options.opened(workspace) as ws, render.progress(f"snapshot of {name}", "bytes") as told:
        made = ws.collection(name).snapshot(snapshot_name, told)
    if as_json:
        render.emit(asdict(made))
    else:
        click.echo(f"kept {made.records:,} records of {name} as {made.name} (sequence {made.sequence}, "
                   f"{render.size(made.size_bytes)})")


@snapshot.command("list")
@_name
@options.common
def snapshot_list(name: str, workspace: str, as_json: bool) -> None:
    """The snapshots of a collection, oldest first."""
    with options.opened(workspace) as ws:
        found = ws.collection(name).snapshots()
    if as_json:
        render.emit([asdict(each) for each in found])
    elif not found:
        click.echo(f"no snapshots yet; make one with: madang collection snapshot create {name} SNAPSHOT")
    else:
        render.table(["snapshot", "records", "sequence", "made", "size"],
                     [[s.name, f"{s.records:,}", s.sequence, s.created_at, render.size(s.size_bytes)] for s in found],
                     render.console())


@snapshot.command("restore")
@_name
@click.argument("snapshot_name", metavar="SNAPSHOT")
@options.common
def snapshot_restore(name: str, snapshot_name: str, workspace: str, as_json: bool) -> None:
    """Replace what the collection holds by a snapshot, which is verified first."""
    with options.opened(workspace) as ws, render.progress(f"restoring {name}", "bytes") as told:
        stats = ws.restore_snapshot(name, snapshot_name, told).stats()
    _restored(name, stats.records, as_json)


@snapshot.command("delete")
@_name
@click.argument("snapshot_name", metavar="SNAPSHOT")
@options.common
def snapshot_delete(name: str, snapshot_name: str, workspace: str, as_json: bool) -> None:
    """Remove a snapshot."""
    with options.opened(workspace) as ws:
        ws.collection(name).delete_snapshot(snapshot_name)
    if as_json:
        render.emit({"deleted": snapshot_name})
    else:
        click.echo(f"deleted snapshot {snapshot_name} of {name}")


@click.command()
@_name
@_file
@_overwrite
@options.common
def backup(name: str, file: Path, overwrite: bool, workspace: str, as_json: bool) -> None:
    """Write a collection to one file, while writers go on."""
    with options.opened(workspace) as ws, render.progress(f"backup of {name}", "bytes") as told:
        made = ws.collection(name).backup(file, overwrite, told)
    if as_json:
        render.emit(asdict(made))
    else:
        click.echo(f"wrote {made.records:,} records of {name} to {file}")


@click.command()
@_file
@_name
@click.option("--replace", is_flag=True, help="In place of the collection of that name, if there is one.")
@options.common
def restore(file: Path, name: str, replace: bool, workspace: str, as_json: bool) -> None:
    """Make a collection from a backup, which is verified first."""
    with options.opened(workspace, create=True) as ws, render.progress(f"restoring {name}", "bytes") as told:
        stats = ws.restore_backup(file, name, replace=replace, progress=told).stats()
    _restored(name, stats.records, as_json)


def _restored(name: str, records: int, as_json: bool) -> None:
    if as_json:
        render.emit({"collection": name, "records": records})
    else:
        click.echo(f"{name} has {records:,} records now")


@click.command()
@_name
@_file
@_overwrite
@options.common
def export(name: str, file: Path, overwrite: bool, workspace: str, as_json: bool) -> None:
    """Write a collection to a Parquet file. Documents go to a second file beside it."""
    with options.opened(workspace) as ws, render.progress(f"exporting {name}", "records") as told:
        target = ws.collection(name)
        target.export(file, overwrite, told)
        records = target.stats().records
    if as_json:
        render.emit({"file": str(file), "records": records})
    else:
        click.echo(f"wrote {records:,} records to {file}")


@click.command("import")
@_file
@_name
@click.option("--skip", multiple=True, metavar="COLUMN", help="Leave a column out; may be repeated.")
@click.option("--no-sources", is_flag=True, help="Without the documents that records were cut from.")
@click.option("--metric", help="Of a new collection: cosine, dot or euclidean.")
@click.option("--index", "kind", type=click.Choice(["flat", "hnsw", "nsw", "ivf"]), help="Of a new collection.")
@options.common
def import_(file: Path, name: str, skip: tuple[str, ...], no_sources: bool, metric: str | None, kind: str | None,
            workspace: str, as_json: bool) -> None:
    """Write the records of a Parquet file into a collection, made if it is not there.

    Any file with a column `id` and one of vectors (`values`, `vector` or `embedding`) will do; further columns become
    metadata. An interrupted import goes on where it stopped.
    """
    with options.opened(workspace, create=True) as ws, render.progress(f"importing {name}", "records") as told:
        done = ws.import_parquet(file, name, metric=metric, index=kind, skip=skip, sources=not no_sources,
                                 progress=told)
    if as_json:
        render.emit(asdict(done))
    else:
        click.echo(f"{done.written:,} records written, {done.skipped:,} were there already, {done.sources:,} documents")


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--batch", type=click.IntRange(1), default=500, show_default=True, help="Records at a time.")
@click.option("--no-resume", is_flag=True, help="Write everything, also what is there already.")
@click.option("--lossy", is_flag=True, help="Copy the rest where the target cannot hold everything.")
@click.option("--sample", type=click.IntRange(0), help="Read back only so many records. Default: all of them.")
@options.common
def copy(source: str, target: str, batch: int, no_resume: bool, lossy: bool, sample: int | None, workspace: str,
         as_json: bool) -> None:
    """Copy a collection to another engine, and verify that it arrived.

    SOURCE and TARGET are names in the workspace or URLs: postgresql://, qdrant://, milvus://, pinecone://,
    madang:///DIRECTORY?collection=NAME. An interrupted copy goes on where it stopped.
    """
    with options.opened(workspace, create=True) as ws, render.progress(f"copying {source}", "records") as told:
        done = ws.copy_collection(source, target, batch=batch, resume=not no_resume, lossy=lossy, sample=sample,
                                  progress=told)
    if as_json:
        render.emit(asdict(done))
        return
    spaces = len(done.namespaces)
    click.echo(f"{done.copied + done.skipped:,} records in {spaces:,} namespace{'s' if spaces != 1 else ''}: "
               f"{done.copied:,} written, {done.skipped:,} already there; {done.verified:,} read back and compared")
    if done.extra:
        click.echo(f"{done.extra:,} others are in the target only")
    if done.losses:
        click.echo(f"left out: {done.losses}")


@click.command()
@_name
@click.option("--into", help="Name of the new collection. Default: NAME-salvaged.")
@options.common
def salvage(name: str, into: str | None, workspace: str, as_json: bool) -> None:
    """Copy what survives of a damaged collection into a new one. The damaged one is not touched."""
    with options.opened(workspace) as ws, render.busy(f"salvaging {name}"):
        found = ws.salvage_collection(name, into)
    if as_json:
        render.emit(asdict(found))
        return
    click.echo(f"{into or f'{name}-salvaged'}: {found}")
    for space, identity in found.lost[:20]:
        click.echo(f"  lost: {identity}{f' in {space}' if space else ''}")
    if len(found.lost) > 20:
        click.echo(f"  and {len(found.lost) - 20:,} more; all of them with --json")
    for _, uri in found.lost_sources:
        click.echo(f"  ingest again: {uri}")


COMMANDS = (snapshot, backup, restore, export, import_, copy, salvage)      # of `madang collection`
