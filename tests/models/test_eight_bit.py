"""8-bit sums where 8-bit products are added in 16 bits."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13

from hrtrack.models.runtimes import eight_bit
from hrtrack.models.runtimes.openvino import openvino_core

CHANNELS, SIDE = 16, 8
pytestmark = pytest.mark.skipif(
    not eight_bit.int8_is_fast(), reason="no CPU that computes in 8 bits"
)


def convolution(value: float) -> openvino.Model:
    """3x3 weights of one value, under the name ``w``."""
    images = opset13.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    weights = opset13.constant(np.full((CHANNELS, CHANNELS, 3, 3), value, np.float32))
    weights.set_friendly_name("w")
    sums = opset13.convolution(images, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    return openvino.Model([sums], [images], "one")


def answer(model: openvino.Model, images: np.ndarray) -> np.ndarray:
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return openvino_core().compile_model(model, "CPU", options)({0: images})[0]


@pytest.mark.parametrize("value", [0.5, -0.5])
def test_the_largest_sums_are_right_on_this_cpu(value: float) -> None:
    model = convolution(value)
    eight_bit.quantise(model, {"w": (0.0, 4.0)})
    found = answer(model, np.full((1, CHANNELS, SIDE, SIDE), 4.0, np.float32))
    # Half of 255 steps reach to 126 of 127.
    assert found[0, :, 4, 4] == pytest.approx(9 * CHANNELS * 4 * value, rel=0.01)


def test_half_of_the_steps_where_sums_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {}
    for cut, elsewhere in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(eight_bit, "int8_saturates", lambda cut=cut: cut)
        model = convolution(0.5)
        eight_bit.quantise(model, {"w": (0.0, 4.0)}, elsewhere=elsewhere)
        (op,) = (op for op in model.get_ops() if op.get_type_name() == "Convolution")
        high = op.input_value(1).get_node().input_value(2).get_node().get_data()
        ends[cut, elsewhere] = float(high.max())
    assert ends == {(False, False): 0.5, (True, False): 1.0, (False, True): 1.0}
