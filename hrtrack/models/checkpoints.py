"""Reads and writes pose weights: official HRNet and OpenMMLab checkpoints, our safetensors and
our ONNX. Whatever the file, parameters come out under the official HRNet names.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..skeleton import Skeleton
from . import info
from .info import PoseInfo
from .pose.hrnet import HRNet, HRNetConfig
from .runtimes import eight_bit
from .runtimes.eight_bit import Ranges

Weights = dict[str, Tensor]
HEAD = "final_layer."
_PREFIXES = ("module.", "backbone.", "keypoint_head.", "head.", "network.")
_SHOWN = 3


def load_weights(path: str | Path) -> tuple[Weights, dict[str, str]]:
    """Reads parameters and metadata from a checkpoint, a safetensors or an ONNX file.

    Returns:
        Tensors by official name, floating ones as float32, and the file's metadata strings.

    Raises:
        ModelError: the file is missing, unreadable, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"no such model file: {path}")
    if path.suffix == ".safetensors":
        weights, metadata = _read_safetensors(path)
    elif path.suffix == ".onnx":
        weights, metadata = _read_onnx(path)
    else:
        weights, metadata = _read_checkpoint(path)
    renamed = {official_name(name): value for name, value in weights.items()}
    if "conv_layers.0.weight" in renamed:  # a fused head, as OpenMMLab has called it since 1.0
        renamed = {_fused_name(name): value for name, value in renamed.items()}
    floats = {
        name: value.float() if value.is_floating_point() else value
        for name, value in renamed.items()
        if name.startswith(_PARTS)
    }
    if not floats:
        raise ModelError(f"{path} holds no HRNet parameters")
    return floats, metadata


_PARTS = (
    "conv1.", "conv2.", "bn1.", "bn2.", "layer1.", "transition", "stage", "final_layer.",
    "conv_layers.",
    "incre_modules.", "downsamp_modules.", "classifier.",
)  # fmt: skip


def official_name(name: str) -> str:
    """A parameter's name in the official HRNet, whatever a trainer put before it."""
    while True:
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return name
        name = name[len(prefix) :]


def _fused_name(name: str) -> str:
    part, _, rest = name.partition(".")
    if part == "conv_layers":
        return HEAD + rest
    return f"{HEAD}3.{rest}" if part == "final_layer" else name


def _read_checkpoint(path: Path) -> tuple[Weights, dict[str, str]]:
    """Named tensors, and the ``hrtrack`` entry that a checkpoint of ours has beside them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says about odd pickles, the error says better
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", str(error))
        found = f"it asks to run '{reason[1]}'" if reason else "it is damaged or not a checkpoint"
        raise ModelError(f"refused {path}: only plain tensors are loaded, and {found}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
        raise ModelError(f"{path} is not a PyTorch checkpoint, or it is damaged") from None
    recorded = content.get(info.KEY) if isinstance(content, dict) else None
    metadata = {info.KEY: recorded} if isinstance(recorded, str) else {}
    for key in ("state_dict", "model", "best_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected named tensors")
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}, metadata


def _read_safetensors(path: Path) -> tuple[Weights, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error})") from None


def _read_onnx(path: Path) -> tuple[Weights, dict[str, str]]:
    """Initialisers by name; 8-bit ones are multiplied with their per-channel scales."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load(path)
    except (DecodeError, OSError) as error:
        raise ModelError(f"{path} is not an ONNX file ({error})") from None
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            values, scales = arrays[node.input[0]], arrays.pop(node.input[1])
            shape = (-1,) + (1,) * (values.ndim - 1)
            arrays[node.input[0]] = values.astype(np.float32) * scales.reshape(shape)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, metadata


def infer_config(
    weights: Mapping[str, Tensor], source: str | Path = "these weights"
) -> HRNetConfig:
    """Reads width, depth, joints and norm off parameter names and shapes.

    What leaves no trace there (activations, the meaning of the maps) keeps its default.
    """
    first = weights.get("stage2.0.branches.0.0.conv1.weight")
    if first is None:
        raise ModelError(f"{source} holds no HRNet: stage2.0.branches.0.0.conv1.weight is missing")
    has_norm = {
        "stem": "bn1.weight" in weights,
        "blocks": "stage2.0.branches.0.0.bn1.weight" in weights,
        "all": "layer1.0.bn1.weight" in weights,
    }
    without = [scope for scope, there in has_norm.items() if not there]
    scope = "all" if len(without) != 1 else without[0]
    fused = HEAD + "0.weight" in weights
    head = weights.get(HEAD + ("3.weight" if fused else "weight"))
    return HRNetConfig(
        joints=HRNetConfig().joints if head is None else head.shape[0],
        width=first.shape[0],
        modules=(
            _count(weights, r"stage2\.(\d+)\."),
            _count(weights, r"stage3\.(\d+)\."),
            _count(weights, r"stage4\.(\d+)\."),
        ),
        blocks=_count(weights, r"stage2\.0\.branches\.0\.(\d+)\."),
        norm="none" if without else "batch",
        scope=scope,  # type: ignore[arg-type]
        fused=fused,
    )


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = (re.match(pattern, name) for name in weights)
    return max((int(match[1]) + 1 for match in found if match), default=1)


