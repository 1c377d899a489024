"""`hrtrack export`: turns a pose model's weights into what a runtime wants, compared with
PyTorch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BackendError, ModelError, UsageError
from ..models.agreement import Agreement, drawn_crops
from ..models.checkpoints import load_hrnet, load_weights
from ..models.info import PoseInfo
from ..models.network import Network
from ..models.pose.hrnet import HRNet
from ..models.runtimes import eight_bit
from ..models.runtimes import tensorrt as engines
from ..models.runtimes.eight_bit import FEWEST, pose_ranges, require_crops
from ..models.runtimes.openvino import openvino_core
from ..models.runtimes.tensorrt import BatchRange, EnginePrecision, Identity, Package
from ..skeleton import Skeleton
from ..writable import require_file, unfinished
from . import int8, tensorrt
from .onnx import Storage, save_onnx, store_weights, to_onnx
from .verify import Reference, reference_answers, verify

if TYPE_CHECKING:
    import onnx
    import openvino


LOG = logging.getLogger(__name__)
Target = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]
Opener = Callable[[Path, Target, EnginePrecision], Network]
"""Opens an exported file on the back end that it is for, to compute in that precision."""
SUFFIXES: dict[Target, str] = {
    "onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine", "tensorrt-rtx": ".engine",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make of a model.

    ``store`` is how ONNX keeps float32 weights (see `hrtrack.export.onnx`), ``calibration``
    crops (N, H, W, 3) of people, ``batches`` the range an engine takes (for ONNX a range of one
    size is fixed). Precision ``int8`` needs the calibration; float32 ONNX gets the activation
    ranges from it that let CPUs compute in 8 bits, else keeps those of the ``weights`` file.
    ``skeleton`` are the joints, where the weights do not say them or say them wrongly.
    """

    to: Target = "onnx"
    precision: EnginePrecision = "fp32"
    store: Storage = "fp32"
    batches: BatchRange | None = None
    calibration: NDArray[np.uint8] | None = None
    via: Literal["onnx", "torch2trt"] = "onnx"
    portable: bool = False
    allow_inaccurate: bool = False
    timing_cache: Path | None = None
    skeleton: Skeleton | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """The file, and how far it is from PyTorch; None where it could not run on this machine.

    ``eight_bit`` is the same of a float32 ONNX file computed in 8 bits, if it allows that.
    """

    path: Path
    agreement: Agreement | None
    eightbit: Agreement | None = None


def export_model(
    weights: Path,
    path: Path,
    options: ExportOptions,
    open_network: Opener,
    progress: tensorrt.Step | None = None,
) -> Exported:
    """Exports, compares with PyTorch float32, and only then keeps the file.

    Args:
        weights: checkpoint, safetensors or our ONNX.
        path: the file to write; its suffix must be that of the target.
        options: target, precision and the rest.
        open_network: runs the result for the comparison.
        progress: called with a TensorRT build's phases.

    Raises:
        ModelError: weights do not fit, the target refuses the graph, or the result is
            beyond tolerance.
        BackendError: a package or the GPU is missing.
        UsageError: the options do not fit together.
        SinkError: no file can be written at ``path``.
    """
    _require_sense(path, options)
    require_file(path)
    network, described = load_hrnet(weights, wanted=options.skeleton)
    reference = reference_answers(network, described, drawn_crops(described.input_hw))
    if options.to in ("tensorrt", "tensorrt-rtx"):
        return _export_engine(
            weights, path, options, network, described, reference, open_network, progress
        )
    if not reference.sure and options.calibration is not None:
        require_crops(options.calibration, described)
        reference = reference_answers(network, described, options.calibration[:FEWEST])
    # A refused export leaves nothing behind.
    draft = unfinished(path)
    try:
        ranges = _ranges(weights, network, described, options)
        widely = options.precision == "fp32"  # and in 8 bits only where that is fast

        def save(kept: eight_bit.Ranges) -> None:
            if options.to == "onnx":
                save_onnx(_onnx_model(network, described, options, kept), draft)
                return
            model = to_openvino(_onnx_model(network, described, options))
            if options.precision == "int8":
                eight_bit.quantise(model, ranges, elsewhere=True)
            save_openvino(model, described, draft, kept if widely else {})

        save(ranges)

        def compared(computed: EnginePrecision, tolerance: str) -> Agreement:
            found = open_network(draft, options.to, computed)
            allowed = options.allow_inaccurate
            try:
                return verify(found, reference, described, tolerance, allow_inaccurate=allowed)
            finally:
                found.close()

        precision = "int8" if "int8" in (options.precision, options.store) else options.precision
        precision = "fp16" if options.store == "fp16" else precision
        agreement, in_8_bits = compared(options.precision, precision), None
        if ranges and widely:
            try:
                in_8_bits = compared("int8", "int8")
            except ModelError as error:
                if options.calibration is not None:
                    raise ModelError(f"{error}; or leave --calibrate out") from None
                LOG.warning("%s: CPUs will not compute with %s in 8 bits", error, path.name)
                save({})
        draft.replace(path)
        if options.to == "openvino":
            draft.with_suffix(".bin").replace(path.with_suffix(".bin"))
    finally:
        draft.unlink(missing_ok=True)
        draft.with_suffix(".bin").unlink(missing_ok=True)
    return Exported(path, agreement, in_8_bits)


