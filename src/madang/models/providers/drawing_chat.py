"""A chat model that reads pictures and text and answers with text or a picture, as it decides.

It says a picture with tokens of its own, whose hidden states an output projector maps to the vector of a text; from
that a prior and a decoder draw. The picture is in the answer as Markdown with a data: URL: the protocols of chats know
none in an answer, and this is what their front ends show.
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
        first = next(tokens, [])
        if loaded.tokenizer.convert_tokens_to_ids(PICTURE[0]) not in first:
            yield from super()._answer(loaded, inputs, _after(first, tokens), most, options)
            return
        getattr(tokens, "close", lambda: None)()
        with self._making:
            self._painter = self._painter or self._make_painter()
        drawing = self._painter.draw_vector(self._vector(loaded, inputs), DrawOptions(seed=options.seed))[0]
        data = base64.b64encode(drawing.data).decode()
        yield Delta(f"![picture](data:{drawing.media_type};base64,{data})", model=self.name)
        yield Delta(finish_reason="stop", usage=Usage(inputs["input_ids"].shape[1], len(PICTURE)), model=self.name)

    @torch.inference_mode()
    def _vector(self, loaded: Loaded, inputs: dict[str, Any]) -> Any:
        """float32 (dim,) of length 1: that of the text which would ask for the picture."""
        if self._output is None:
            self._output = OutputProjector.load(self._folder / OUTPUT)
        said = torch.tensor([loaded.tokenizer.convert_tokens_to_ids(list(PICTURE))], device=loaded.model.device)
        given = {**inputs, "input_ids": torch.cat([inputs["input_ids"], said], 1),
                 "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1)}
        try:
            states = loaded.model.model(**given, use_cache=False).last_hidden_state[:, -len(PICTURE):]
            return normalize(self._output(states.float().cpu()))[0].numpy()
        except Exception as error:      # out of memory and whatever a model comes to
            raise ServiceError(f"{self.name} failed: {(str(error).splitlines() or [repr(error)])[0]}.",
                               kind="server") from error


def _after(first: list[int], tokens: Iterator[list[int]]) -> Iterator[list[int]]:
    """What was taken already, and the rest; what is closed closes the rest."""
    try:
        yield first
        yield from tokens
    finally:
        getattr(tokens, "close", lambda: None)()
