"""Measures everything hrtrack claims on a GPU, in one run of under ten minutes.

    python scripts/gpu_session.py --output OUT [--model FILE] [--lspe FOLDER] [--budget 540]

Needs torch with CUDA, numpy, OpenCV and onnx. What else is missing (TensorRT, LSPE photos) costs
the steps that need it, and the report says so. OUT/gpu.json is written after every figure, so
that a run that is cut off loses nothing, and a chart at the end. GPU clocks and settings are left
alone.

Where the photos must be carried to the GPU, `--pack FOLDER --lspe DATA` beforehand copies
val.json and its 500 photos (about 10 MB) there. `--device cpu` rehearses it all in little.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack import geometry
from hrtrack.models import agreement
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.cost import cost
from hrtrack.models.graph import PoseGraph
from hrtrack.models.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.models.info import PoseInfo
from hrtrack.models.zoo import weights_folder
from hrtrack.skeleton import COCO17
from hrtrack.tracker.associate import Tracks
from hrtrack.tracker.bench_model import gpu_ceilings
from hrtrack.tracker.crop import Cropper
from hrtrack.tracker.detect_torch import TorchDetector
from hrtrack.tracker.estimate_gpu import GpuEstimator
from hrtrack.tracker.frame import Frame
from hrtrack.tracker.infer.torch import TorchNetwork
from hrtrack.tracker.loop import Pipeline
from hrtrack.tracker.smooth import Smoother
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.train.metrics import pckh

DETECT_EVERY = 5
LOOP_FRAMES = 16
PCKH_TOLERANCE = 0.1


@dataclass
class Session:
    """Where it runs, what has been found so far, and the file that it is written to."""

    device: str
    output: Path
    lspe: Path | None
    folder: Path
    report: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def put(self, step: str, name: str, value: object) -> None:
        """Enters a figure and writes the report."""
        self.report.setdefault(step, {})[name] = value
        print(f"{step}: {name}: {json.dumps(value)}", flush=True)
        self.save()

    def save(self) -> None:
        """Whole or not at all: the run may be cut off at any moment."""
        part = self.output / "gpu.json.part"
        part.write_text(json.dumps(self.report, indent=1) + "\n")
        part.replace(self.output / "gpu.json")

    def sizes(self, full: tuple[int, ...], rehearsal: tuple[int, ...]) -> tuple[int, ...]:
        return full if self.cuda else rehearsal

    def wait(self) -> None:
        """Until the GPU has done what was queued."""
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, call: Callable[[], object], seconds: float) -> list[float]:
        """Seconds of each of many calls that have been waited for."""
        for _ in range(5 if self.cuda else 1):
            call()
        self.wait()
        times: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < (seconds if self.cuda else seconds / 10):
            before = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - before)
        return times

    def open(self, name: str, precision: str, device: str, batches: Any = None) -> TorchNetwork:
        """The torch back end as the tracker opens it; a rehearsal on the CPU is in float32."""
        precision = precision if device == "cuda" else "fp32"
        return TorchNetwork(self.models[name], device, None, precision, batches)  # type: ignore[arg-type]

    def crops(self, batch: int, hw: tuple[int, int]) -> torch.Tensor:
        """Random pictures: blank ones compute faster than real ones."""
        return torch.randint(0, 256, (batch, *hw, 3), dtype=torch.uint8, device=self.device)


def main() -> None:
    """Runs the steps in the order of their worth until the budget is spent."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="folder for gpu.json and gpu.png")
    parser.add_argument("--model", type=Path, default=weights_folder() / "body_fast.onnx")
    parser.add_argument("--lspe", type=Path, help="folder with val.json and images/")
    parser.add_argument("--pack", type=Path, help="copy what --lspe needs of its folder, and stop")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: rehearse")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    options = parser.parse_args()
    if options.pack is not None:
        if options.lspe is None:
            parser.error("--pack needs --lspe")
        pack(options.lspe, options.pack)
        return
    if options.output is None:
        parser.error("--output is needed")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device that this PyTorch can use")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(options.device, options.output, options.lspe, Path(folder))
        session.report |= {"machine": machine(), "command": " ".join(sys.argv)}
        weights(session, options.model)
        for name, needed, step in STEPS:
            left = options.budget - (time.monotonic() - start)
            if left < needed and session.cuda:
                session.put(name, "left out", f"{left:.0f} s of the budget remained")
                continue
            began = time.monotonic()
            try:
                step(session)
            except Exception as error:
                # One missing package or fault must not cost the other steps their machine time.
                session.put(name, "failed", repr(error))
                traceback.print_exc()
            session.put("seconds", name, round(time.monotonic() - began, 1))
    chart(session.report, options.output / "gpu.png")


