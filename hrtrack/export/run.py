"""`hrtrack export`: turns a pose model's weights into what a runtime wants, compared with
PyTorch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BackendError, ModelError, UsageError
from ..models.agreement import Agreement
from ..models.info import PoseInfo
from ..models.network import Network
from ..models.runtimes import eight_bit
from ..models.runtimes import tensorrt as engines
from ..models.runtimes.eight_bit import Ranges
from ..models.runtimes.openvino import openvino_core
from ..models.runtimes.tensorrt import BatchRange, EnginePrecision, Identity, Package
from ..skeleton import Skeleton
from ..writable import require_file, unfinished
from . import tensorrt
from .onnx import Storage, save_onnx, store_weights
from .session import Inaccurate, Session

if TYPE_CHECKING:
    import openvino


LOG = logging.getLogger(__name__)
NOT_SAVED = "not saved (--allow-inaccurate saves it all the same)"
Target = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]
Opener = Callable[[Path, Target, EnginePrecision], Network]
"""Opens an exported file on the back end that it is for, to compute in that precision."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make of a model.

    ``store`` is how ONNX keeps float32 weights (see `hrtrack.export.onnx`), ``batches`` the range
    an engine takes (for ONNX a range of one size is fixed). Precision ``int8`` needs a calibrated
    session; float32 ONNX gets the activation ranges from its crops that let CPUs compute in
    8 bits, else keeps those of the weights' file.
    """

    to: Target = "onnx"
    precision: EnginePrecision = "fp32"
    store: Storage = "fp32"
    batches: BatchRange | None = None
    via: Literal["onnx", "torch2trt"] = "onnx"
    portable: bool = False
    allow_inaccurate: bool = False
    timing_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """The file, and how far it is from PyTorch; None where it could not run on this machine.

    ``eightbit`` is the same of a float32 ONNX file computed in 8 bits, if it allows that.
    """

    path: Path
    agreement: Agreement | None
    eightbit: Agreement | None = None


class Exporter:
    """A kind of file: how it is written, and which other files lie beside it."""

    suffix: ClassVar[str]
    runs_here = True

    def __init__(self, options: ExportOptions) -> None:
        self.options = options

    @property
    def keeps_ranges(self) -> bool:
        """Whether CPUs may compute with the file in 8 bits or not, as suits them."""
        return False

    @property
    def tolerance(self) -> str:
        """The key in `hrtrack.models.agreement.TOLERANCES` that it is held to."""
        return self.options.precision

    def write(
        self, session: Session, path: Path, ranges: Ranges, progress: tensorrt.Step | None
    ) -> None:
        """Writes the file; ``ranges`` are empty unless it keeps them."""
        raise NotImplementedError

    def files(self, path: Path) -> list[Path]:
        """All files of an export, the one that opens it last."""
        return [path]

    def scratch(self, path: Path) -> list[Path]:
        """What opening an export may leave beside it."""
        return []


class OnnxExporter(Exporter):
    """One ONNX file, a checkpoint too unless it is in 8 bits."""

    suffix = ".onnx"

    @property
    def keeps_ranges(self) -> bool:
        return self.options.precision == "fp32"

    @property
    def tolerance(self) -> str:
        return self.options.precision if self.options.store == "fp32" else self.options.store

    def write(
        self, session: Session, path: Path, ranges: Ranges, progress: tensorrt.Step | None
    ) -> None:
        model = session.onnx(self.options.precision, _fixed(self.options.batches))
        store_weights(model, self.options.store)
        for key, value in eight_bit.metadata(ranges).items():
            model.metadata_props.add(key=key, value=value)
        save_onnx(model, path)


class OpenVinoExporter(Exporter):
    """OpenVINO's own pair of files; what is to be quantised is quantised by us, as at load."""

    suffix = ".xml"

    @property
    def keeps_ranges(self) -> bool:
        return self.options.precision == "fp32"

    def write(
        self, session: Session, path: Path, ranges: Ranges, progress: tensorrt.Step | None
    ) -> None:
        precision, batch = self.options.precision, _fixed(self.options.batches)
        graph = session.onnx("fp32" if precision == "int8" else precision, batch)
        model = openvino_core().read_model(graph.SerializeToString())
        if precision == "int8":
            eight_bit.quantise(model, session.ranges, elsewhere=True)
        save_openvino(model, session.described, path, ranges)

    def files(self, path: Path) -> list[Path]:
        return [path.with_suffix(".bin"), path]


