"""Pose networks on OpenVINO: the default on CPUs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import BackendError, ModelError
from ....models import info
from ....models.info import PoseInfo
from ....models.network import PIXEL_MEAN, PIXEL_STD
from ....models.pose.decode import STRIDE, decode
from ....models.pose.foreign import describe_foreign, simcc_axes
from ....models.pose.simcc import decode_simcc, joint_maps
from ....models.runtimes import eight_bit
from ....models.runtimes.compiled import Compiled
from ....models.runtimes.openvino import CALLERS, HALVES, Pool, openvino_core, port_shape
from .base import Arrays, in_batches

if TYPE_CHECKING:
    import openvino

    from ....skeleton import Skeleton
    from ...options import Precision

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoNetwork:
    """A pose ONNX or IR, compiled when first needed: for one batch, and for several at a time.

    Static shapes are a good deal faster than dynamic ones. A model of ours decodes in the graph;
    one that only gives heatmaps gets normalisation in front and the numpy decoder behind.
    Any number of threads may call it: each borrows infer requests of the same compiled networks.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        threads: int | None,
        precision: Precision,
        batches: tuple[int, ...] | None,
        why: str = "",
        skeleton: Skeleton | None = None,
    ) -> None:
        self._core = openvino_core()
        self._device, self._why = _device(self._core, device), why
        self._path = path
        self._model: openvino.Model | None = None
        self._preparing = threading.Lock()
        self._compiled = Compiled(self._core, path, (__file__, eight_bit.__file__))
        facts = self._compiled.facts(self._find_facts)
        described, self._decodes = _described(facts, path, skeleton)
        self.info = info.with_skeleton(described, skeleton, path)
        ranges = eight_bit.from_metadata(facts["metadata"], path)
        self.input_hw, self.skeleton = self.info.input_hw, self.info.skeleton
        names = list(facts["outputs"])
        self._axes = [names.index(n) for n in simcc_axes(names)] if self.info.split else []
        self._precision = _precision(
            self._core, self._device, precision, facts["quantised"], ranges
        )
        self._ranges = ranges if self._precision.startswith("int8") else {}
        self._threads = 1 if self._device != "CPU" else threads or os.cpu_count() or 1
        self._properties = self._make_properties(threads)
        self._sizes = (facts["batch"],) if facts["batch"] else batches or (1,)
        self._closed = self._prepared = False
        self._requests: dict[int, Pool[Any]] = {}
        self._queues: dict[int, Pool[_Queue]] = {}
        self._compiling = threading.Lock()
        self._side = ThreadPoolExecutor(1, "compile")
        self._shares = HALVES
        self._is_shared = False
        self._coming: Future[Pool[_Queue]] | None = None
        self._calls = 0
        # Whoever names a size, as the benchmark does, wants nothing compiled beside it.
        self._foresees = batches is None and self._sizes == (1,)
        if batches is None:  # while the source opens and the detector gets ready
            self._side.submit(self._requests_of, min(self._sizes))
        else:
            self._requests_of(min(self._sizes))

    def _find_facts(self) -> dict[str, Any]:
        self._model = _read(self._core, self._path)
        eight_bit.dequantize(self._model)
        return _facts(self._model, self._path)

    def _graph(self) -> openvino.Model:
        """The graph that is compiled: read when first needed, if all was not kept."""
        if self._model is None:
            self._model = self._read_again()
            eight_bit.dequantize(self._model)
        if not self._prepared:
            if self._ranges:
                eight_bit.quantise(self._model, self._ranges)
            if not self._decodes:
                self._model = _with_pixels(self._model)
            self._prepared = True
            self._compiled.data = None
        return self._model

    def _read_again(self) -> openvino.Model:
        data = self._compiled.data
        if data is None or self._path.suffix != ".onnx":
            return _read(self._core, self._path)
        return self._core.read_model(data)  # the file may be another by now

    def _shaped(self, size: int) -> openvino.Model:
        # Two threads at a time would quantise the same graph twice, and wrong poses would be kept.
        with self._preparing:
            model = self._graph().clone()
        if model.input(0).partial_shape[0].is_dynamic:
            model.reshape({0: [size, *self.input_hw, 3]})
        return model

    def _make_properties(self, threads: int | None) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        if self._precision in HINTS:
            properties["INFERENCE_PRECISION_HINT"] = HINTS[self._precision]
        if self._device == "CPU":
            # The loop's other threads decode and encode; pinned workers would wait for them.
            properties["ENABLE_CPU_PINNING"] = False
            if threads is not None:
                properties["INFERENCE_NUM_THREADS"] = threads
        return properties

    def _compile(self, size: int, streams: int) -> Any:
        if self._closed:
            raise BackendError("this network is closed")
        hint = {"PERFORMANCE_HINT": "LATENCY"} if streams == 1 else {"NUM_STREAMS": streams}
        options = {**self._properties, **hint}
        try:
            return self._compiled.network(
                lambda: self._shaped(size), self._device, options, self._precision, size
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BackendError(f"OpenVINO cannot compile {self._path}: {reason}") from None

    def _requests_of(self, size: int) -> Pool[Any]:
        """Requests that run one batch on all threads."""
        requests = self._requests.get(size)
        if requests is None:
            with self._compiling:
                requests = self._requests.get(size)
                if requests is None:
                    requests = Pool(self._compile(size, 1).create_infer_request)
                    with requests.borrow() as request:
                        request.infer({0: np.zeros((size, *self.input_hw, 3), np.uint8)})
                    if not self._closed:
                        self._requests[size] = requests
        return requests

    def _queues_of(self, size: int) -> Pool[_Queue]:
        """Queues that run several batches at a time."""
        queues = self._queues.get(size)
        if queues is None:
            with self._compiling:
                queues = self._queues.get(size)
                if queues is None:
                    coming, self._coming = self._coming, None
                    queues = coming.result() if coming else self._new_queues(size)
                    self._queues[size] = queues
        return queues

    def _new_queues(self, size: int) -> Pool[_Queue]:
        shares = self._shares
        compiled = self._compile(size, shares)
        queues = Pool(lambda: _Queue(compiled, shares))
        with queues.borrow():  # the first is made here, beside the loop, and not in it
            return queues

    def share(self, streams: int) -> None:
        """Divides the cores among so many streams, at most one for each core.

        A crop on one core of two comes later than a crop on both, but both cores then do half as
        much again; a stream that calls while nobody else computes still gets all of them.
        """
        if self._threads == 1 or not self._foresees or streams < 2:
            return
        shares = max(HALVES, min(streams, self._threads))
        with self._compiling:
            self._is_shared = True
            if shares != self._shares:
                self._shares, self._coming = shares, None
                self._queues.clear()
        self._begin_queues()

    def make_room(self) -> None:
        """Takes half of the cores for a single crop while other work goes on, see `SharedNetwork`.

        Until that is compiled, which begins with the second crop, a crop takes all of them.
        """
        if self._threads > 1 and self._foresees:
            self._is_shared = True

    def _foresee(self) -> None:
        """Compiles for several people from a video's second frame on, beside the loop."""
        self._calls += 1
        if self._foresees and self._threads > 1 and self._calls > 1:
            self._begin_queues()

    def _begin_queues(self) -> None:
        if self._coming is not None or self._queues:
            return
        with self._compiling:
            if not self._closed and self._coming is None and not self._queues:
                self._coming = self._side.submit(self._new_queues, self._sizes[0])

    def __call__(self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False) -> Arrays:
        """Crops (N, H, W, 3) -> ``keypoints`` (N, K, 3), on request ``heatmaps``; N may be 0."""
        if len(crops_NHW3) == 0:
            return self._empty(heatmaps)

        def infer(batches: list[NDArray[np.uint8]]) -> list[Arrays]:
            several = len(batches) > 1 and len(self._sizes) == 1
            shared = several or (beside and self._is_shared)
            if self._threads > 1 and shared and self._may_share():
                return self._side_by_side(batches, heatmaps)
            self._foresee()
            return [self._alone(batch, heatmaps) for batch in batches]

        with CALLERS.enter() as beside:
            return in_batches(np.ascontiguousarray(crops_NHW3), self._sizes, infer, pad=False)

    def _may_share(self) -> bool:
        """Whether what runs on a share of the cores is compiled.

        Nobody waits for that: until then all cores work on one crop after the other, with the same
        results. A crowd in the first frame would wait for a quarter of a second.
        """
        coming = self._coming  # once, for another thread may take it meanwhile
        ready = bool(self._queues) or (coming is not None and coming.done())
        return ready or not self._foresees

    def _alone(self, batch: NDArray[np.uint8], heatmaps: bool) -> Arrays:
        with self._requests_of(len(batch)).borrow() as request:
            request.infer({0: batch}, share_inputs=True)
            return self._results(request, heatmaps)

    def _side_by_side(self, batches: list[NDArray[np.uint8]], heatmaps: bool) -> list[Arrays]:
        with self._queues_of(len(batches[0])).borrow() as queue:
            return [self._results(request, heatmaps) for request in queue.run(batches)]

    def _results(self, request: Any, heatmaps: bool) -> Arrays:
        tensors = [tensor.data for tensor in request.output_tensors]
        if self._axes:
            x, y = (tensors[place] for place in self._axes)
            return self._from_bins(x, y, heatmaps)
        found = {"keypoints": tensors[0].copy() if self._decodes else self._decoded(tensors[0])}
        if heatmaps:
            found["heatmaps"] = tensors[-1].copy()
        return found

    def _decoded(self, heatmaps: NDArray[np.float32]) -> NDArray[np.float32]:
        keypoints = decode(heatmaps, "dark", self.info.sigma, self.info.unbiased)
        keypoints[..., 2] = keypoints[..., 2].clip(0.0, 1.0)
        return keypoints

    def _from_bins(
        self, simcc_x: NDArray[np.float32], simcc_y: NDArray[np.float32], heatmaps: bool
    ) -> Arrays:
        how = self.info.split, self.info.certain
        keypoints = decode_simcc(simcc_x, simcc_y, *how)
        keypoints[..., 2] = keypoints[..., 2].clip(0.0, 1.0)
        if not heatmaps:
            return {"keypoints": keypoints}
        return {
            "keypoints": keypoints,
            "heatmaps": joint_maps(simcc_x, simcc_y, *how),
            "simcc_x": simcc_x.copy(),
            "simcc_y": simcc_y.copy(),
        }

    def _empty(self, heatmaps: bool) -> Arrays:
        joints = len(self.skeleton)
        found = {"keypoints": np.zeros((0, joints, 3), np.float32)}
        if heatmaps:
            height, width = self.input_hw
            shape = (0, joints, height // STRIDE, width // STRIDE)
            found["heatmaps"] = np.zeros(shape, np.float32)
        return found

    def runs_on(self) -> dict[str, str]:
        """The back end with its version, the device and the precision."""
        import openvino

        name = self._core.get_property(self._device, "FULL_DEVICE_NAME")
        version = ".".join(openvino.get_version().split("-")[0].split(".")[:2])
        return {
            "backend": f"OpenVINO {version}", "device": name, "precision": self._precision,
        }  # fmt: skip

    def describe(self) -> str:
        """One line for the log."""
        height, width = self.input_hw
        decoder = "" if self._decodes else ", SimCC" if self._axes else ", heatmaps decoded outside"
        why = f" ({self._why})" if self._why else ""
        return (
            f"{self._path.stem} {height}x{width} {self.skeleton.name} on "
            f"{', '.join(self.runs_on().values())}{decoder}{why}"
        )

    def close(self) -> None:
        """Frees the compiled networks; safe to call twice."""
        self._closed = True
        self._side.shutdown(wait=False, cancel_futures=True)
        self._coming = None
        self._requests.clear()
        self._queues.clear()
        self._model = self._compiled.data = None


class _Queue:
    """Requests of one graph, as many as it ever had batches at a time; one caller's alone.

    OpenVINO's own queue has as many requests as streams. Each stream then waits after each batch
    until Python has copied its result and started the next, which takes 7 % of nine people's time,
    and more where encoder and decoder want the cores, too. Here it finds all batches waiting.
    """

    def __init__(self, compiled: Any, count: int) -> None:
        self._compiled = compiled
        self._requests = [compiled.create_infer_request() for _ in range(count)]

    def run(self, batches: Sequence[NDArray[np.uint8]]) -> Iterator[Any]:
        """The requests of the batches in their order, each when its result is there."""
        while len(self._requests) < len(batches):
            self._requests.append(self._compiled.create_infer_request())
        started = self._requests[: len(batches)]
        for request, batch in zip(started, batches, strict=True):
            request.start_async({0: batch}, share_inputs=True)
        for request in started:
            request.wait()
            yield request


def _device(core: openvino.Core, device: str) -> str:
    name = device.upper()
    if name == "CPU":  # to list all loads the plug-ins for GPUs
        try:
            core.get_property(name, "FULL_DEVICE_NAME")
        except RuntimeError:
            raise BackendError("OpenVINO has no CPU plug-in here") from None
        return name
    if name.split(".")[0] not in core.available_devices and name not in core.available_devices:
        found = ", ".join(core.available_devices)
        raise BackendError(f"OpenVINO has no device '{device}' here; it has {found}")
    return name


def _precision(
    core: openvino.Core,
    device: str,
    precision: Precision,
    quantised: bool,
    ranges: eight_bit.Ranges,
) -> str:
    """What is really computed, or BackendError if the device cannot."""
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    fast = "bf16" if "BF16" in capabilities else "fp32" if device == "CPU" else "fp16"
    if precision == "int8" and not (quantised or ranges):
        raise BackendError(
            "int8 on OpenVINO needs a model with activation ranges: "
            "hrtrack export MODEL --calibrate FOLDER"
        )
    wanted = bool(ranges) and device == "CPU" and eight_bit.int8_is_fast()
    if precision == "int8" or (precision == "auto" and (quantised or wanted)):
        return f"int8 and {fast}"
    if precision == "auto":
        return fast
    if (precision, device) == ("fp16", "CPU") or (precision == "bf16" and fast != "bf16"):
        raise BackendError(f"this {device} does not compute in {precision}; use auto or fp32")
    return precision


def _read(core: openvino.Core, path: Path) -> openvino.Model:
    if path.suffix not in (".onnx", ".xml"):
        raise BackendError(
            f"OpenVINO reads .onnx and .xml, not {path.name}; "
            "convert it: hrtrack export MODEL --to onnx"
        )
    info.require_onnx(path)
    try:
        return core.read_model(path)
    except RuntimeError:
        raise ModelError(f"{path} is damaged or no model") from None


def _facts(model: openvino.Model, path: Path) -> dict[str, Any]:
    """What must be known of a graph without reading it again; ModelError for no pose network."""
    metadata, batch = _metadata(model, path), model.input(0).partial_shape[0]
    decodes = info.from_metadata(metadata, path) is not None
    decodes &= "keypoints" in _shapes(model.outputs)
    one = model if decodes else _for_one_crop(model, path)
    return {
        "metadata": metadata,
        "quantised": eight_bit.quantised(model),
        "batch": batch.get_length() if batch.is_static else None,
        "decodes": decodes,
        "inputs": _shapes(one.inputs),
        "outputs": _shapes(one.outputs),
    }


def _described(
    facts: dict[str, Any], path: Path, skeleton: Skeleton | None
) -> tuple[PoseInfo, bool]:
    """What the model is, and whether it decodes its heatmaps itself."""
    if facts["decodes"]:
        described = info.from_metadata(facts["metadata"], path)
        assert described is not None
        return described, True
    return describe_foreign(facts["inputs"], facts["outputs"], path, skeleton), False


def _for_one_crop(model: openvino.Model, path: Path) -> openvino.Model:
    """The graph for a single crop, which shows shapes that some exporters leave open for many."""
    if len(model.inputs) != 1 or len(model.input(0).partial_shape) != 4:
        return model
    model = model.clone()
    one = model.input(0).partial_shape
    one[0] = 1
    try:
        model.reshape({0: one})
    except RuntimeError:
        raise ModelError(f"{path} does not take pictures one by one") from None
    return model


def _shapes(ports: list[Any]) -> dict[str, list[int]]:
    """Shapes by one of each port's names; some exporters give none."""
    return {
        min(port.get_names(), default=str(port.get_index())): list(port_shape(port))
        for port in ports
    }


def _metadata(model: openvino.Model, path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        return info.read_onnx_metadata(path)
    kept = [key for key in (info.KEY, eight_bit.KEY) if model.has_rt_info(key)]
    return {key: model.get_rt_info(key).astype(str) for key in kept}


def _with_pixels(model: openvino.Model) -> openvino.Model:
    """A heatmap network that takes uint8 NHWC crops instead of normalised NCHW images."""
    from openvino import Layout, Type
    from openvino.preprocess import PrePostProcessor

    prepost = PrePostProcessor(model)
    crops = prepost.input()
    crops.tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    crops.model().set_layout(Layout("NCHW"))
    steps = crops.preprocess().convert_element_type(Type.f32)
    steps.mean([255 * mean for mean in PIXEL_MEAN]).scale([255 * std for std in PIXEL_STD])
    return prepost.build()
