"""Runs any supported ONNX person detector on OpenVINO: picture in, people's boxes out."""

from __future__ import annotations

import functools
import os
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import BackendError, ModelError
from ....models.detector.letterbox import FILL, fill_input, fitted_hw, input_for
from ....models.info import read_onnx_metadata, require_onnx
from ....models.runtimes import eight_bit
from ....models.runtimes.compiled import Compiled
from ....models.runtimes.openvino import CALLERS, HALVES, Pool, openvino_core, port_shape
from ....types import Detections
from .base import distinct
from .formats import Format, Port, recognise

if TYPE_CHECKING:
    pass


class OpenVinoDetector:
    """A detector on OpenVINO's CPU plug-in; ``kind`` names the recognised format.

    Any number of threads may call it: each borrows a request of the same compiled graphs.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        threads: int | None,
        min_score: float,
        why: str = "",
        eight_bits: bool = True,
    ) -> None:
        self.name = name
        self._why = why
        self.min_score = min_score
        self._core, self._path = openvino_core(), path
        self._model: Any = None
        self._prepared = False
        self._compiled = Compiled(self._core, path, (__file__, eight_bit.__file__))
        facts = self._compiled.facts(self._find_facts)
        self._threads = threads
        inputs, outputs = (
            [Port(frozenset(names), tuple(shape), kind) for names, shape, kind in facts[ports]]
            for ports in ("inputs", "outputs")
        )
        self._format = recognise(inputs, outputs, facts["slices"], str(path))
        self._ranges: eight_bit.Ranges = {}
        if eight_bits and eight_bit.int8_is_fast() and self._is_ours():
            self._ranges = eight_bit.from_metadata(facts["metadata"], path)
        # A foreign graph of our kind has no cell centres that could be put in anew.
        self._any_size = self._is_ours() and facts["centres"]
        self.kind = self._format.kind
        self.input_hw = self._format.input_hw
        self._shares = 1
        self._runners: dict[tuple[int, int, int], Pool[_Runner]] = {}
        self._compiling = threading.Lock()
        self._closed = False

    def __call__(self, image_rgb: NDArray[np.uint8]) -> Detections:
        height, width = image_rgb.shape[:2]
        form = self._format
        with CALLERS.enter() as others, self._runners_for((height, width), others) as runner:
            scale = runner.load(image_rgb)
            boxes, scores = form.decode(runner.infer(width, height), runner.input_hw)
            # Within, for what was decoded may be a view of the request's memory.
            boxes, scores = distinct(boxes, scores, self.min_score, form.nms_iou, form.vote_iou)
        if self._format.size_input is None:
            boxes = boxes / scale
        np.clip(boxes, 0, (width, height, width, height), out=boxes)
        return boxes, scores

    def share(self, streams: int) -> None:
        """Divides the cores among so many streams, at most one for each core.

        Two pictures on a core each are done sooner than one after the other on both: 448 a second
        against 322 (person_fast at 288x512, two threads of a Xeon with AMX, 2026-11-29). Frames of
        several streams are not put together here: four as one batch on both cores make 438, and
        pairs on a core each 502, which would save 2 % of the work on a frame with three people
        and have every stream wait for a partner.
        """
        self._shares = max(1, min(streams, self._threads or os.cpu_count() or 1))

    def make_room(self) -> None:
        """Takes half of the cores for a picture while other work goes on, see `SharedNetwork`."""
        self.share(max(self._shares, HALVES))

    def describe(self) -> str:
        """One line for the log."""
        why = f" ({self._why})" if self._why else ""
        return f"{self.name} on OpenVINO CPU{', int8' if self._ranges else ''}{why}"

    def close(self) -> None:
        with self._compiling:
            self._closed = True
            self._runners.clear()
            self._model = self._compiled.data = None

    def _find_facts(self) -> dict[str, Any]:
        self._model = _read(self._core, self._path)
        return _facts(self._model, self._path)

    def _graph(self) -> Any:
        """The graph that is compiled: read when first needed, if all was not kept."""
        if self._model is None:
            data = self._compiled.data
            as_found = data is not None and self._path.suffix == ".onnx"
            # From memory, for the file may be another by now.
            self._model = self._core.read_model(data) if as_found else _read(self._core, self._path)
        if not self._prepared:
            eight_bit.dequantize(self._model)
            if self._is_ours() and not self._any_size:
                self._model.reshape([1, *self._format.input_hw, 3])
            if self._ranges:
                eight_bit.quantise(self._model, self._ranges)
            self._prepared = True
            self._compiled.data = None
        return self._model

    def _is_ours(self) -> bool:
        return self._format.kind == "hrtrack"

    def _runners_for(
        self, image_hw: tuple[int, int], others: bool
    ) -> AbstractContextManager[_Runner]:
        """Lends what runs a picture: on a share of the cores where ``others`` compute, too."""
        # Our own graph takes every size: a 4:3 webcam would use three quarters of a wide one, an
        # upright phone video a third.
        hw = self._format.input_hw
        if self._any_size:
            hw = input_for(image_hw, hw)
        # Both when a size is met first, for later it would hold up streams under way. Beside other
        # work only the one is needed as a rule.
        wanted = {self._shares} if others else {1, self._shares}
        pools = {shares: self._pool(hw, shares) for shares in wanted}
        return pools[self._shares if others else 1].borrow()

    def _pool(self, hw: tuple[int, int], shares: int) -> Pool[_Runner]:
        key = (*hw, shares)
        runners = self._runners.get(key)
        if runners is None:
            with self._compiling:
                runners = self._runners.get(key)
                if runners is None:
                    compiled = self._compile(hw, shares)
                    runners = Pool(functools.partial(_Runner, compiled, self._format, hw))
                    self._runners[key] = runners
        return runners

    def _compile(self, hw: tuple[int, int], shares: int) -> Any:
        if self._closed:
            raise BackendError("this detector is closed")
        options = _options(self._core, self._threads)
        options |= {"PERFORMANCE_HINT": "LATENCY"} if shares == 1 else {"NUM_STREAMS": shares}
        eight_bits = "int8" if self._ranges else "floats"
        try:
            return self._compiled.network(lambda: self._sized(hw), "CPU", options, eight_bits, *hw)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BackendError(f"OpenVINO cannot compile {self._path}: {reason}") from None

    def _sized(self, hw: tuple[int, int]) -> Any:
        model = self._graph().clone()
        if hw != self._format.input_hw:
            _reshape_own(model, hw)
        if not self._format.channels_last:
            model = _take_pictures(model, self._format, hw)
        return model


class _Runner:
    """One request of a graph that was compiled for one input size, with its buffers."""

    def __init__(self, compiled: Any, form: Format, hw: tuple[int, int]) -> None:
        self.input_hw = hw
        self._form = form
        self._buffer = np.full((1, *hw, 3), FILL, np.uint8)
        self._filled = hw
        self._request = compiled.create_infer_request()
        self._outputs = [(i, port.get_names()) for i, port in enumerate(compiled.outputs)]
        self._image = next(
            i for i, port in enumerate(compiled.inputs) if form.image in port.get_names()
        )

    def load(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scales the picture into the input buffer; returns the scale as x, y, x, y."""
        fit = self.input_hw
        if self._form.letterbox:
            fit = fitted_hw((image.shape[0], image.shape[1]), fit)
        if fit != self._filled:
            self._buffer[:] = FILL
            self._filled = fit
        return fill_input(image, self._buffer[0], fit)

    def infer(self, width: int, height: int) -> dict[str, NDArray[Any]]:
        """The graph's outputs under every name they have; valid until the next call."""
        feed: dict[int, NDArray[Any]] = {self._image: self._buffer}
        if self._form.size_input is not None:
            feed[1 - self._image] = np.array([[width, height]], np.int64)
        self._request.infer(feed, share_inputs=True)
        arrays = {i: self._request.get_output_tensor(i).data for i, _ in self._outputs}
        return {name: arrays[i] for i, names in self._outputs for name in names}


