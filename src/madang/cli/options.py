"""What every command shares: `--workspace`, `--json`, and opening the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from madang.workspace import Workspace

_Command = Callable[..., Any]


def common(command: _Command) -> _Command:
    """Add `--workspace` and `--json`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")(command)
    return click.option("--workspace", "-w", metavar="DIR", envvar="MADANG_WORKSPACE", show_envvar=True,
                        default="./courtyard", show_default=True, help="The workspace directory.")(command)


def collection_option(command: _Command) -> _Command:
    """Add `--collection`."""
    return click.option("--collection", "-c", metavar="NAME", default="docs", show_default=True,
                        help="The collection.")(command)


@contextmanager
def opened(directory: str, *, create: bool = False) -> Iterator[Workspace]:
    """The workspace, closed afterwards. Imported here so that `--help` stays quick."""
    from madang.workspace import open as open_workspace

    with open_workspace(directory, create=create) as workspace:
        yield workspace
