"""Where a collection of another engine is: the URL, taken apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from madang.base.errors import InvalidInput
from madang.store import validate

MEMORY = ":memory:"


@dataclass(frozen=True, slots=True)
class Address:
    """A server (`host`, `port`) or a local `path`, one of the two, and the collection there."""

    collection: str
    host: str = ""
    port: int = 0
    path: str = ""
    options: dict[str, str] = field(default_factory=dict)


def parse(url: str, scheme: str, port: int) -> Address:
    """Parse `scheme://HOST[:PORT]/COLLECTION` or `scheme:///PATH?collection=NAME`.

    Raises:
        InvalidInput: not such a URL. Passwords and keys are refused in it: they belong into the environment.
    """
    remedy = f"For example {scheme}://localhost:{port}/docs or {scheme}:///data/store?collection=docs."
    if not isinstance(url, str):
        raise InvalidInput(f"url must be text, not {url!r:.80}.", remedy=remedy)
    found = urlsplit(url)
    if found.scheme != scheme:
        raise InvalidInput(f"url {url!r:.80} does not start with {scheme}://.", remedy=remedy)
    if "@" in found.netloc:
        raise InvalidInput(f"a {scheme} url must hold no user and no password.",
                           remedy="Set the key in the environment.")
    options, path = dict(parse_qsl(found.query)), unquote(found.path)
    if not found.netloc:
        name = options.pop("collection", "")
        if not path.strip("/") or not name:
            raise InvalidInput(f"url {url!r:.80} lacks the path or the collection.", remedy=remedy)
        return Address(validate.collection_name(name), path=path, options=options)
    name = validate.collection_name(path.strip("/"))
    if found.netloc == MEMORY:
        return Address(name, path=MEMORY, options=options)
    try:
        host, number = found.hostname or "", found.port or port
    except ValueError:
        raise InvalidInput(f"url {url!r:.80} has a bad port.", remedy=remedy) from None
    return Address(name, host=host, port=number, options=options)
