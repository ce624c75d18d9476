"""A chat model in this process, with the transformers library: text, and pictures where the model sees.

Answers without chance (temperature 0) of several callers are computed together, see `batching`; the others, and those
about pictures, one after another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from madang.base.errors import Corrupt, InvalidInput, ServiceError
from madang.base.messages import ChatOptions, Delta, Message, ToolCallPiece, Usage
from madang.base.settings import Local
from madang.models.providers import templates, weights
from madang.models.providers.batching import Batcher
from madang.models.providers.generated import Detokenizer, StopScanner, ToolText


class TransformersChat:
    """A `ChatModel`. Threads may share it."""

    def __init__(self, name: str, model: str, local: Local) -> None:
        """`name` is how configuration calls it, `model` a folder or a name of the hub."""
        self._name, self._model_name, self._local = name, model, local
        self._loading, self._alone = threading.Lock(), threading.Lock()
        self._loaded: Loaded | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def signature(self) -> str:
        """The name and twelve digits of the digest of the files."""
        return f"{self.name}@{weights.digest(weights.folder_of(self._model_name, download=self._local.download))[:12]}"

    def close(self) -> None:
        """Stop what computes; what is under way fails."""
        if self._loaded is not None and self._loaded.batcher is not None:
            self._loaded.batcher.close()

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        """See `ChatModel.chat`. It has no log probabilities and no penalties. A schema is told to the model and not
        enforced; a tool that must be called is asked for and not enforced.

        Raises:
            InvalidInput: no messages, more than fits the model, or a picture for a model that does not see.
            Corrupt: the files are no such model. ServiceError: while iterating, if it fails.
        """
        options = options or ChatOptions()
        if not messages:
            raise InvalidInput("messages must hold at least one message.")
        with self._loading:
            if self._loaded is None:
                folder = weights.folder_of(self._model_name, download=self._local.download)
                self._loaded = Loaded(folder, self._local, self.name)
        loaded = self._loaded
        inputs = loaded.encode(messages, options)
        prompt = inputs["input_ids"][0].tolist()
        room = loaded.room - len(prompt)
        if room < 1:
            raise InvalidInput(f"the conversation has {len(prompt):,} tokens, and {self.name} takes {loaded.room:,}.",
                               remedy="Shorten it, or lower top_k in [retrieval].")
        most = min(options.max_tokens or self._local.max_tokens, room)
        drawn = loaded.samples if options.temperature is None else options.temperature > 0
        if loaded.batcher is not None and not drawn:
            tokens = loaded.batcher.tokens(prompt, most)
        else:
            tokens = self._by_itself(loaded, inputs, options, most, drawn)
        return self._answer(loaded, inputs, tokens, most, options)

    def _answer(self, loaded: Loaded, inputs: dict[str, Any], tokens: Iterator[list[int]], most: int,
                options: ChatOptions) -> Iterator[Delta]:
        """From tokens to deltas; what is closed closes them."""
        return loaded.told(tokens, inputs["input_ids"].shape[1], most, options)

    def _by_itself(self, loaded: Loaded, inputs: dict[str, Any], options: ChatOptions, most: int,
                   drawn: bool) -> Iterator[list[int]]:
        """One at a time: the seed of the random numbers is the process's own."""
        heard = _Heard()
        chance: dict[str, Any] = {"do_sample": drawn}
        if not drawn:
            chance |= {"temperature": None, "top_p": None, "top_k": None}
        chance |= {key: value for key, value in (("temperature", options.temperature), ("top_p", options.top_p))
                   if drawn and value is not None}

        def work() -> None:
            try:
                with self._alone, torch.random.fork_rng(enabled=options.seed is not None), torch.inference_mode():
                    if options.seed is not None:
                        torch.manual_seed(options.seed)
                    loaded.model.generate(**inputs, **chance, max_new_tokens=most, streamer=heard,
                                          eos_token_id=loaded.ends or None, pad_token_id=(loaded.ends or [0])[0],
                                          stopping_criteria=StoppingCriteriaList([heard.criterion]))
            except Exception as error:      # out of memory and whatever a model comes to
                heard.queue.put(error)
            finally:
                heard.queue.put(None)

        threading.Thread(target=work, daemon=True, name="generate").start()
        try:
            while (item := heard.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise ServiceError(f"{self.name} failed: {(str(item).splitlines() or [repr(item)])[0]}.",
                                       kind="server") from item
                yield item
        finally:
            heard.criterion.wanted = False


class Loaded:
    """A model with what turns conversations into tokens and tokens into text."""

    def __init__(self, folder: Path, local: Local, name: str) -> None:
        self._name, self._encoding = name, threading.Lock()
        device = local.device or ("cuda" if torch.cuda.is_available() else "cpu")
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        weights.quiet()
        try:
            config = AutoConfig.from_pretrained(folder, **given)
            self.sees = hasattr(config, "vision_config")
            kind = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
            model = weights.whole(kind, folder, config=config, dtype="auto", trust_remote_code=False)
            self.model = model.to(device).eval()
            self.processor = (AutoProcessor if self.sees else AutoTokenizer).from_pretrained(folder, **given)
        except Exception as error:      # libraries under it raise errors of their own
            why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
            raise Corrupt(f"{name} cannot be loaded from {folder}: {why}.",
                          remedy="See whether it is a chat model, and complete.") from error
        self.tokenizer = self.processor.tokenizer if self.sees else self.processor
        if not (getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template):
            raise InvalidInput(f"{name} has no chat template, so it was not trained to chat.",
                               remedy='Name a model that was; they are often called "...-Instruct".')
        settings = self.model.generation_config
        ends = settings.eos_token_id if settings.eos_token_id is not None else self.tokenizer.eos_token_id
        self.ends: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self.samples = bool(settings.do_sample)
        text = config.get_text_config()
        self.room = int(getattr(text, "max_position_embeddings", None) or self.tokenizer.model_max_length)
        self.batcher = None if self.sees else Batcher(self.model, local.batch, self.ends, name)

    def encode(self, messages: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
        """What the model is given, on its device. Raises `InvalidInput`."""
        tools = templates.tools(options)
        conversation = [templates.message(each, self.sees, self._name)
                        for each in templates.with_instructions(messages, options)]
        try:
            with self._encoding:        # a tokenizer may not be shared
                found = self.processor.apply_chat_template(
                    conversation, tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=True,
                    return_tensors="pt")
        except Exception as error:      # a template is a program of its own, and refuses what it does not know
            raise InvalidInput(f"{self._name} cannot read this conversation: {(str(error).splitlines() or ['?'])[0]}.",
                               remedy="See which roles, and in which order, its chat template takes.") from error
        return {key: value.to(self.model.device) for key, value in found.items()}

    def told(self, tokens: Iterator[list[int]], prompt: int, most: int, options: ChatOptions) -> Iterator[Delta]:
        """Deltas of the answer; closing it closes `tokens`."""
        calling = bool(templates.tools(options))
        hidden = {*self.ends, self.tokenizer.pad_token_id, self.tokenizer.bos_token_id}
        if not calling:          # with tools, special tokens may be what announces a call
            hidden |= set(self.tokenizer.all_special_ids)
        text = Detokenizer(lambda ids: str(self.tokenizer.decode(ids, skip_special_tokens=False)))
        scanner, tools = StopScanner(options.stop), ToolText([tool.name for tool in options.tools])
        count, ended = 0, False
        try:
            for ids in tokens:
                count += len(ids)
                ended = ended or any(each in self.ends for each in ids)
                piece = scanner.add(text.add([each for each in ids if each not in hidden]))
                piece = tools.add(piece) if calling else piece
                if piece:
                    yield Delta(piece, model=self._name)
                if scanner.stopped:
                    break
        finally:
            closing = getattr(tokens, "close", None)
            if closing is not None:
                closing()
        rest = scanner.add(text.rest()) + scanner.rest()
        calls: tuple[ToolCallPiece, ...] = ()
        if calling:
            told = tools.add(rest)
            more, calls = tools.rest()
            rest = told + more
        if rest or calls:
            yield Delta(rest, tool_calls=calls, model=self._name)
        cut = count >= most and not (ended or scanner.stopped)
        yield Delta(finish_reason="length" if cut else "tool_calls" if calls else "stop", usage=Usage(prompt, count),
                    model=self._name)


class _Wanted(StoppingCriteria):
    """Stops where nobody wants the answer any more."""

    wanted = True

    def __call__(self, input_ids: Any, scores: Any, **more: Any) -> Any:
        return torch.full((input_ids.shape[0],), not self.wanted, device=input_ids.device, dtype=torch.bool)


class _Heard(BaseStreamer):
    """New tokens as they come, for another thread."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()
        self.criterion = _Wanted()
        self._prompt = True

    def put(self, value: Any) -> None:
        if self._prompt:        # it is told first
            self._prompt = False
            return
        self.queue.put(value.reshape(-1).tolist())

    def end(self) -> None:
        """Nothing: the thread says when it is done."""