def machine() -> dict[str, Any]:
    """What stands beside every figure."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cpu_threads": torch.get_num_threads(),
        "eager_fp32_convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
    return found


def weights(session: Session, bundled: Path) -> None:
    """Checkpoint files by name; W32 and W48 have random weights, which cost the same time."""
    torch.manual_seed(0)
    sources: dict[str, tuple[HRNet, PoseInfo]] = {}
    try:
        sources["body_fast"] = load_hrnet(bundled)
    except Exception as error:
        session.put("bundled", "random weights instead", repr(error))
        small = HRNetConfig(modules=(1, 1, 1), blocks=2, heatmaps="softmax")
        sources["body_fast"] = (HRNet(small), PoseInfo(COCO17))
        initialise(sources["body_fast"][0], "he")
    for width in (32, 48) if session.cuda else ():
        network = HRNet(HRNetConfig(width=width))
        initialise(network, "he")
        sources[f"w{width}"] = (network, PoseInfo(COCO17))
    for name, (network, described) in sources.items():
        # A checkpoint, because safetensors may be missing.
        path = session.models[name] = session.folder / f"{name}.pth"
        said = dataclasses.replace(described, config=dataclasses.asdict(network.config))
        torch.save({"state_dict": network.state_dict(), **said.metadata()}, path)


def ceilings(session: Session) -> None:
    """Arithmetic and memory traffic that this GPU reaches."""
    if not session.cuda:
        session.put("ceilings", "left out", "a rehearsal")
        return
    macs, traffic = gpu_ceilings()
    session.put("ceilings", "macs_per_s", macs)
    session.put("ceilings", "bytes_per_s", traffic)


def parity(session: Session) -> None:
    """float16 in CUDA graphs against float32 on the CPU, on drawn crops; and the detector's."""
    for name in session.models:
        expected = session.open(name, "fp32", "cpu")
        network = session.open(name, "fp16", session.device)
        crops = agreement.drawn_crops(network.input_hw, 16)
        found = agreement.compare(
            expected(crops)["keypoints"], network(crops)["keypoints"], COCO17, network.input_hw
        )
        session.put("parity", name, str(found))
        network.close()
    frame, _ = scene(5, 0)
    there, here = detector(session.device)(frame), detector("cpu")(frame)
    likely = here[1] > 0.3
    overlap = geometry.iou(here[0][likely], there[0]).max(axis=1, initial=0.0)
    found_people = {
        "people": int(likely.sum()),
        "least_iou": round(float(min(overlap, default=0)), 4),
    }
    session.put("parity", "person_fast", found_people)