def _require_sense(path: Path, options: ExportOptions) -> None:
    suffix = SUFFIXES[options.to]
    if path.suffix != suffix:
        raise UsageError(f"--to {options.to} writes {suffix} files, not {path.name}")
    if options.precision == "int8" and options.calibration is None:
        raise UsageError("--precision int8 needs --calibrate FOLDER with pictures of people")
    unused = options.precision != "int8" and not _keeps_ranges(options)
    if options.calibration is not None and unused:
        raise UsageError("--calibrate is for --precision int8, and for float32 ONNX and OpenVINO")
    if options.store != "fp32" and (options.to != "onnx" or options.precision != "fp32"):
        raise UsageError("--store is for float32 ONNX; other files store what they compute in")
    if options.via == "torch2trt" and (options.to, options.precision) != ("tensorrt", "fp16"):
        raise UsageError("--via torch2trt makes fp16 TensorRT engines only")


def _ranges(
    weights: Path, network: HRNet, described: PoseInfo, options: ExportOptions
) -> eight_bit.Ranges:
    if options.calibration is not None:
        return pose_ranges(network, described, options.calibration)
    if not _keeps_ranges(options):
        return {}
    return eight_bit.from_metadata(load_weights(weights)[1], weights)


def _keeps_ranges(options: ExportOptions) -> bool:
    """Whether the file is one that CPUs may compute with in 8 bits or not, as suits them."""
    return options.to in ("onnx", "openvino") and options.precision == "fp32"


def _onnx_model(
    network: HRNet,
    described: PoseInfo,
    options: ExportOptions,
    ranges: eight_bit.Ranges | None = None,
) -> onnx.ModelProto:
    engine = options.to in ("tensorrt", "tensorrt-rtx")
    batches = options.batches
    batch = batches.most if batches and batches.least == batches.most and not engine else None
    if options.precision == "int8" and options.to != "openvino":
        assert options.calibration is not None
        folded = to_onnx(network, described, folded=True)
        return int8.quantise_for_tensorrt(folded, described, options.calibration)
    model = to_onnx(network, described, half=options.precision == "fp16", batch=batch)
    store_weights(model, options.store)
    if options.precision == "fp32":
        for key, value in eight_bit.metadata(ranges or {}).items():
            model.metadata_props.add(key=key, value=value)
    return model


def _export_engine(
    weights: Path,
    path: Path,
    options: ExportOptions,
    network: HRNet,
    described: PoseInfo,
    reference: Reference,
    open_network: Opener,
    progress: tensorrt.Step | None,
) -> Exported:
    package: Package = "tensorrt-rtx" if options.to == "tensorrt-rtx" else "tensorrt"
    trt = engines.load_package(package)
    gpu, capability = None, None
    if package == "tensorrt" or torch.cuda.is_available():
        gpu, capability = engines.this_gpu()
        capability = engines.bound_to(package, capability)
    batches = options.batches or BatchRange()
    if options.via == "torch2trt":
        plan = tensorrt.convert_by_torch2trt(network, described, batches)
    else:
        plan = tensorrt.build_plan(
            _onnx_model(network, described, options).SerializeToString(),
            described.input_hw,
            package,
            tensorrt.BuildOptions(
                batches, options.timing_cache, options.portable, turing=capability == engines.TURING
            ),
            progress,
        )
    identity = Identity(
        package=package,
        version=trt.__version__,
        gpu=gpu if package == "tensorrt" else None,
        capability=capability,
        precision=options.precision,
        batches=batches,
        weights=engines.weights_hash(weights),
        source=str(weights),
        metadata=dataclasses.replace(
            described, config=dataclasses.asdict(network.config)
        ).metadata(),
        reference=np.round(reference.keypoints, 4).tolist(),
        portable=options.portable,
    )
    draft = unfinished(path)
    if not torch.cuda.is_available():
        engines.write_engine(plan, identity, path)
        return Exported(path, None)
    try:
        # Taken on trust for now, so that opening it does not compare it a second time.
        identity = dataclasses.replace(identity, verified=True)
        engines.write_engine(plan, identity, draft)
        found = open_network(draft, options.to, options.precision)
        agreement = verify(
            found, reference, described, options.precision,
            allow_inaccurate=options.allow_inaccurate,
        )  # fmt: skip
        found.close()
        engines.write_engine(plan, identity, path)
    finally:
        for left in (draft, engines.sidecar(draft), draft.with_suffix(".kernels")):
            left.unlink(missing_ok=True)
    return Exported(path, agreement)


def build_engine(weights: Path, path: Path, wanted: Identity, open_network: Opener) -> None:
    """Makes the cached engine that a back end asks for
    (`hrtrack.tracker.inference.open.open_network`)."""
    if wanted.precision == "int8":
        raise BackendError(
            f"int8 needs pictures to calibrate on; make the engine with hrtrack export {weights} "
            f"--to {wanted.package} --precision int8 --calibrate FOLDER and give the .engine file "
            "as the model"
        )
    options = ExportOptions(
        to=wanted.package,
        precision=wanted.precision,
        batches=wanted.batches,
        timing_cache=path.with_name(f"timing-{wanted.version}-{_plain(wanted.gpu)}.bin"),
    )
    export_model(weights, path, options, open_network)


def _plain(name: str | None) -> str:
    """A GPU's name as part of a file's."""
    return "".join(letter if letter.isalnum() else "_" for letter in name or "any")


def to_openvino(model: onnx.ModelProto) -> openvino.Model:
    """An ONNX model in OpenVINO's own form."""
    return openvino_core().read_model(model.SerializeToString())


def save_openvino(
    network: openvino.Model, described: PoseInfo, path: Path, ranges: eight_bit.Ranges
) -> None:
    """Writes ``.xml`` and ``.bin``, metadata and activation ranges included."""
    import openvino

    for key, value in {**described.metadata(), **eight_bit.metadata(ranges)}.items():
        network.set_rt_info(value, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(network, path, compress_to_fp16=False)
    except (OSError, RuntimeError):
        raise ModelError(f"cannot write {path}") from None