class EngineExporter(Exporter):
    """A plan and its identity. Without a GPU it stays unverified, and its first load compares it.

    Raises:
        BackendError: the package is missing, or full TensorRT has no GPU.
    """

    suffix = ".engine"
    package: ClassVar[Package]

    def __init__(self, options: ExportOptions) -> None:
        super().__init__(options)
        self.runs_here = torch.cuda.is_available()
        self.batches = options.batches or BatchRange()

    def gpu(self) -> tuple[str | None, str | None]:
        """Name and compute capability of the GPU that the plan is tied to."""
        name, capability = engines.this_gpu()
        return name, engines.bound_to(self.package, capability)

    def plan(
        self, session: Session, capability: str | None, progress: tensorrt.Step | None
    ) -> bytes:
        """The engine as TensorRT writes it."""
        return tensorrt.build_plan(
            session.onnx(self.options.precision).SerializeToString(),
            session.described.input_hw,
            self.package,
            tensorrt.BuildOptions(
                self.batches,
                self.options.timing_cache,
                self.options.portable,
                turing=capability == engines.TURING,
            ),
            progress,
        )

    def write(
        self, session: Session, path: Path, ranges: Ranges, progress: tensorrt.Step | None
    ) -> None:
        version = engines.load_package(self.package).__version__
        gpu, capability = self.gpu()
        described = dataclasses.replace(
            session.described, config=dataclasses.asdict(session.network.config)
        )
        plan = self.plan(session, capability, progress)
        identity = Identity(
            package=self.package,
            version=version,
            gpu=gpu,
            capability=capability,
            precision=self.options.precision,
            batches=self.batches,
            weights=engines.weights_hash(session.weights),
            source=str(session.weights),
            metadata=described.metadata(),
            reference=np.round(session.drawn.keypoints, 4).tolist(),
            portable=self.options.portable,
            # The comparison follows; opening it is not to compare it a second time.
            verified=self.runs_here,
        )
        engines.write_engine(plan, identity, path)

    def files(self, path: Path) -> list[Path]:
        return [engines.sidecar(path), path]

    def scratch(self, path: Path) -> list[Path]:
        return [path.with_suffix(".kernels")]


class TensorRtExporter(EngineExporter):
    """An engine of this GPU and this version of TensorRT."""

    package = "tensorrt"


class Torch2TrtExporter(TensorRtExporter):
    """The same by torch2trt, for those who have it."""

    def plan(
        self, session: Session, capability: str | None, progress: tensorrt.Step | None
    ) -> bytes:
        return tensorrt.convert_by_torch2trt(session.network, session.described, self.batches)


class TensorRtRtxExporter(EngineExporter):
    """An engine that finishes compiling on the GPU it meets, so that it is made without one too."""

    package = "tensorrt-rtx"

    def gpu(self) -> tuple[str | None, str | None]:
        return None, super().gpu()[1] if self.runs_here else None


EXPORTERS: dict[Target, type[Exporter]] = {
    "onnx": OnnxExporter, "openvino": OpenVinoExporter,
    "tensorrt": TensorRtExporter, "tensorrt-rtx": TensorRtRtxExporter,
}  # fmt: skip