def lspe(session: Session) -> None:
    """PCKh@0.5 of float32 on the CPU and float16 on the GPU, labelled boxes."""
    if session.lspe is None or not (session.lspe / "val.json").is_file():
        session.put("lspe", "left out", "--lspe names no folder with val.json")
        return
    import cv2

    content: Any = json.loads((session.lspe / "val.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    people = [
        one
        for one in content["annotations"]
        if not one.get("pseudo") and one.get("neck", [0] * 3)[2] and one.get("head_top", [0] * 3)[2]
    ]
    people = people if session.cuda else people[:8]
    networks = {
        "fp32 CPU": session.open("body_fast", "fp32", "cpu"),
        "fp16 GPU": session.open("body_fast", "fp16", session.device),
    }
    crop, crops, maps = Cropper(networks["fp32 CPU"].input_hw), [], []
    for one in people:
        x, y, width, height = one["bbox"]
        image = cv2.imread(str(session.lspe / "images" / names[one["image_id"]]))[..., ::-1]
        cut, to_image = crop(np.ascontiguousarray(image), np.array([[x, y, x + width, y + height]]))
        crops.append(cut[0].copy())
        maps.append(to_image[0])
    labels = np.array([one["keypoints"] for one in people], float).reshape(len(people), 17, 3)
    heads = pckh.segment_head_sizes(
        np.array([one["neck"] for one in people], float),
        np.array([one["head_top"] for one in people], float),
    )
    known = (labels[..., 2] > 0) & ~np.isnan(heads)[:, None]
    means = []
    for name, network in networks.items():
        parts = [
            network(np.stack(crops[first : first + 64]))["keypoints"]
            for first in range(0, len(crops), 64)
        ]
        points = geometry.transform(np.concatenate(parts)[..., :2].astype(float), np.stack(maps))
        errors = pckh.normalised_errors(points, labels[..., :2], heads)
        shares = pckh.pckh(errors, known, pckh.joint_groups(COCO17))
        means.append(shares["mean"] or 0.0)
        session.put("lspe", name, shares)
    apart = abs(means[0] - means[1])
    session.put("lspe", "people", len(people))
    session.put("lspe", f"within {PCKH_TOLERANCE}", {"apart": apart, "so": apart <= PCKH_TOLERANCE})


def throughput(session: Session) -> None:
    """Eager float32 and the back end's float16 graphs, by batch, with memory used."""
    speeds = session.report.get("ceilings", {})
    batches = session.sizes((1, 8, 32, 64), (1, 2))
    for name, path in session.models.items():
        network, described = load_hrnet(path)
        price = cost(network, described.input_hw)
        eager = PoseGraph(network, described).to(session.device)
        back_end = session.open(name, "fp16", session.device, batches)
        if session.cuda:
            torch.cuda.reset_peak_memory_stats()
        for batch in batches:
            crops = session.crops(batch, described.input_hw)
            least = None
            if "macs_per_s" in speeds:
                least = price.seconds(batch, speeds["macs_per_s"], speeds["bytes_per_s"])

            @torch.inference_mode()
            def plain(crops: torch.Tensor = crops, graph: PoseGraph = eager) -> None:
                graph(crops)

            def replayed(crops: torch.Tensor = crops, there: TorchNetwork = back_end) -> None:
                there.on_device(crops)

            rows = {
                "eager_fp32": row(session.timed(plain, 1.5), batch),
                "graphs_fp16": row(session.timed(replayed, 1.5), batch, least),
                # The same once more: a difference smaller than this one is noise.
                "graphs_fp16_again": row(session.timed(replayed, 1.0), batch, least),
            }
            session.put("throughput", f"{name} batch {batch}", rows)
        if session.cuda:
            used = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            session.put("throughput", f"{name} memory_gib", used)
        back_end.close()


def row(times: list[float], batch: int, least: float | None = None) -> dict[str, float]:
    """Crops a second and latency of one batch size."""
    p50 = float(np.percentile(times, 50))
    found = {
        "crops_per_s": round(batch / p50, 1),
        "p50_ms": round(p50 * 1e3, 3),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 3),
    }
    return found if least is None else {**found, "of_ceiling": round(least / p50, 3)}


def detector(device: str) -> TorchDetector:
    """The bundled person detector as it runs beside a pose network on that device."""
    return TorchDetector(
        weights_folder() / "person_fast.onnx", "person_fast", torch.device(device), 0.1
    )