def _read(core: Any, path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"no detector at {path}")
    require_onnx(path)
    try:
        return core.read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"{path} cannot be read as an ONNX model: {reason}") from None


def _facts(model: Any, path: Path) -> dict[str, Any]:
    """What must be known of a graph without reading it again."""

    def ports(nodes: list[Any]) -> list[list[Any]]:
        return [
            [sorted(node.get_names()), port_shape(node), node.element_type.to_string()]
            for node in nodes
        ]

    slices = {"StridedSlice", "Slice", "Split", "VariadicSplit", "Gather"}
    first = {
        target.get_node().get_type_name()
        for node in model.inputs
        for target in node.get_target_inputs()
    }
    return {
        "inputs": ports(model.inputs),
        "outputs": ports(model.outputs),
        "slices": bool(first & slices),
        "centres": _centres(model) is not None,
        "metadata": read_onnx_metadata(path) if path.suffix == ".onnx" else {},
    }


def _take_pictures(model: Any, form: Format, hw: tuple[int, int]) -> Any:
    """Puts channel order, normalisation and layout before a foreign graph: uint8 NHWC in."""
    from openvino import Layout, Type
    from openvino.preprocess import ColorFormat, PrePostProcessor

    shapes = {form.image: [1, 3, *hw]}
    if form.size_input is not None:
        shapes[form.size_input] = [1, 2]
    model.reshape(shapes)
    steps = PrePostProcessor(model)
    image = steps.input(form.image)
    image.tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    image.tensor().set_color_format(ColorFormat.RGB)
    image.model().set_layout(Layout("NCHW"))
    if form.bgr:
        image.preprocess().convert_color(ColorFormat.BGR)
    image.preprocess().convert_element_type(Type.f32)
    if form.mean is not None and form.std is not None:
        image.preprocess().mean(list(form.mean)).scale(list(form.std))
    return steps.build()


def _centres(model: Any) -> Any:
    """Where the cell centres of hrtrack's graph come from, None in another's."""
    return next((op for op in model.get_ops() if op.get_friendly_name() == "centres"), None)


def _reshape_own(model: Any, hw: tuple[int, int]) -> None:
    """Gives hrtrack's graph another input size: new shapes, and the cell centres of them."""
    from openvino import opset13, utils

    from .formats import yolox_grid

    cells, strides = yolox_grid(hw)
    old = _centres(model)
    # One row goes with any number of cells while the shapes change.
    between = opset13.constant(np.zeros((1, 4), np.float32))
    utils.replace_node(old, between)
    model.reshape([1, *hw, 3])
    centres = opset13.constant(np.tile((cells + 0.5) * strides, 2))
    utils.replace_node(between, centres)
    model.validate_nodes_and_infer_types()


def _options(core: Any, threads: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options["INFERENCE_PRECISION_HINT"] = "bf16" if has_bf16 else "f32"
    return options
