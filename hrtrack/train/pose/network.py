"""The network that a training begins with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...models.checkpoints import HEAD, Weights, load_weights
from ...models.info import from_metadata, guess_skeleton
from ...models.pose.hrnet import HRNet, HRNetConfig, initialise
from ...models.zoo import resolve
from ...skeleton import Skeleton

if TYPE_CHECKING:
    from ...configs.pose_schema import TrainConfig

BUNDLED = "body_fast"


def network_config(config: TrainConfig, skeleton: Skeleton) -> HRNetConfig:
    """The network that a configuration describes, for the joints of its data."""
    model = config.model
    return HRNetConfig(
        joints=len(skeleton),
        width=model.width,
        modules=model.modules,
        blocks=model.blocks,
        norm=model.norm,
        activation=model.activation,
        scope=model.scope,
        heatmaps=model.heatmaps,
    )


def new_network(config: TrainConfig, skeleton: Skeleton, init: str | Path | None) -> HRNet:
    """A fresh network, or one filled from a checkpoint.

    Args:
        config: says what the network looks like.
        skeleton: the joints of the data.
        init: a file, a model's name, or ``bundled``. Its last layer is made anew unless it
            predicts the same joints in the same order.

    Raises:
        ModelError: the checkpoint is missing or does not fit the configured network.
    """
    wanted = network_config(config, skeleton)
    if init is None:
        network = HRNet(wanted)
        initialise(network, config.model.init)
        return network
    network = HRNet(wanted)
    initialise(network, config.model.init)
    path = resolve(BUNDLED if str(init) == "bundled" else init, task="pose")
    weights, metadata = load_weights(path)
    head = weights.get(HEAD + "weight")
    joints = wanted.joints if head is None else head.shape[0]
    said = from_metadata(metadata, path)
    theirs = said.skeleton if said is not None else None
    if theirs is None:
        theirs = guess_skeleton(joints, path) if head is not None else skeleton
    kind = said.config.get("heatmaps", "linear") if said is not None else "linear"
    donor = HRNet(dataclasses.replace(wanted, joints=joints))
    _fill(donor, weights, path)
    same = theirs.joints == skeleton.joints and kind == wanted.heatmaps and head is not None
    network.load_state_dict(
        {
            name: value
            for name, value in donor.state_dict().items()
            if same or not name.startswith(HEAD)
        },
        strict=False,
    )
    return network


def _fill(network: HRNet, weights: Weights, path: Path) -> None:
    """Fills a network; parameters of an ImageNet classifier's own are left out, and its last
    layer may be missing."""
    expected = network.state_dict()
    for name, value in expected.items():
        if name.startswith(HEAD) or name.endswith("num_batches_tracked"):
            continue
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != tuple(value.shape):
            raise ModelError(
                f"{path} does not fit the configured network: {name} is {found}, expected "
                f"{tuple(value.shape)}; set model.width, model.modules and model.blocks as in "
                "the checkpoint"
            )
    network.load_state_dict(
        {name: value for name, value in weights.items() if name in expected}, strict=False
    )
