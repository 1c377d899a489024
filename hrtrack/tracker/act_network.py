"""An action model on OpenVINO: normalised joints in, logits out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, one_line
from ..models.action_info import ActionInfo, action_info
from ..models.info import read_onnx_metadata
from ..models.runtime import openvino_core
from ..models.zoo import resolve

Floats = NDArray[np.float32]


def open_action_network(
    name_or_path: str | Path, threads: int | None = None
) -> tuple[Callable[[Floats], Floats], ActionInfo]:
    """(network, info) of a bundled action model or an ONNX file.

    The network takes (N, 3, T, 13) with any N from 1 and gives (N, len(labels) + 1) logits; any
    number of threads may call it.
    ModelError when the file is missing or no action model, BackendError without OpenVINO.
    """
    path = resolve(name_or_path, task="action")
    info = action_info(read_onnx_metadata(path), path)
    core = openvino_core()
    config: dict[str, object] = {
        # The default of CPUs with AMX is bfloat16, which moves the calibrated confidence.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = core.compile_model(str(path), "CPU", config)
    except RuntimeError as error:
        line = one_line(error)
        raise ModelError(f"OpenVINO cannot load the action model {path}: {line}") from error
    expected = (3, info.window.samples, 13)
    found = compiled.input(0).partial_shape
    if str(found) != f"[?,{','.join(map(str, expected))}]":
        raise ModelError(f"{path} takes {found}; (any number, 3, {expected[1]}, 13) was expected")
    request = compiled.create_infer_request()
    one_at_a_time = threading.Lock()  # it takes less than what a request of one's own would

    def network(joints: Floats) -> Floats:
        with one_at_a_time:
            request.infer({0: np.ascontiguousarray(joints)})
            return np.array(request.get_output_tensor(0).data)

    return network, info
