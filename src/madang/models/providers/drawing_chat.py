"""A chat model that reads pictures and text and answers with text or a picture, as it decides.

It says a picture with tokens of its own, after what it is going to draw in words; their hidden states an output
projector maps to the vector of a text, and from that a prior and a decoder draw. The picture is in the answer as
Markdown with a data: URL: the protocols of chats know none in an answer, and this is what their front ends show.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from madang.base.errors import ServiceError
from madang.base.messages import ChatOptions, Delta, Usage
from madang.base.settings import Local
from madang.models.protocol import DrawOptions
from madang.models.providers.output_projector import OUTPUT, PICTURE, OutputProjector
from madang.models.providers.transformers_chat import Loaded, TransformersChat
from madang.models.providers.unclip_images import UnclipImages


class DrawingChat(TransformersChat):
    """A `ChatModel`. `painter` gives who draws, when it is first needed."""

    def __init__(self, name: str, folder: str | Path, local: Local, painter: Callable[[], UnclipImages]) -> None:
        super().__init__(name, str(folder), local)
        self._folder, self._make_painter = Path(folder).expanduser(), painter
        self._output: OutputProjector | None = None
        self._painter: UnclipImages | None = None
        self._making = threading.Lock()

    def _answer(self, loaded: Loaded, inputs: dict[str, Any], tokens: Iterator[list[int]], most: int,
                options: ChatOptions) -> Iterator[Delta]:
        return self._text_or_picture(loaded, inputs, tokens, most, options)

    def _text_or_picture(self, loaded: Loaded, inputs: dict[str, Any], tokens: Iterator[list[int]], most: int,
                         options: ChatOptions) -> Iterator[Delta]:
        before = _Before(loaded.tokenizer.convert_tokens_to_ids(PICTURE[0]), tokens)
        words = last = None
        for delta in super()._answer(loaded, inputs, iter(before), most, options):
            if delta.finish_reason is None or not before.reached:
                yield delta
            words, last = words or delta.text.strip(), delta
        if not before.reached or last is None or last.finish_reason is None:
            return
        with self._making:
            self._painter = self._painter or self._make_painter()
        drawing = self._painter.draw_vector(self._vector(loaded, inputs, before.ids), DrawOptions(seed=options.seed))[0]
        data = base64.b64encode(drawing.data).decode()
        gap = "\n\n" if words else ""
        yield Delta(f"{gap}![picture](data:{drawing.media_type};base64,{data})", model=self.name)
        usage = Usage(inputs["input_ids"].shape[1], len(before.ids) + len(PICTURE))
        yield Delta(finish_reason="stop", usage=usage, model=self.name)

    @torch.inference_mode()
    def _vector(self, loaded: Loaded, inputs: dict[str, Any], words: list[int]) -> Any:
        """float32 (dim,) of length 1: that of the text which would ask for the picture that is said after `words`."""
        if self._output is None:
            self._output = OutputProjector.load(self._folder / OUTPUT)
        picture = loaded.tokenizer.convert_tokens_to_ids(list(PICTURE))
        said = torch.tensor([[*words, *picture]], device=loaded.model.device)
        given = {**inputs, "input_ids": torch.cat([inputs["input_ids"], said], 1),
                 "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1)}
        try:
            states = loaded.model.model(**given, use_cache=False).last_hidden_state[:, -len(PICTURE):]
            return normalize(self._output(states.float().cpu()))[0].numpy()
        except Exception as error:      # out of memory and whatever a model comes to
            raise ServiceError(f"{self.name} failed: {(str(error).splitlines() or [repr(error)])[0]}.",
                               kind="server") from error


class _Before:
    """Tokens up to the one that begins a picture, and whether it came; `ids` are those before it."""

    def __init__(self, mark: int, tokens: Iterator[list[int]]) -> None:
        self._mark, self._tokens = mark, tokens
        self.ids: list[int] = []
        self.reached = False

    def __iter__(self) -> Iterator[list[int]]:
        try:
            for found in self._tokens:
                self.reached = self._mark in found
                words = found[: found.index(self._mark)] if self.reached else found
                self.ids += words
                yield words
                if self.reached:
                    return
        finally:
            getattr(self._tokens, "close", lambda: None)()
