"""Crops a second and latency of the networks alone, beside what the GPU could reach."""

from __future__ import annotations

import math

import torch

from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.pose.graph import PoseGraph
from hrtrack.models.pose.hrnet import Cost, cost
from hrtrack.tracker.bench_model import gpu_ceilings
from hrtrack.tracker.inference.backends.torch import TorchNetwork

from .session import LEFT_OUT, Session, row

BATCHES = (1, 8, 32, 64)


def ceilings(session: Session) -> None:
    """Arithmetic and memory traffic that this GPU reaches."""
    if not session.cuda:
        session.put("ceilings", LEFT_OUT, "a rehearsal")
        return
    macs, traffic = gpu_ceilings()
    session.put("ceilings", "macs_per_s", macs)
    session.put("ceilings", "bytes_per_s", traffic)


def throughput(session: Session) -> None:
    """Every model: eager float32 and the back end's float16 graphs, by batch.

    Crops lie on the device, and so do the keypoints; every call is waited for.
    """
    for name in session.models:
        with session.attempt("throughput", name):
            _throughput(session, name)


def _throughput(session: Session, name: str) -> None:
    network, described = load_hrnet(session.models[name])
    price = cost(network, described.input_hw)
    batches = session.sizes(BATCHES, (1, 2))
    before = session.memory_gib()
    back_end = session.back_end(name, batches)
    for batch in batches:
        back_end.on_device(session.crops(batch, described.input_hw))
    taken = round(session.memory_gib() - before, 2)
    session.put("throughput", f"{name} graphs of all sizes, memory_gib", taken)
    eager = PoseGraph(network, described).to(session.device)
    for batch in batches:
        crops = session.crops(batch, described.input_hw)

        @torch.inference_mode()
        def plain(crops: torch.Tensor = crops) -> None:
            eager(crops)

        def replayed(crops: torch.Tensor = crops, there: TorchNetwork = back_end) -> None:
            there.on_device(crops)

        graphs = row(session.timed(replayed, 1.5), batch)
        rows = {
            "eager_fp32": row(session.timed(plain, 1.5), batch),
            "graphs_fp16": graphs | shares(session, price, batch, graphs["p50_ms"]),
            # The same once more: a difference smaller than this one is noise.
            "graphs_fp16_again": row(session.timed(replayed, 1.0), batch),
        }
        session.put("throughput", f"{name} batch {batch}", rows)
    back_end.close()


def shares(session: Session, price: Cost, batch: int, took_ms: float) -> dict[str, float]:
    """The part of either ceiling that a call in float16 has reached, where those are known."""
    speeds = session.report.get("ceilings", {})
    if "bytes_per_s" not in speeds:
        return {}
    least = {
        "of_arithmetic_ceiling": price.seconds(batch, speeds["macs_per_s"], math.inf),
        "of_memory_ceiling": price.seconds(batch, math.inf, speeds["bytes_per_s"]),
    }
    return {name: round(seconds * 1e3 / took_ms, 3) for name, seconds in least.items()}
