"""Many answers at a time by one model: continuous batching as the transformers library offers it.

A request joins the batch between two tokens of the others and leaves it with its last one; the memory of what was read
(the KV cache) is kept in pages, so that a batch holds as many requests as fit and not as many as the longest allows.
G.-I. Yu et al., "Orca" (OSDI 2022); W. Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention" (SOSP 2023).
"""

from __future__ import annotations

import itertools
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from madang.base.errors import ServiceError

_PAGE_TOKENS = 32
_CPU_TOKENS = 32_768         # of all requests together that are kept in main memory; more wait for their turn
_PAUSE_S = 0.1               # how long the pump sleeps where nothing comes
_NO_END = -1


class Batcher:
    """Greedy answers of one text model. Threads may share it; the loop starts with the first request and ends with the
    process, or with `close`."""

    def __init__(self, model: Any, most: int, ends: list[int], name: str) -> None:
        """`most`: requests computed together. `ends`: the tokens that end an answer."""
        self._model, self._most, self._ends, self._name = model, most, ends, name
        self._lock = threading.Lock()
        self._listeners: dict[str, queue.Queue[Any]] = {}
        self._numbers = itertools.count()
        self._manager: Any = None

    def tokens(self, prompt: list[int], max_tokens: int) -> Iterator[list[int]]:
        """Each piece of the answer as it comes: ids of new tokens. Closing it takes the request out of the batch.

        Raises `ServiceError` where the loop fails.
        """
        manager = self._running()
        key, heard = f"madang-{next(self._numbers)}", queue.Queue[Any]()
        self._listeners[key] = heard
        finished, known = False, 0
        try:
            manager.add_request(prompt, request_id=key, max_new_tokens=max_tokens, streaming=True,
                                eos_token_id=self._ends or _NO_END)
            while not finished:
                output = heard.get()
                if isinstance(output, Exception):
                    finished = True
                    raise ServiceError(f"{self._name} failed: {output}.", kind="server") from output
                finished = output.is_finished()
                if output.error is not None:
                    raise ServiceError(f"{self._name} failed: {output.error}.", kind="server")
                fresh = list(output.generated_tokens)[known:]
                known += len(fresh)
                if fresh:
                    yield fresh
        finally:
            self._listeners.pop(key, None)
            if not finished:
                manager.cancel_request(key)

    def close(self) -> None:
        """Stop the loop; what is under way fails."""
        with self._lock:
            manager, self._manager = self._manager, None
        if manager is not None:
            _stop(manager)

    def _running(self) -> Any:
        with self._lock:
            if self._manager is None or not self._manager.is_running():
                self._manager = self._made()
                started = threading.Event()
                threading.Thread(target=_pump, args=(self._manager, self._listeners, started), daemon=True,
                                 name="batching").start()
                started.wait()
                weakref.finalize(self, _stop, self._manager)      # at the end of the process, too
            return self._manager

    def _made(self) -> Any:
        on_cpu = self._model.device.type == "cpu"
        # Elsewhere the library measures how much fits; in main memory it is not ours alone.
        bounds: dict[str, Any] = {
            "page_size": _PAGE_TOKENS, "num_blocks": _CPU_TOKENS // _PAGE_TOKENS, "max_batch_tokens": 512,
            "use_cuda_graph": False, "use_async_batching": False} if on_cpu else {}
        config = ContinuousBatchingConfig(max_requests_per_batch=self._most, auto_switch_to_flash=not on_cpu, **bounds)
        chosen = GenerationConfig(do_sample=False, eos_token_id=self._ends or _NO_END,
                                  pad_token_id=self._ends[0] if self._ends else 0)
        return self._model.init_continuous_batching(generation_config=chosen, continuous_batching_config=config)


def _pump(manager: Any, listeners: dict[str, queue.Queue[Any]], started: threading.Event) -> None:
    """Starts the loop, whose thread becomes a daemon as this one is, and hands out what it makes."""
    try:
        with torch.inference_mode():
            manager.start()
    finally:
        started.set()
    while manager.is_running():
        output = manager.get_result(timeout=_PAUSE_S)
        heard = None if output is None else listeners.get(output.request_id)
        if heard is not None:
            heard.put(output)
    failed = manager.background_thread_status.fatal_error or RuntimeError("the model was closed")
    for heard in list(listeners.values()):
        heard.put(failed)


def _stop(manager: Any) -> None:
    if manager.is_running():
        manager.stop(block=True, timeout=10, hard_stop=True)
