"""TensorRT and TensorRT-RTX: do their engines build, agree and run here, and how fast?"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from hrtrack.errors import BackendError
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.pose.hrnet import cost
from hrtrack.models.runtimes.tensorrt import BatchRange, Package, load_package

from .session import LEFT_OUT, Session, row
from .speed import BATCHES, shares


def engine(session: Session, package: Package, seconds: float) -> None:
    """Builds, compares and times float16 engines of every model while ``seconds`` are left."""
    try:
        version = load_package(package).__version__
    except BackendError as missing:
        session.put(package, LEFT_OUT, str(missing))
        return
    session.put(package, "version", version)
    for name in session.models:
        if session.has(seconds, package, name):
            with session.attempt(package, name):
                _engine(session, package, name)


def _engine(session: Session, package: Package, name: str) -> None:
    from hrtrack.export.run import ExportOptions, export_model
    from hrtrack.tracker.inference.open import open_network

    def opener(path: Path, target: str, precision: str) -> Any:
        return open_network(path, backend=target, precision=precision)  # type: ignore[arg-type]

    options = ExportOptions(
        to=package,
        precision="fp16",
        batches=BatchRange(1, 8, 64),
        timing_cache=session.folder / f"{package}.cache",
        allow_inaccurate=True,  # the difference is reported
    )
    began = time.monotonic()
    path = session.folder / f"{name}-{package}.engine"
    done = export_model(session.models[name], path, options, opener)
    session.put(package, f"{name} build_s", round(time.monotonic() - began, 1))
    session.put(package, f"{name} agreement", str(done.agreement))
    if done.agreement is None:
        return  # built without a GPU, so there is nothing to run it on
    model, described = load_hrnet(session.models[name])
    price = cost(model, described.input_hw)
    before = session.memory_gib()
    network = opener(done.path, package, "fp16")
    for batch in BATCHES:
        crops = session.crops(batch, network.input_hw)
        found = row(session.timed(partial(network.on_device, crops), 1.5), batch)
        found |= shares(session, price, batch, found["p50_ms"])
        session.put(package, f"{name} batch {batch}", found)
    session.put(package, f"{name} memory_gib", round(session.memory_gib() - before, 2))
    network.close()
