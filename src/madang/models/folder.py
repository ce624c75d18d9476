"""A model's folder in Hugging Face layout: which files it has and what they say about the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from madang.base.errors import Corrupt, InvalidInput, NotFound


class ModelFolder:
    """config.json, tokenizer.json and one file of weights, in a folder saved by hand or downloaded from a hub.

    A folder built by Madang says its name, languages and digest under "madang" in config.json. For any other, the
    name is the folder's, the languages are unknown, and the digest is computed from the files.
    """

    def __init__(self, path: Path, weights: Sequence[str], name: str | None = None) -> None:
        """`weights` are the names, relative to the folder, under which the weights may be found, best first.

        Raises:
            NotFound: the folder or one of its files is missing.
            Corrupt: config.json is not a JSON object.
        """
        self.path = Path(path)
        self.config = self.json("config.json") or self.json("config_sentence_transformers.json")
        self._own: dict[str, Any] = self.config.get("madang", {})
        wanted = [self._own["weights"]] if "weights" in self._own else list(weights)
        self.weights = self._first(wanted)
        self._tokenizer = self._first(["tokenizer.json", "0_StaticEmbedding/tokenizer.json"])
        self.name: str = name or self._own.get("name", self.path.name)
        self.languages = frozenset[str](self._own.get("languages", ()))
        self.dense_weight = float(self._own.get("dense_weight", 1.0))

    def _first(self, names: Sequence[str]) -> Path:
        for name in names:
            if (self.path / name).is_file():
                return self.path / name
        raise NotFound(f"the model folder {self.path} has no {' or '.join(names)}.",
                       remedy="Reinstall madang if it is a bundled model, or download the folder completely.")

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in the file `name`; empty if there is none. Raises `Corrupt` if it is something else."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self.damaged(self.path / name, error) from error
        if not isinstance(found, dict):
            raise self.damaged(self.path / name, "not a JSON object")
        return found

    @cached_property
    def signature(self) -> str:
        """The name and twelve digits of the sha256 over weights and tokenizer, as stored at build time if it was."""
        digest = self._own.get("sha256") or self.digest()
        return f"{self.name}@{digest[:12]}"

    def digest(self) -> str:
        """sha256 over the two files that decide what a text's vector is, read now."""
        found = hashlib.sha256()
        for path in (self.weights, self._tokenizer):
            found.update(path.read_bytes())
        return found.hexdigest()

    def tokenizer(self, max_tokens: int | None) -> Any:
        """A `tokenizers.Tokenizer` that cuts at `max_tokens` and never pads. Raises `Corrupt`."""
        from tokenizers import Tokenizer

        try:
            found = Tokenizer.from_file(str(self._tokenizer))
        except Exception as error:  # the library raises plain Exception
            raise self.damaged(self._tokenizer, error) from error
        found.no_padding()
        if max_tokens is None:
            found.no_truncation()
        else:
            found.enable_truncation(max_tokens)
        return found

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, uncut. Raises `Corrupt`."""
        return [len(encoding.ids) for encoding in self._uncut.encode_batch_fast(checked_texts(texts))]

    @cached_property
    def _uncut(self) -> Any:
        return self.tokenizer(None)

    @staticmethod
    def damaged(path: Path, reason: object) -> Corrupt:
        """The error to raise for a file that cannot be used."""
        why = (str(reason).splitlines() or [repr(reason)])[0].rstrip(".")
        return Corrupt(f"{path} is damaged or of an unknown kind: {why}.",
                       remedy="Reinstall madang if it is a bundled model, or download the folder again.")


def checked_texts(texts: Sequence[str]) -> list[str]:
    """`texts` as a list of encodable strings: half of a surrogate pair, which no file can hold, becomes "?".

    Raises:
        InvalidInput: a single string, or an item that is not a string; the message names its index.
    """
    if isinstance(texts, str):
        raise InvalidInput("texts must be a list of strings, not one string.", remedy="Write embed([text]).")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"texts[{index}] must be a string, not {type(text).__name__}.")
    return [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]
