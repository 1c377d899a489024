"""What the torch back end leaves aside: would it pay?"""

from __future__ import annotations

import time
from functools import partial

import torch

from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.pose.graph import PoseGraph

from .session import LEFT_OUT, Session, row


def searched(session: Session) -> None:
    """The same graphs after cuDNN has tried its algorithms out (`cudnn.benchmark`)."""
    batches = session.sizes((1, 64), (1,))
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        for name in session.models:
            with session.attempt("cudnn_search", name):
                network = session.back_end(name, batches)
                for batch in batches:
                    crops = session.crops(batch, network.input_hw)
                    times = session.timed(partial(network.on_device, crops), 1.0)
                    session.put("cudnn_search", f"{name} batch {batch}", row(times, batch))
                network.close()
    finally:
        torch.backends.cudnn.benchmark = before


def compiled(session: Session, seconds: float) -> None:
    """float16 through torch.compile, which records its own CUDA graphs."""
    if not session.cuda:
        session.put("torch_compile", LEFT_OUT, "a rehearsal")
        return
    for name in session.models:
        for batch in (1, 64):
            what = f"{name} batch {batch}"
            if session.has(seconds, "torch_compile", what):
                with session.attempt("torch_compile", what):
                    _compiled(session, name, batch, what)


@torch.no_grad()
def _compiled(session: Session, name: str, batch: int, what: str) -> None:
    network, described = load_hrnet(session.models[name])
    graph = PoseGraph(network, described, half=True)
    graph.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Not dynamic: the second batch size would else get a slower network for any size.
    run = torch.compile(graph.to(session.device), mode="reduce-overhead", dynamic=False)
    crops = session.crops(batch, described.input_hw)
    began = time.monotonic()
    run(crops)
    session.wait()
    session.put("torch_compile", f"{what} compile_s", round(time.monotonic() - began, 1))
    session.put("torch_compile", what, row(session.timed(partial(run, crops), 1.5), batch))
