"""A workspace: one directory, and the only room that wires rooms together."""

from madang.workspace.workspace import Workspace, open  # noqa: A004 - madang.open, like gzip.open

__all__ = ["Workspace", "open"]