def scene(people: int, lap: int) -> tuple[np.ndarray, np.ndarray]:
    """A 1080p picture with so many portraits that move four pixels a frame, and their boxes."""
    import cv2

    image = np.full((1080, 1920, 3), 150, np.uint8)
    columns = min(people, 10)
    height = 900 if people == 1 else 1000 // -(-people // columns) - 20
    width = min(round(height * 512 / 600), 1800 // columns)
    person = cv2.resize(portrait(), (width, round(width * 600 / 512)))
    boxes = []
    for index in range(people):
        left = 20 + 4 * lap + (index % columns) * (1800 // columns)
        top = 20 + (index // columns) * (height + 20)
        image[top : top + len(person), left : left + width] = person[:, : 1920 - left]
        boxes.append([left, top, left + width, top + len(person)])
    return image, np.array(boxes, float)


def portrait() -> np.ndarray:
    """matplotlib's sample photo of a person (600, 512, 3) RGB; noise where that is missing."""
    import cv2

    try:
        from matplotlib import cbook
    except ImportError:
        return np.random.default_rng(0).integers(0, 256, (600, 512, 3), dtype=np.uint8)
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        data = np.frombuffer(file.read(), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


class GivenPeople:
    """Runs the detector in every fifth frame and gives boxes that are known."""

    def __init__(self, looks: TorchDetector, boxes: list[np.ndarray]) -> None:
        self._looks, self._boxes = looks, boxes

    def boxes(self, frame: Frame, tracks: Tracks) -> tuple[np.ndarray, np.ndarray, bool]:
        due = frame.index % DETECT_EVERY == 0
        if due:
            self._looks(frame.image)
        boxes = self._boxes[frame.index % len(self._boxes)]
        return boxes, np.full(len(boxes), 0.9), due

    def close(self) -> None:
        """There is no thread to end."""


def pipeline(session: Session) -> None:
    """The whole loop at 1080p from frames in memory: upload, detector, crops, network, tracks.

    Stages are host times: what the GPU still has to do is awaited in "infer" (and "detect").
    """
    for name in session.models:
        network = session.open(name, "fp16", session.device)
        for count in session.sizes((1, 5, 20), (2,)):
            scenes = [scene(count, lap) for lap in range(LOOP_FRAMES)]
            looks, watch = detector(session.device), Stopwatch()
            loop = Pipeline(
                people=GivenPeople(looks, [boxes for _, boxes in scenes]),  # type: ignore[arg-type]
                estimate=GpuEstimator(network, 17, watch, upload=looks.upload),
                tracks=Tracks(COCO17),
                smoother=Smoother(COCO17),
                stopwatch=watch,
            )
            index = people = 0

            def step() -> None:
                nonlocal index, people
                image = scenes[index % LOOP_FRAMES][0]  # noqa: B023
                people += len(loop.step(Frame(index, index / 30, image)))  # noqa: B023
                index += 1

            for _ in range(LOOP_FRAMES):
                step()
            watch.clear()
            index = people = 0
            times = session.timed(step, 3.0)
            found = {
                "fps": round(len(times) / sum(times), 1),
                "streams_of_30_fps": int(len(times) / sum(times) / 30),
                "people": round(people / index, 1),
            }
            for stage in watch.counts:
                quantiles = [round(watch.percentile(stage, q), 3) for q in (50, 95, 99)]
                found[f"{stage}_ms_p50_p95_p99"] = quantiles  # type: ignore[assignment]
            session.put("pipeline_1080p", f"{name} {count} people", found)
            looks.close()
        network.close()
    looks, (frame, _) = detector(session.device), scene(5, 0)
    there = looks.upload(frame)
    found = row(session.timed(lambda: looks.on_device(there), 1.0), 1)
    session.put("pipeline_1080p", "person_fast alone, frame on the device", found)


def engine(session: Session, package: str) -> None:
    """Builds, verifies and times engines of every model; whether they run here is the question."""
    from hrtrack.errors import BackendError
    from hrtrack.models.engine import BatchRange, load_package

    try:
        load_package(package)  # type: ignore[arg-type]
    except BackendError as missing:
        session.put(package, "left out", str(missing))
        return
    from hrtrack.export.run import ExportOptions, export_model
    from hrtrack.tracker.infer import open_network

    def opener(path: Path, target: str, precision: str) -> Any:
        return open_network(path, backend=target, precision=precision)  # type: ignore[arg-type]

    for name, path in session.models.items():
        options = ExportOptions(
            to=package,  # type: ignore[arg-type]
            precision="fp16",
            batches=BatchRange(1, 8, 64),
            timing_cache=session.folder / f"{package}.cache",
            allow_inaccurate=True,
        )
        began = time.monotonic()
        done = export_model(path, session.folder / f"{name}-{package}.engine", options, opener)
        session.put(package, f"{name} build_s", round(time.monotonic() - began, 1))
        session.put(package, f"{name} agreement", str(done.agreement))
        if done.agreement is None:
            continue  # built without a GPU, so there is nothing to run it on
        network = opener(done.path, package, "fp16")
        for batch in (1, 8, 32, 64):
            crops = session.crops(batch, network.input_hw)
            times = session.timed(lambda there=network, x=crops: there.on_device(x), 1.5)  # type: ignore[misc]
            session.put(package, f"{name} batch {batch}", row(times, batch))
        network.close()


@torch.inference_mode()
def compiled(session: Session) -> None:
    """W32 in float16 through torch.compile: does it pay over the recorded graph?"""
    if not session.cuda:
        session.put("torch_compile", "left out", "a rehearsal")
        return
    network, described = load_hrnet(session.models["w32"])
    graph = PoseGraph(network, described, half=True)
    graph.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    graph = graph.to(session.device)
    graph.network = torch.compile(graph.network, mode="reduce-overhead")  # type: ignore[assignment]
    for batch in (1, 64):
        crops = session.crops(batch, described.input_hw)
        began = time.monotonic()
        graph(crops)
        session.wait()
        session.put("torch_compile", f"batch {batch} compile_s", round(time.monotonic() - began, 1))
        times = session.timed(lambda x=crops: graph(x), 1.5)  # type: ignore[misc]
        session.put("torch_compile", f"batch {batch}", row(times, batch))


STEPS: tuple[tuple[str, float, Callable[[Session], None]], ...] = (
    ("ceilings", 10, ceilings),
    ("parity", 30, parity),
    ("lspe", 30, lspe),
    ("throughput", 40, throughput),
    ("pipeline_1080p", 40, pipeline),
    ("tensorrt-rtx", 60, lambda session: engine(session, "tensorrt-rtx")),
    ("tensorrt", 120, lambda session: engine(session, "tensorrt")),
    ("torch_compile", 180, compiled),
)
"""Name, seconds of the budget that must be left, and what to do, most wanted first."""


def chart(report: dict[str, Any], path: Path) -> None:
    """Crops a second by model and batch, if there is something to draw and to draw with."""
    rows = {name: value for name, value in report.get("throughput", {}).items() if "batch" in name}
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no chart: matplotlib is missing")
        return
    if not rows:
        return
    figure = Figure(figsize=(9, 0.45 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, kind in ((-0.2, "eager_fp32"), (0.2, "graphs_fp16")):
        speeds = [value[kind]["crops_per_s"] for value in rows.values()]
        bars = axes.barh(places + shift, speeds, 0.38, label=kind.replace("_", " "))
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_yticks(places, list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"crops per second, {report['machine'].get('gpu', 'CPU rehearsal')}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def pack(data: Path, target: Path) -> None:
    """Copies val.json and its photos."""
    content = json.loads((data / "val.json").read_text())
    (target / "images").mkdir(parents=True, exist_ok=True)
    shutil.copy(data / "val.json", target)
    for image in content["images"]:
        shutil.copy(data / "images" / image["file_name"], target / "images")


if __name__ == "__main__":
    main()
