"""From torch to a file of ONNX, for serving without torch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madang.base.errors import MissingDependency

OPSET = 20  # the first with GELU as one operation


def written(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names: Sequence[str], outputs: Sequence[str], shapes: Any
) -> None:
    """Write `module` as it works on `inputs`, whose dimensions in `shapes` are free. Raises `MissingDependency`."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingDependency("Exporting to ONNX", extra="train") from None
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=list(names),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """None of the libraries' remarks on how it goes."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logging.disable(before)
