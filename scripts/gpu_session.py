"""Measures everything hrtrack claims on a GPU, in one run of under ten minutes.

    python scripts/gpu_session.py --output OUT [--model FILE] [--lspe FOLDER] [--budget 540]

Needs torch with CUDA, numpy and OpenCV. What else is missing (onnx, TensorRT, LSPE photos) costs
the steps that need it, and the report says so. Writes OUT/gpu.json after every step, and a chart
if matplotlib is there. GPU clocks and settings are left alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack.models import agreement
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.cost import cost
from hrtrack.models.graph import PoseGraph
from hrtrack.models.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.models.info import PoseInfo
from hrtrack.skeleton import COCO17
from hrtrack.tracker.associate import Tracks
from hrtrack.tracker.bench_model import gpu_ceilings
from hrtrack.tracker.estimate_gpu import GpuEstimator
from hrtrack.tracker.frame import Frame
from hrtrack.tracker.infer.torch import TorchNetwork
from hrtrack.tracker.smooth import Smoother
from hrtrack.tracker.stopwatch import Stopwatch

BATCHES = (1, 8, 32, 64)
REHEARSAL = (1, 2)
PEOPLE = (1, 5, 20)
SECONDS = 2.0
BUNDLED = Path(__file__).resolve().parents[1] / "hrtrack/models/weights/body_fast.onnx"
Report = dict[str, Any]


def main() -> None:
    """Runs the steps in the order of their worth until the budget is spent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--lspe", type=Path, default=None, help="folder with val.json and images/")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: rehearse")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    report: Report = {"machine": machine(), "command": " ".join(sys.argv)}
    device = options.device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device that this PyTorch can use")
    with tempfile.TemporaryDirectory() as folder:
        models = weights(options.model, Path(folder), report)
        if device == "cpu":
            models = {"body_fast": models["body_fast"]}
        steps: dict[str, Callable[[], Any]] = {
            "ceilings": lambda: dict(
                zip(("macs_per_s", "bytes_per_s"), gpu_ceilings(), strict=True)
            ),
            "parity": lambda: parity(models, device),
            "throughput": lambda: throughput(models, report, device),
            "pipeline_1080p": lambda: pipeline(models, device),
            "lspe": lambda: lspe(models, options.lspe, device),
            "tensorrt-rtx": lambda: engine("tensorrt-rtx", models, Path(folder)),
            "tensorrt": lambda: engine("tensorrt", models, Path(folder)),
            "torch_compile": lambda: compiled(models, device),
        }
        start = time.monotonic()
        for name, step in steps.items():
            left = options.budget - (time.monotonic() - start)
            if left < 30:
                report[name] = f"left out: {left:.0f} s of the budget remained"
                continue
            began = time.monotonic()
            try:
                report[name] = step()
            except Exception as error:
                # One missing package or fault must not cost the other steps their machine time.
                report[name] = f"failed: {error!r}"
                traceback.print_exc()
            took = time.monotonic() - began
            print(f"{name} ({took:.0f} s): {json.dumps(report[name])}", flush=True)
            (options.output / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    chart(report, options.output / "gpu.png")


def machine() -> Report:
    """What stands beside every figure."""
    found: Report = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cpu_threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
    return found


def weights(bundled: Path, folder: Path, report: Report) -> dict[str, Path]:
    """Checkpoint files by name; W32 and W48 have random weights, which cost the same time."""
    torch.manual_seed(0)
    sources: dict[str, tuple[HRNet, PoseInfo]] = {}
    try:
        sources["body_fast"] = load_hrnet(bundled)
    except Exception as error:
        report["bundled"] = f"random weights instead: {error!r}"
        small = HRNetConfig(modules=(1, 1, 1), blocks=2, heatmaps="softmax")
        sources["body_fast"] = (HRNet(small), PoseInfo(COCO17))
        initialise(sources["body_fast"][0], "he")
    for width in (32, 48):
        network = HRNet(HRNetConfig(width=width))
        initialise(network, "he")
        sources[f"w{width}"] = (network, PoseInfo(COCO17))
    found = {}
    for name, (network, described) in sources.items():
        # A checkpoint, because safetensors may be missing.
        found[name] = folder / f"{name}.pth"
        said = dataclasses.replace(described, config=dataclasses.asdict(network.config))
        torch.save({"state_dict": network.state_dict(), **said.metadata()}, found[name])
    return found


def opened(path: Path, precision: str, device: str, batches: Any = None) -> TorchNetwork:
    """The torch back end as the tracker opens it; a rehearsal on the CPU is in float32."""
    precision = precision if device == "cuda" else "fp32"
    return TorchNetwork(path, device, None, precision, batches)  # type: ignore[arg-type]


def wait(device: str) -> None:
    """Until the GPU has done what was queued."""
    if device == "cuda":
        torch.cuda.synchronize()


def parity(models: dict[str, Path], device: str) -> Report:
    """float16 in CUDA graphs against float32 on the CPU, on drawn crops."""
    found = {}
    for name, path in models.items():
        crops = agreement.drawn_crops((256, 192), 16)
        expected = opened(path, "fp32", "cpu")(crops)["keypoints"]
        answer = opened(path, "fp16", device)(crops)["keypoints"]
        found[name] = str(agreement.compare(expected, answer, COCO17, (256, 192)))
    return found


def timed(call: Callable[[], object], device: str, seconds: float = SECONDS) -> list[float]:
    """Seconds of each of many calls that have been waited for."""
    for _ in range(5 if device == "cuda" else 1):
        call()
    wait(device)
    times: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - before)
    return times


def row(times: list[float], batch: int, least: float | None = None) -> Report:
    """Crops a second and latency of one batch size."""
    p50 = float(np.percentile(times, 50))
    found = {
        "crops_per_s": round(batch / p50, 1),
        "p50_ms": round(p50 * 1e3, 3),
        "p99_ms": round(float(np.percentile(times, 99)) * 1e3, 3),
    }
    return found if least is None else {**found, "of_ceiling": round(least / p50, 3)}


def throughput(models: dict[str, Path], report: Report, device: str) -> Report:
    """Eager float32 and the back end's float16 graphs, by batch, with memory used."""
    speeds = report.get("ceilings")
    found: Report = {}
    batches = BATCHES if device == "cuda" else REHEARSAL
    for name, path in models.items():
        network, described = load_hrnet(path)
        price = cost(network, described.input_hw)
        eager = PoseGraph(network, described).to(device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        back_end = opened(path, "fp16", device, batches)
        for batch in batches:
            crops = torch.randint(0, 256, (batch, 256, 192, 3), dtype=torch.uint8, device=device)
            least = None
            if isinstance(speeds, dict):
                least = price.seconds(batch, speeds["macs_per_s"], speeds["bytes_per_s"])

            @torch.inference_mode()
            def plain(crops: torch.Tensor = crops, graph: PoseGraph = eager) -> None:
                graph(crops)

            def replayed(crops: torch.Tensor = crops, there: TorchNetwork = back_end) -> None:
                there.on_device(crops)

            found[f"{name} batch {batch}"] = {
                "eager_fp32": row(timed(plain, device), batch),
                "graphs_fp16": row(timed(replayed, device), batch, least),
            }
        if device == "cuda":
            found[f"{name} memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        back_end.close()
    return found


def pipeline(models: dict[str, Path], device: str) -> Report:
    """Upload, crops, network, association and smoothing at 1080p; boxes are given."""
    image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    found: Report = {}
    for name, path in models.items():
        network = opened(path, "fp16", device)
        for count in PEOPLE:
            watch = Stopwatch()
            estimate = GpuEstimator(network, 17, watch)
            tracks, smoother = Tracks(COCO17), Smoother(COCO17)
            left = np.linspace(0, 1700, count)
            boxes = np.stack([left, left * 0 + 200, left + 200, left * 0 + 800], axis=1)
            scores = np.full(count, 0.9)
            frames = 0

            def step() -> None:
                nonlocal frames
                frame = Frame(frames, frames / 30, image)
                poses = estimate(frame, boxes, scores)  # noqa: B023
                with watch.stage("associate"):  # noqa: B023
                    smoother.update(tracks.update(poses, True))  # noqa: B023
                frames += 1

            times = timed(step, device, 3.0)
            found[f"{name} {count} people"] = {
                "fps": round(len(times) / sum(times), 1),
                "streams_of_30_fps": int(len(times) / sum(times) / 30),
                **{
                    f"{stage}_ms_p50_p95_p99": [
                        round(watch.percentile(stage, q), 3) for q in (50, 95, 99)
                    ]
                    for stage in watch.counts
                },
            }
        network.close()
    return found


def lspe(models: dict[str, Path], folder: Path | None, device: str) -> Report | str:
    """PCKh@0.5 of float32 on the CPU and float16 on the GPU, labelled boxes."""
    from hrtrack import geometry
    from hrtrack.tracker.crop import Cropper
    from hrtrack.train.metrics import pckh

    if folder is None or not (folder / "val.json").is_file():
        return "left out: --lspe names no folder with val.json"
    import cv2

    content: Any = json.loads((folder / "val.json").read_text())
    files = {image["id"]: folder / "images" / image["file_name"] for image in content["images"]}
    people = [
        one
        for one in content["annotations"]
        if not one.get("pseudo") and one.get("neck", [0] * 3)[2] and one.get("head_top", [0] * 3)[2]
    ]
    crop, crops, maps = Cropper((256, 192)), [], []
    for one in people:
        x, y, width, height = one["bbox"]
        image = cv2.imread(str(files[one["image_id"]]))[..., ::-1]
        cut, to_image = crop(np.ascontiguousarray(image), np.array([[x, y, x + width, y + height]]))
        crops.append(cut[0].copy())
        maps.append(to_image[0])
    labels = np.array([one["keypoints"] for one in people], float).reshape(len(people), 17, 3)
    heads = pckh.segment_head_sizes(
        np.array([one["neck"] for one in people], float),
        np.array([one["head_top"] for one in people], float),
    )
    found: Report = {"people": len(people)}
    for name, network in {
        "fp32 CPU": opened(models["body_fast"], "fp32", "cpu"),
        "fp16 GPU": opened(models["body_fast"], "fp16", device),
    }.items():
        parts = [
            network(np.stack(crops[start : start + 64]))["keypoints"]
            for start in range(0, len(crops), 64)
        ]
        points = geometry.transform(np.concatenate(parts)[..., :2].astype(float), np.stack(maps))
        errors = pckh.normalised_errors(points, labels[..., :2], heads)
        known = (labels[..., 2] > 0) & ~np.isnan(heads)[:, None]
        found[name] = pckh.pckh(errors, known, pckh.joint_groups(COCO17))
    return found


def engine(package: str, models: dict[str, Path], folder: Path) -> Report:
    """Builds, verifies and times engines of every model; whether they run here is the question."""
    from hrtrack.export.run import ExportOptions, export_model
    from hrtrack.models.engine import BatchRange, load_package
    from hrtrack.tracker.infer import open_network

    load_package(package)  # type: ignore[arg-type]  # fails at once where it is missing
    found: Report = {}

    def opener(path: Path, target: str, precision: str) -> Any:
        return open_network(path, backend=target, precision=precision)  # type: ignore[arg-type]

    for name, path in models.items():
        options = ExportOptions(
            to=package,  # type: ignore[arg-type]
            precision="fp16",
            batches=BatchRange(1, 8, 64),
            timing_cache=folder / f"{package}.cache",
            allow_inaccurate=True,
        )
        began = time.monotonic()
        done = export_model(path, folder / f"{name}-{package}.engine", options, opener)
        found[f"{name} build_s"] = round(time.monotonic() - began, 1)
        found[f"{name} agreement"] = str(done.agreement)
        network = opener(done.path, package, "fp16")
        for batch in BATCHES:
            crops = torch.randint(0, 256, (batch, 256, 192, 3), dtype=torch.uint8, device="cuda")
            times = timed(lambda there=network, x=crops: there.on_device(x), "cuda")  # type: ignore[misc]
            found[f"{name} batch {batch}"] = row(times, batch)
        network.close()
    return found


@torch.inference_mode()
def compiled(models: dict[str, Path], device: str) -> Report:
    """W32 in float16 through torch.compile: does it pay over the recorded graph?"""
    network, described = load_hrnet(models["w32"])
    graph = PoseGraph(network, described, half=True)
    graph.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    graph = graph.to(device)
    graph.network = torch.compile(graph.network, mode="max-autotune")  # type: ignore[assignment]
    found: Report = {}
    for batch in (1, 64):
        crops = torch.randint(0, 256, (batch, 256, 192, 3), dtype=torch.uint8, device=device)
        began = time.monotonic()
        graph(crops)
        wait(device)
        found[f"batch {batch} compile_s"] = round(time.monotonic() - began, 1)
        found[f"batch {batch}"] = row(timed(lambda x=crops: graph(x), device), batch)  # type: ignore[misc]
    return found


def chart(report: Report, path: Path) -> None:
    """Crops a second by model and batch, if there is something to draw and to draw with."""
    rows = report.get("throughput")
    if not isinstance(rows, dict):
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no chart: matplotlib is missing")
        return
    rows = {name: value for name, value in rows.items() if isinstance(value, dict)}
    figure = Figure(figsize=(9, 0.45 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, kind in ((-0.2, "eager_fp32"), (0.2, "graphs_fp16")):
        speeds = [value[kind]["crops_per_s"] for value in rows.values()]
        bars = axes.barh(places + shift, speeds, 0.38, label=kind.replace("_", " "))
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_yticks(places, list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"crops per second, {report['machine'].get('gpu', 'GPU')}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
