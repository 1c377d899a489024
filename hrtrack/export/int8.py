"""8-bit ONNX for TensorRT: quantisation of the trunk after training, calibrated on real crops.

NNCF looks at the values that flow through the network and inserts quantise-dequantise pairs,
which TensorRT turns into 8-bit kernels. The decoder, and the last layer before it, stay float32.
CPUs need no such file: see `hrtrack.models.runtimes.eight_bit`.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, ModelError
from ..models.info import PoseInfo
from ..models.runtimes.eight_bit import require_crops
from .onnx import INPUT

if TYPE_CHECKING:
    import onnx


def quantise_for_tensorrt(
    model: onnx.ModelProto, described: PoseInfo, crops: NDArray[np.uint8]
) -> onnx.ModelProto:
    """ONNX with explicit QuantizeLinear and DequantizeLinear nodes, symmetric as TensorRT wants.

    Args:
        model: from `hrtrack.export.onnx.to_onnx` with folded batch norms.
        described: what the model is; its ``input_hw`` must be the crops'.
        crops: (N, H, W, 3) uint8 RGB calibration crops, at least `FEWEST`.

    Raises:
        BackendError: NNCF is not installed.
        ModelError: too few crops, or of another size.
    """
    nncf = _nncf()
    require_crops(crops, described)
    names = [node.name for node in model.graph.node]
    # Its progress bars go to standard output, where scripts read the export's path.
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        quantised: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset([{INPUT: crop[None]} for crop in crops]),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            target_device=nncf.TargetDevice.GPU,
            subset_size=len(crops),
            ignored_scope=nncf.IgnoredScope(names=_float_part(names), validate=False),
        )
    _make_signed(quantised)
    return quantised


def _make_signed(model: onnx.ModelProto) -> None:
    """Turns unsigned quantisation, which NNCF puts behind a ReLU, into the signed one.

    TensorRT has signed integers only. What 255 stood for becomes 127: half the steps, which
    is what TensorRT's own calibration has there too.
    """
    from onnx import TensorProto, numpy_helper

    stored = {item.name: item for item in model.graph.initializer}
    quantisers = ("QuantizeLinear", "DequantizeLinear")
    pairs = {tuple(n.input[1:3]) for n in model.graph.node if n.op_type in quantisers}
    for scale, zero in pairs:
        if stored[zero].data_type != TensorProto.UINT8:
            continue
        if numpy_helper.to_array(stored[zero]).any():
            raise ModelError("the quantisation is not symmetric, as TensorRT needs it")
        wider = numpy_helper.to_array(stored[scale]) * np.float32(255 / 127)
        none = np.zeros(tuple(stored[zero].dims), np.int8)
        stored[scale].CopyFrom(numpy_helper.from_array(wider, scale))
        stored[zero].CopyFrom(numpy_helper.from_array(none, zero))
    del model.graph.value_info[:]  # it names the old types, and every runtime infers its own


def _float_part(names: list[str]) -> list[str]:
    """Everything outside the trunk, and its last layer."""
    trunk = re.compile(r"/?network/(?!final_layer)")
    return [name for name in names if not trunk.match(name)]


def _nncf() -> Any:
    try:
        import nncf
    except ImportError:
        raise BackendError("int8 export needs NNCF: pip install 'hrtrack[int8]'") from None
    # Not `nncf.set_log_level`: it also raises the level of every handler at NNCF's logger, and so
    # silences what programs that hang theirs there, as pytest does, hear of anybody else.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf
