"""Puts the trained `llava` in its place, measures it, and writes its card.

    python scripts/models/llava_card.py [--count 1000] [--append]

Takes a quarter of an hour. Draws with bundled/unclip, which must be in its place.
"""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from typing import Any

import numpy as np
from llava import FOLDER
from PIL import Image as Pictures
from placing import append_row, head, options, placed, size_bytes

from madang.base.messages import ChatOptions, Image, Message
from madang.models.providers.bundled import BundledProvider
from madang.multimodal import training
from madang.multimodal.llava.model import load
from madang.multimodal.scenes.interview import interview
from madang.multimodal.scenes.mixed import mixed
from madang.multimodal.scenes.observe import Observer
from madang.multimodal.scenes.read import kept, read, tally

FILES = ("config.json", "generation_config.json", "model.safetensors", "output_projector.safetensors", "processor_config.json",
         "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
ATTRIBUTES = ("background", "time", "count", "colour", "size", "shape", "position", "yes/no")
REQUESTS = 200


def both(requests: int) -> dict[str, Any]:
    """Of mixed requests: how often the answer is of the kind that is wanted, and whether what it says that it draws, and what it
    draws, is what was asked for."""
    model = BundledProvider().chat_model("llava")
    observer, right, said, shown = Observer(), [], [], []
    for asked in mixed(requests, 64):
        parts: tuple[Any, ...] = (asked.text,)
        if asked.picture is not None:
            out = io.BytesIO()
            Pictures.fromarray(asked.picture).save(out, "PNG")
            parts = (Image("image/png", out.getvalue()), asked.text)
        told = "".join(delta.text for delta in model.chat([Message("user", asked.text, parts=parts)], ChatOptions(seed=1)))
        drawn = re.fullmatch(r"(.*?)\s*!\[picture\]\(data:image/png;base64,(.*)\)", told, re.DOTALL)
        right.append((drawn is not None) == (asked.wanted is not None))
        if drawn and asked.wanted is not None:
            picture = np.asarray(Pictures.open(io.BytesIO(b64decode(drawn[2]))).convert("RGB"))
            said.append(kept(asked.wanted, read(drawn[1], asked.language)))
            shown.append(kept(asked.wanted, observer.observe([picture])[0]))
    return {"modality": round(float(np.mean(right)), 4), **{name: {each: round(share, 3) for each, share in tally(found).items()}
                                                            for name, found in (("said", said), ("drawn", shown))}}


def card(found: dict[str, Any]) -> str:
    """The README of the model's folder."""
    rows = "\n".join(f"| {name} | {found[name]:.3f} | {found[f'{name} ko']:.3f} |" for name in ATTRIBUTES)
    said, drawn = (", ".join(f"{name} {value:.2f}" for name, value in found[each].items()) for each in ("said", "drawn"))
    return f"""{head("image-text-to-text", found)}
# bundled/llava

A model that describes pictures, answers questions about them, and draws where that is asked for: LLaVA (Liu et al. 2023) with the
tower of bundled/clip, a projector of two layers and a language model of 2.4 million parameters; {found['size_bytes'] / 1e6:.1f} MB in half
precision, in the format of `LlavaForConditionalGeneration`. It exists so that describing pictures runs offline, through the same
code as models of the hub.

**It knows painted scenes and nothing else**: see bundled/clip. Of any other picture it says something about scenes.

## How it was made

    make models        # runs: python scripts/models/llava.py && python scripts/models/llava_card.py

Three stages on scenes of the split "train", batches of 48: the language model alone (1,500 steps, three tenths of what it learns from
are comparisons of what is there with what was said), the projector alone on captions (200), then both on conversations of one or two
turns: captions, questions and answers, detailed descriptions, reasoning, by the grammar of the scenes, half English, half Korean;
seven in ten of these are questions whether something is true. A fifth each are requests to draw something, and to draw a picture
otherwise.

This one came about in five runs, on one shared core (torch, bfloat16), while the method was found; training from nothing gives another
one. 300, 200 and 3,000 steps, in which requests to draw were answered by a picture alone and yes or no was one word (its tokenizer is
of the words of then); 500 of the language model and 1,650 of conversations; 900 of the language model, of questions whether something
is true alone; 1,250 of conversations, most of them such questions; and, with answers as they are now, 450 of the language
model, of comparisons, and {found['steps']:,} of conversations in {found['minutes']:.0f} minutes. From nothing the script came to colours
of .956, shapes of .886 and a yes or no of .79 (150 unseen scenes): its language model wants more than 1,500 steps to compare.

Asked whether something is true, it says what it sees and beside it what was said, part by part, whether that fits, and yes or no with
its last word. Asked to draw, it says what it is going to draw, and then a picture with four tokens, whose hidden states an output
projector maps to the vector of the text that asks for it; from that bundled/unclip draws.

## What it knows

Measured by `scripts/models/llava_card.py` on {found['n_scenes']:,} scenes of reserved seeds. Captions are read back by attribute; what is left out is
wrong. Yes/no: two claims about each scene, one true, the other of a scene that differs in one respect; the last word counts.

| attribute | English | Korean |
|---|---|---|
{rows}

Of {REQUESTS} mixed requests, half of which want words and half a picture, {found['modality']:.3f} get the kind that is wanted. What it
says that it is going to draw, read back: {said}. What it draws, read off by bundled/observer: {drawn}.

## Limits

- Pictures are brought to 64 x 64 pixels; a conversation has one picture, in its first question.
- It does not know when it knows nothing: asked for what no scene has ("a dog"), it takes that for a shape that is there, and says yes.
- Whether a claim is true it tells rightly for {found['yes/no']:.2f} of them (Korean {found['yes/no ko']:.2f}).
- What it draws is a little less what was asked for than what `madang image draw` makes of the same words.
"""


def main() -> None:
    chosen = options(__doc__, count=(int, 1000), append=(bool, False))
    out = placed(FOLDER, "llava", {name: name for name in FILES if (FOLDER / name).exists()})
    seer = load(str(out))
    last = training.read_history(FOLDER / "training" / "instruct" / training.HISTORY)[-1]
    found = {name: round(value, 4) for name, value in interview(seer.answers, seer.side, chosen.count).items()}
    found |= both(REQUESTS)
    found |= {"steps": last["step"], "minutes": round(last["seconds"] / 60, 1), "n_scenes": chosen.count,
              "size_bytes": size_bytes(out)}
    (out / "README.md").write_text(card(found), encoding="utf-8")
    print(json.dumps(found, indent=1))
    if chosen.append:
        append_row(f"bundled/llava, {chosen.count:,} unseen scenes", found, "python scripts/models/llava_card.py", "transformers")


if __name__ == "__main__":
    main()