def load_hrnet(
    path: str | Path,
    config: HRNetConfig | None = None,
    *,
    new_head: bool = False,
    wanted: Skeleton | None = None,
) -> tuple[HRNet, PoseInfo]:
    """Builds the HRNet that a file describes and fills it.

    Args:
        path: a checkpoint, safetensors or ONNX file.
        config: the network to build; by default read off the file.
        new_head: for training from a file with other joints or from an ImageNet backbone:
            the last layer keeps its initial values unless it fits, and parameters that a
            pose HRNet does not have are left out.
        wanted: the keypoint set that the user names; by default the file's own, or the usual
            one of as many joints.

    Returns:
        The network in eval mode and what the file says about it (defaults where it is silent).

    Raises:
        ModelError: one line that names the first parameters that do not fit.
    """
    weights, metadata = load_weights(path)
    return hrnet_of(weights, metadata, path, config, new_head=new_head, wanted=wanted)


def hrnet_of(
    weights: Weights,
    metadata: Mapping[str, str],
    path: str | Path,
    config: HRNetConfig | None = None,
    *,
    new_head: bool = False,
    wanted: Skeleton | None = None,
) -> tuple[HRNet, PoseInfo]:
    """What `load_hrnet` gives, from what `load_weights` has read of the file."""
    recorded = info.from_metadata(_gathered(metadata), path)
    if config is None:
        config = infer_config(weights, path)
        if recorded is not None:
            config = _with_recorded(config, recorded.config, path)
    network = HRNet(config)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if new_head:
        weights = {
            name: value
            for name, value in weights.items()
            if name in expected and not (name.startswith(HEAD) and value.shape != expected[name])
        }
    _require_fit(weights, expected, path, optional=(HEAD,) if new_head else ())
    network.load_state_dict(weights, strict=False)
    skeleton = recorded.skeleton if recorded is not None else None
    if wanted is not None or skeleton is None or len(skeleton) != config.joints:
        skeleton = info.guess_skeleton(config.joints, path, wanted)
    recorded = recorded or info.guess_info(skeleton, path)
    described = dataclasses.replace(recorded, skeleton=skeleton, config=dataclasses.asdict(config))
    return network.eval(), described


def _gathered(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata with the ``hrtrack`` entry made from separate ones where a trainer wrote those."""
    if info.KEY in metadata or "config" not in metadata or "skeleton" not in metadata:
        return dict(metadata)
    fields: dict[str, Any] = {"skeleton": metadata["skeleton"]}
    for key in ("config", "input_hw", "sigma"):
        if key in metadata:
            fields[key] = json.loads(metadata[key])
    return {**metadata, info.KEY: json.dumps(fields)}


def _with_recorded(
    inferred: HRNetConfig, recorded: Mapping[str, Any], path: str | Path
) -> HRNetConfig:
    """The inferred config with those fields from the metadata that weights do not show."""
    unseen = {key: recorded[key] for key in ("activation", "heatmaps", "scope") if key in recorded}
    try:
        return dataclasses.replace(inferred, **unseen)
    except TypeError as error:
        raise ModelError(f"{path}: its config cannot be read ({error})") from None


def _require_fit(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    path: str | Path,
    optional: tuple[str, ...],
) -> None:
    faults = [
        f"{name} is {tuple(weights[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    # A counter that inference never reads; OpenMMLab and our ONNX leave it out.
    skipped = (*optional, "num_batches_tracked")
    faults += [
        f"{name} is missing"
        for name in expected
        if name not in weights and not name.startswith(skipped) and not name.endswith(skipped)
    ]
    faults += [f"{name} is not part of it" for name in weights if name not in expected]
    if faults:
        rest = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
        raise ModelError(f"{path} does not fit this HRNet: {'; '.join(faults[:_SHOWN])}{rest}")


def save_weights(
    network: HRNet,
    described: PoseInfo,
    path: str | Path,
    *,
    half: bool = False,
    ranges: Ranges | None = None,
) -> None:
    """Writes safetensors with metadata, in float16 if ``half``; `load_hrnet` reads it back.

    ``ranges`` are those of `hrtrack.models.runtimes.eight_bit`; what is exported from the file
    keeps them.
    """
    from safetensors.torch import save_file

    described = dataclasses.replace(described, config=dataclasses.asdict(network.config))
    weights = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    metadata = {**described.metadata(), **eight_bit.metadata(ranges or {})}
    save_file(weights, Path(path), metadata=metadata)
