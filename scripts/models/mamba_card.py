"""Puts the trained `mamba` in its place, measures it, and writes its card.

    python scripts/models/mamba_card.py [--append]

Takes some seconds. benchmarks/mamba.py compares it with a transformer of its size.
"""

from __future__ import annotations

import json
import platform
from typing import Any

from mamba import FOLDER
from placing import append_row, head, options, placed, size_bytes

from madang.multimodal import training
from madang.multimodal.mamba import job, language

FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json", "added_tokens.json")
BEGUN = b"def parse(self, text):\n"
WINDOWS = 200


def card(found: dict[str, Any], said: str) -> str:
    """The README of the model's folder."""
    return f"""{head("text-generation", found)}
# bundled/mamba

A language model of bytes with {found['parameters']:,} parameters, of the selective state-space kind: Mamba-2 (Dao and Gu 2024), {found['size_bytes'] / 1e6:.1f} MB in
half precision, in the format of `Mamba2ForCausalLM`. It exists to be read, tried and compared: what it remembers of a text has a
fixed size, however long the text was. **It writes nothing useful.** The block is explained in
`madang.multimodal.mamba.selective` and `madang.multimodal.mamba.dual`.

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (each.from_pretrained(folder) for each in (AutoModelForCausalLM, AutoTokenizer))
    told = model.generate(**tokenizer("import ", add_special_tokens=False, return_tensors="pt"), max_new_tokens=100)
    print(tokenizer.decode(told[0]))

## How it was made

    make models        # runs: python scripts/models/mamba.py && python scripts/models/mamba_card.py

From nothing, on the source of the standard library of Python {found['python_of_data']} (Python Software Foundation License), without its tests; every
twentieth file was held out. {found['steps']:,} steps of 8 windows of 512 bytes, {found['minutes']:.0f} minutes on one shared core (torch, bfloat16).

## What it knows

{found['bits_per_byte']:.3f} bits per byte on {WINDOWS} windows of 512 bytes of the files that were held out. After
`{BEGUN.decode().strip()}` it writes:

```
{said}
```

`benchmarks/mamba.py` compares it with a transformer of the same size that saw the same bytes; `benchmarks/plots/mamba.svg` is its plot.
"""


def main() -> None:
    chosen = options(__doc__, append=(bool, False))
    trained = FOLDER / "mamba"
    out = placed(trained, "mamba", {name: name for name in FILES if (trained / name).exists()})
    model = language.load(out)
    _, held, _ = job.texts(job.PYTHON)
    bits = language.surprise(model, job.windows(held, WINDOWS, job.Recipe().length))
    last = training.read_history(trained / "training" / training.HISTORY)[-1]
    found = {"bits_per_byte": round(float(bits.mean()), 4), "parameters": language.size(model), "steps": last["step"],
             "minutes": round(last["seconds"] / 60, 1), "n_windows": WINDOWS, "python_of_data": platform.python_version(),
             "size_bytes": size_bytes(out)}
    said = language.continued(model, BEGUN, 300).decode("utf-8", "replace").strip()
    (out / "README.md").write_text(card(found, said), encoding="utf-8")
    print(json.dumps(found, indent=1))
    print(said)
    if chosen.append:
        append_row(f"bundled/mamba, {WINDOWS} held-out windows of 512 bytes", found, "python scripts/models/mamba_card.py", "transformers")


if __name__ == "__main__":
    main()
