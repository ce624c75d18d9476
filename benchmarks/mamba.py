"""A Mamba-2 beside a transformer of the same size, text and steps: loss, memory and time for a token as the context grows.

    python benchmarks/mamba.py [--longest 8192] [--windows 24] [--append] [--plot benchmarks/plots/mamba.svg]

Needs torch (make .venv-local-models/installed), and both models, which scripts/models/mamba.py makes (half an hour on one core).
Takes some minutes, on one thread. Loss: bits for each byte of held-out files of Python's standard library, by how many bytes of the
same window come before it. Memory: what a model keeps of the context, in float32. Time: the median for one more byte, by
transformers' own code for either.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Row, append, versions
from madang.multimodal.mamba import job, language
from madang.multimodal.mamba.plot import Measured, svg

MODELS = Path(__file__).resolve().parents[1] / ".cache" / "models" / "mamba"
LEARNT = job.Recipe().length


def measured(folder: Path, windows: torch.Tensor, longest: int) -> Measured:
    """One model's figures; the loss at 2^k is that of bytes with 2^(k-1) + 1 to 2^k bytes before them."""
    model = language.load(folder)
    costs = [language.cost(model, windows[0, :context]) for context in _powers(16, longest)]
    parameters = language.size(model)
    bits = language.surprise(language.quick(model), windows).mean(0)
    return Measured(parameters, {at: float(bits[at // 2: at].mean()) for at in _powers(2, windows.shape[1] - 1)}, costs)


def _powers(least: int, most: int) -> list[int]:
    return [1 << power for power in range(least.bit_length() - 1, most.bit_length())]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--longest", type=int, default=8192)
    options.add_argument("--windows", type=int, default=24)
    options.add_argument("--append", action="store_true", help="add a row to benchmarks/RESULTS.md")
    options.add_argument("--plot", type=Path, help="an SVG")
    chosen = options.parse_args()
    for kind in language.KINDS:
        if not (MODELS / kind / "config.json").exists():
            raise SystemExit(f"There is no {kind} in {MODELS}. Make it with: python scripts/models/mamba.py")
    torch.set_num_threads(1)
    _, held, _ = job.texts(job.PYTHON)
    windows = job.windows(held, chosen.windows, chosen.longest + 1)
    found = {kind: measured(MODELS / kind, windows, chosen.longest) for kind in language.KINDS}
    told = []
    for kind, each in found.items():
        shown = [at for at in (128, LEARNT, 4 * LEARNT, chosen.longest) if at in each.surprise]
        bits = ", ".join(f"{each.surprise[at]:.2f} after {at}" for at in shown)
        costs = {cost.context: cost for cost in each.costs}
        spent = ", ".join(f"{costs[at].seconds * 1000:.1f} ms and {costs[at].remembered / 1024:,.0f} KiB after {at}"
                          for at in (LEARNT, chosen.longest) if at in costs)
        told.append(f"{kind} ({each.parameters:,} parameters): bits per byte {bits}; a byte more takes {spent}")
        print(told[-1])
    if chosen.plot:
        chosen.plot.parent.mkdir(parents=True, exist_ok=True)
        chosen.plot.write_text(svg(found, LEARNT), encoding="utf-8")
    if chosen.append:
        append([Row(f"Mamba-2 beside a transformer, {chosen.windows} held-out windows of {chosen.longest:,} bytes", "; ".join(told),
                    "python benchmarks/mamba.py", versions("madang", "torch", "transformers"))])


if __name__ == "__main__":
    main()
