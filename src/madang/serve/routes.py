"""From a method and a path to whoever answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from madang.serve.http import Handler

_BRACE = re.compile(r"\{(\w+)\}")
_NONE: Mapping[str, str] = {}


class Routes:
    """Paths as "/indexes/{name}": a part in braces takes one segment, which is then decoded."""

    def __init__(self) -> None:
        self._plain: dict[tuple[str, str], Handler] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Handler]] = []

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Earlier ones win among those with braces; those without win over all."""
        if "{" not in path:
            self._plain[method, path] = handler
            return
        parts = _BRACE.split(path)      # text, name, text, name, ..., text
        pattern = "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
        self._patterns.append((method, re.compile(pattern), handler))

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        """`path` as it was sent, still encoded."""
        plain = self._plain.get((method, path))
        if plain is not None:
            return plain, _NONE
        for wanted, pattern, handler in self._patterns:
            if wanted == method and (match := pattern.fullmatch(path)):
                return handler, {name: unquote(part) for name, part in match.groupdict().items()}
        return None

    def methods(self, path: str) -> list[str]:
        """What a path can be asked with."""
        known = {method for method, there in self._plain if there == path}
        return sorted(known | {method for method, pattern, _ in self._patterns if pattern.fullmatch(path)})
