"""Collections of pictures: embedding, ingesting and searching, beside decoding alone.

    python benchmarks/images.py [--count 10000] [--side 256] [--folder DIR] [--json] [--append]

The pictures are painted scenes as JPEG. "embed" runs on one thread, one by one and in batches, the best of five rounds.
"ingest" is from files to committed and thumbnails written; "decode" is what any program must do at least: read, decode and
scale the same files, on as many threads. "search" asks 200 prompts by words and 200 by a picture's bytes, one after another,
embedding the question included.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import madang
from benchmarks.results import Row, versions
from madang.models.pictures import opened
from madang.models.providers.onnx_clip import OnnxClip
from madang.models.providers.seers import FOLDER
from madang.multimodal.scenes import paint, prompt, scene
from madang.multimodal.scenes.dataset import write

ASKED = 200


def best_ms(call: Callable[[], Any], count: int, rounds: int = 5) -> float:
    """Milliseconds for each of `count`, of the fastest round."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times) / count * 1e3


def embed() -> dict[str, float]:
    """Milliseconds on one thread."""
    model = OnnxClip(FOLDER / "clip", name="bundled/clip", threads=1)
    pictures = [np.asarray(paint(scene(seed, "held-out"), seed)) for seed in range(64)]
    texts = [prompt(scene(seed, "held-out"), seed, "ko" if seed % 2 else "en", split="held-out") for seed in range(64)]
    model.embed_images(pictures[:1]), model.embed(texts[:1])
    return {"image_ms": best_ms(lambda: model.embed_images(pictures), 64),
            "image_alone_ms": best_ms(lambda: [model.embed_images([each]) for each in pictures], 64),
            "text_ms": best_ms(lambda: model.embed(texts), 64),
            "text_alone_ms": best_ms(lambda: [model.embed([each]) for each in texts], 64)}


def decode(paths: Sequence[Path]) -> float:
    """Pictures a second: read, decoded, scaled to a thumbnail."""
    def one(path: Path) -> None:
        opened(path.read_bytes()).thumbnail((192, 192))

    begun = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, paths))
    return len(paths) / (time.perf_counter() - begun)


def measure(count: int, side: int, folder: Path) -> dict[str, Any]:
    """Everything."""
    pictures = folder / "pictures"
    write(pictures, count, split="held-out", side=side, kind="jpg")
    paths = sorted(pictures.glob("*.jpg"))
    found: dict[str, Any] = {"count": count, "side": side, **embed(), "decode_per_s": decode(paths)}
    with madang.open(folder / "ws") as ws:
        report = ws.ingest_images(pictures)
        begun = time.perf_counter()
        ws.collection("images").wait_until_indexed()
        found |= {"ingest_s": report.seconds, "ingest_per_s": count / report.seconds, "failed": report.failed,
                  "duplicates": report.duplicates, "index_after_s": time.perf_counter() - begun}
        times: dict[str, list[float]] = {"text": [], "image": []}
        right = 0
        for seed in range(ASKED):
            text = prompt(scene(seed, "held-out"), seed, split="held-out")
            begun = time.perf_counter()
            hits = ws.search_images(text, top_k=10)
            times["text"].append((time.perf_counter() - begun) * 1e3)
            right += hits[0].caption == text
            data = paths[seed].read_bytes()
            begun = time.perf_counter()
            ws.search_images(data, top_k=10)
            times["image"].append((time.perf_counter() - begun) * 1e3)
        for name, each in times.items():
            found |= {f"{name}_p50_ms": float(np.quantile(each, 0.5)), f"{name}_p95_ms": float(np.quantile(each, 0.95))}
        found["first_is_right"] = right / ASKED
    return found


def line(found: dict[str, Any]) -> str:
    """As one line."""
    return (f"{found['count']:,} JPEGs of {found['side']} px: ingested at {found['ingest_per_s']:,.0f}/s (decoding alone "
            f"{found['decode_per_s']:,.0f}/s), {found['failed']} failed, {found['duplicates']} near copies; search by words p50 "
            f"{found['text_p50_ms']:.1f} ms, p95 {found['text_p95_ms']:.1f} ms, by a picture {found['image_p50_ms']:.1f} and "
            f"{found['image_p95_ms']:.1f} ms; the first is the right one for {found['first_is_right']:.1%}; one thread: an image "
            f"{found['image_ms']:.2f} ms (alone {found['image_alone_ms']:.2f}), a text {found['text_ms']:.2f} ms (alone "
            f"{found['text_alone_ms']:.2f})")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--side", type=int, default=256)
    options.add_argument("--folder", default="", help="where files are kept meanwhile")
    options.add_argument("--json", action="store_true")
    options.add_argument("--append", action="store_true", help="add a row to RESULTS.md")
    chosen = options.parse_args(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="images-", dir=chosen.folder or None) as folder:
        found = measure(chosen.count, chosen.side, Path(folder))
    print(json.dumps(found) if chosen.json else line(found))
    if chosen.append:
        from benchmarks.results import append

        command = " ".join(["python benchmarks/images.py", *(each for each in sys.argv[1:] if each not in ("--append", "--json"))])
        append([Row("pictures", line(found), command, versions("madang", "onnxruntime", "pillow"))])


if __name__ == "__main__":
    main()
