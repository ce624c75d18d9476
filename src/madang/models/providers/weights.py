"""Weights that lie in a folder or come from the Hugging Face hub, and what they are known by. Knows no torch.

A model is named as the hub names it ("intfloat/multilingual-e5-small"), or by a folder: "/srv/models/e5", "./e5",
"~/models/e5".
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from madang.base.errors import Corrupt, InvalidInput, NotFound, ServiceError

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")      # never pickles: they can run anything
_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
_BLOCK = 1 << 20


def folder_of(model: str, *, download: bool = True) -> Path:
    """Where the files of `model` are; fetched from the hub if they are not on this machine and `download` says so.

    Raises:
        InvalidInput: neither a folder nor a name of the hub. NotFound: there is no such folder or model.
        ServiceError: the hub cannot be reached, or asks who you are.
    """
    if model.startswith(("/", "./", "../", "~")):
        path = Path(model).expanduser().absolute()
        if not path.is_dir():
            raise NotFound(f"there is no folder {path}.", remedy="Name a folder that holds a model.")
        return path
    if not _ID.fullmatch(model):
        raise InvalidInput(f"{model!r:.100} is neither a folder nor a model of the hub.",
                           remedy='Write for example "intfloat/multilingual-e5-small" or "./my-model".')
    return _snapshot(model, download)


def _snapshot(model: str, download: bool) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=list(_FILES), local_files_only=not download,
                                      endpoint=os.environ.get("HF_ENDPOINT") or None))
    except errors.GatedRepoError as error:
        raise ServiceError(f"the hub gives {model!r} only to those who accepted its terms.", kind="auth",
                           remedy="Accept them on its page, and put a token in HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise NotFound(f"the hub has no model {model!r}, or not for you.",
                       remedy="Check the name; for a private one put a token in HF_TOKEN.") from error
    except errors.LocalEntryNotFoundError as error:
        if download:
            raise _unreachable(model) from error
        raise NotFound(f"the model {model!r} is not on this machine.",
                       remedy="Set download = true in [local], or name the folder it lies in.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise _unreachable(model) from error


def _unreachable(model: str) -> ServiceError:
    return ServiceError(f"the hub could not be reached for {model!r}, which is not on this machine.",
                        kind="unreachable", retryable=True,
                        remedy="Check the network, or copy the model's folder here and name that.")


def digest(folder: Path) -> str:
    """64 hexadecimal digits over the files that decide what the model says: weights, configuration, tokenizer.

    The same for a copy of the hub's files elsewhere. The hub's own store names large files by their SHA-256, so that
    they need not be read. Raises `Corrupt` where there are no weights.
    """
    paths = sorted({path for pattern in _FILES for path in folder.rglob(pattern) if _matters(path.relative_to(folder))})
    if not any(path.suffix == ".safetensors" for path in paths):
        raise Corrupt(f"{folder} has no *.safetensors.",
                      remedy="Save the model in that format; pickled weights are not loaded, since they can run code.")
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.relative_to(folder).as_posix()}\0{_sha256(path)}\n".encode())
    return total.hexdigest()


def _matters(path: Path) -> bool:
    return not any(part.startswith(".") or part in ("onnx", "openvino") for part in path.parts)


def _sha256(path: Path) -> str:
    blob = path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def whole(kind: Any, folder: Path, **given: Any) -> Any:
    """What lies in a folder, by `kind.from_pretrained` of transformers or diffusers, from safetensors alone.

    Raises `ValueError` where weights are missing, which the libraries would make up at random; and what they raise.
    """
    model, found = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **given
    )
    missing = {name for name in found["missing_keys"] if not _UNUSED.search(name)}
    # A tied one is missing because what it is tied to is.
    if named := sorted(missing - set(getattr(model, "all_tied_weights_keys", ()))) or sorted(missing):
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"it has no {named[0]}{more}")
    return model


# The end of a tower that sees, which a model that looks at its patches does without.
_UNUSED = re.compile(r"vision_tower[.](vision_model[.])?(post_layernorm|head)[.]")


def quiet() -> None:
    """No bars of the library transformers: small models load at once, and whoever trains has a bar already."""
    from transformers.utils import logging

    logging.disable_progress_bar()
