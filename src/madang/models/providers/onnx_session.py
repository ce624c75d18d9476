"""ONNX Runtime on the CPU, one thread a session: what runs side by side are batches, see `OnnxEmbedder`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from madang.models.folder import ModelFolder


def default_threads() -> int:
    """OMP_NUM_THREADS, else the cores we may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(path: Path) -> Any:
    """An `onnxruntime.InferenceSession`. Raises `Corrupt`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: a warning about a node is nothing the user can act on
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its error types are not public
        raise ModelFolder.damaged(path, error) from error