def exporter_of(options: ExportOptions, path: Path, *, calibrated: bool) -> Exporter:
    """What writes ``path``, before anything is read.

    Raises:
        UsageError: the options, the path's suffix and the calibration do not fit together.
    """
    exporter = EXPORTERS[options.to](options)
    if path.suffix != exporter.suffix:
        raise UsageError(f"--to {options.to} writes {exporter.suffix} files, not {path.name}")
    if options.precision == "int8" and not calibrated:
        raise UsageError("--precision int8 needs --calibrate FOLDER with pictures of people")
    if calibrated and options.precision != "int8" and not exporter.keeps_ranges:
        raise UsageError("--calibrate is for --precision int8, and for float32 ONNX and OpenVINO")
    if options.store != "fp32" and (options.to != "onnx" or options.precision != "fp32"):
        raise UsageError("--store is for float32 ONNX; other files store what they compute in")
    if options.via == "torch2trt":
        if (options.to, options.precision) != ("tensorrt", "fp16"):
            raise UsageError("--via torch2trt makes fp16 TensorRT engines only")
        return Torch2TrtExporter(options)
    return exporter


def export_model(
    weights: Path,
    path: Path,
    options: ExportOptions,
    open_network: Opener,
    *,
    calibration: NDArray[np.uint8] | None = None,
    skeleton: Skeleton | None = None,
) -> Exported:
    """One file of a model: `exporter_of`, `Session` and `export` in one call."""
    exporter = exporter_of(options, path, calibrated=calibration is not None)
    require_file(path)
    session = Session(weights, skeleton)
    if calibration is not None:
        session.calibrate(calibration)
    return export(session, exporter, path, open_network)


def export(
    session: Session,
    exporter: Exporter,
    path: Path,
    open_network: Opener,
    progress: tensorrt.Step | None = None,
) -> Exported:
    """Exports, compares with PyTorch float32, and only then keeps the file.

    Args:
        session: the model, calibrated if the export quantises it.
        exporter: from `exporter_of` for this ``path``.
        path: the file to write.
        open_network: runs the result for the comparison.
        progress: called with a TensorRT build's phases.

    Raises:
        ModelError: the target refuses the graph, or the result is beyond tolerance.
        BackendError: a package or the GPU is missing.
        SinkError: no file can be written at ``path``.
    """
    require_file(path)
    options = exporter.options
    # A refused export leaves nothing behind.
    draft = unfinished(path)

    def compared(computed: EnginePrecision, tolerance: str) -> Agreement:
        found = open_network(draft, options.to, computed)
        return session.compared(found, tolerance, allow_inaccurate=options.allow_inaccurate)

    try:
        ranges = session.ranges if exporter.keeps_ranges else {}
        exporter.write(session, draft, ranges, progress)
        agreement, in_8_bits = None, None
        if exporter.runs_here:
            try:
                agreement = compared(options.precision, exporter.tolerance)
            except Inaccurate as error:
                raise ModelError(f"{error}; {NOT_SAVED}") from None
        if ranges:
            try:
                in_8_bits = compared("int8", "int8")
            except ModelError as error:
                if session.calibration is not None:
                    refused = f"; {NOT_SAVED}" if isinstance(error, Inaccurate) else ""
                    raise ModelError(f"{error}{refused}; or leave --calibrate out") from None
                # The file itself is accurate, and nobody asked for 8 bits.
                LOG.warning("CPUs will not compute with %s in 8 bits: %s", path.name, error)
                exporter.write(session, draft, {}, progress)
        for made, kept in zip(exporter.files(draft), exporter.files(path), strict=True):
            made.replace(kept)
    finally:
        for left in (*exporter.files(draft), *exporter.scratch(draft)):
            left.unlink(missing_ok=True)
    return Exported(path, agreement, in_8_bits)


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


def _fixed(batches: BatchRange | None) -> int | None:
    """The batch size of a range of one size; other files take any number of crops."""
    return batches.most if batches and batches.least == batches.most else None


def save_openvino(network: openvino.Model, described: PoseInfo, path: Path, ranges: Ranges) -> None:
    """Writes ``.xml`` and ``.bin``, metadata and activation ranges included."""
    import openvino

    for key, value in {**described.metadata(), **eight_bit.metadata(ranges)}.items():
        network.set_rt_info(value, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(network, path, compress_to_fp16=False)
    except (OSError, RuntimeError):
        raise ModelError(f"cannot write {path}") from None
