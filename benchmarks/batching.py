"""How long several answers of one model take together, beside one alone: continuous batching in this process.

    .venv-local-models/bin/python benchmarks/batching.py [--rounds 3]

A model of 16 million random weights, 48 tokens an answer, one core. Ratios within one round only: a machine has other
work, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from madang.base.messages import ChatOptions, Message
from madang.base.settings import Local
from madang.models.protocol import ChatModel
from madang.models.providers.transformers import TransformersProvider
from tests.local_models.checkpoints import byte_tokenizer

COUNTS = (1, 8, 16)


def save(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1024, num_hidden_layers=6,
                         num_attention_heads=8, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
                         bos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def seconds(model: ChatModel, count: int) -> float:
    """Until `count` callers at once have their answers."""
    def ask(number: int) -> None:
        for _ in model.chat([Message("user", f"question {number}")], ChatOptions(max_tokens=48)):
            pass

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        provider = TransformersProvider(Local(device="cpu", batch=max(COUNTS)))
        model = provider.chat_model(folder)
        seconds(model, 1)
        for _ in range(rounds):
            times = {count: seconds(model, count) for count in COUNTS}
            print("  ".join(f"{count}: {taken:.2f} s ({taken / times[1]:.2f} x)" for count, taken in times.items()))
        provider.close()


if __name__ == "__main__":
    main()
