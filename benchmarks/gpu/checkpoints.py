"""The models that are measured, as checkpoint files: the bundled one, W32 and W48."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from hrtrack.errors import ModelError
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.checkpoints import load_hrnet
from hrtrack.models.info import PoseInfo
from hrtrack.models.network import PIXEL_MEAN, PIXEL_STD
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.models.runtimes.tensorrt import weights_hash
from hrtrack.skeleton import COCO17

from .session import Session


def prepare(session: Session, bundled: Path) -> None:
    """Enters every model into the session; W32 and W48 have random weights, at the same cost."""
    network, described = load_hrnet(bundled)
    if described.skeleton.joints != COCO17.joints:
        raise ModelError(f"{bundled} predicts {described.skeleton.name}; the steps expect coco17")
    session.put("models", bundled.stem, f"{bundled.name}, SHA-256 {weights_hash(bundled)}...")
    _save(session, bundled.stem, network, described)
    for width in session.sizes((32, 48), ()):
        described = PoseInfo(COCO17)
        network = random_network(width, described.input_hw, session.device)
        session.put("models", f"w{width}", "random weights")
        _save(session, f"w{width}", network, described)


def random_network(width: int, input_hw: tuple[int, int], device: str) -> HRNet:
    """Random weights whose batch norms know the drawn crops, and maps that peak near 0.8.

    Without their statistics the numbers grow to 5e8 in W32, and in float16 to infinity.
    """
    torch.manual_seed(0)
    network = HRNet(HRNetConfig(width=width))
    initialise(network, "he")
    network.to(device)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over what it sees
    crops = torch.from_numpy(drawn_crops(input_hw, 4)).to(device).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    images = (crops / 255 - mean) / std
    with torch.no_grad():
        network.train()(images)
        peaks = network.eval()(images).amax(dim=(2, 3)).mean()
        network.head.weight.mul_(0.8 / peaks)
    return network.cpu()


def _save(session: Session, name: str, network: HRNet, described: PoseInfo) -> None:
    # A checkpoint, because safetensors may be missing.
    path = session.models[name] = session.folder / f"{name}.pth"
    said = dataclasses.replace(described, config=dataclasses.asdict(network.config))
    torch.save({"state_dict": network.state_dict(), **said.metadata()}, path)
