"""Handwritten digits: a model that never saw one learns them, by one command.

    python examples/digits.py [FOLDER]

Writes scikit-learn's 1,797 digits as pictures into a folder for each label, and tunes the bundled CLIP to them with
`madang train clip`. Needs pip install "madang[train]" scikit-learn. Takes a few minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from madang.cli.main import entry

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def written(folder: Path) -> int:
    """Every digit as FOLDER/NAME/NUMBER.png, 64 x 64 pixels, dark on white; returns how many."""
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / f"the digit {NAMES[label]}"
        place.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((255 - pixels * 15.9).astype(np.uint8))
        grey.resize((64, 64), Image.Resampling.BICUBIC).save(place / f"{number:04d}.png")
    return len(digits.target)


def main() -> int:
    """The exit code of the command."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "digits")
    print(f"{written(folder / 'pictures')} digits in {folder / 'pictures'}")
    return entry(["train", "clip", str(folder / "model"), "--from", "bundled/clip", "--data", str(folder / "pictures"),
                  "--steps", "300", "--batch", "128", "--learning-rate", "0.0005", "--every", "100"])


if __name__ == "__main__":
    sys.exit(main())
