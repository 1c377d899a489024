"""What a model file says about itself and where it comes from, read without torch or any runtime.

Every file hrtrack writes (ONNX, safetensors) carries one metadata entry, ``hrtrack``: a JSON
object with the fields of `PoseInfo`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ModelError
from ..skeleton import MPII16, Skeleton, by_joint_count, by_name

KEY = "hrtrack"
METADATA_PROPS_FIELD, GRAPH_FIELD = 14, 7
"""The numbers of `metadata_props` and `graph` in ONNX's ModelProto."""


@dataclass(frozen=True, slots=True)
class PoseInfo:
    """Facts about a pose network that its weights do not show.

    ``input_hw`` is the crop's height and width, ``sigma`` the spread in heatmap cells of the
    Gaussians it was trained on, ``unbiased`` whether its cells are spread from the middle of the
    crop's first pixel to that of its last (UDP), ``config`` the fields of
    `hrtrack.models.pose.hrnet.HRNetConfig`, ``notes`` free text by topic (licence,
    training data, measured accuracy).

    ``split`` is 0 for heatmaps; a SimCC network has so many bins a crop pixel. ``certain`` is the
    value that a SimCC network gives a joint beyond doubt, which depends on its training.
    """

    skeleton: Skeleton
    input_hw: tuple[int, int] = (256, 192)
    sigma: float = 2.0
    config: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    unbiased: bool = False
    split: float = 0.0
    certain: float = 1.0

    def metadata(self) -> dict[str, str]:
        """The entry to write into a model file."""
        fields = {
            "skeleton": skeleton_fields(self.skeleton),
            "input_hw": list(self.input_hw),
            "sigma": self.sigma,
            "config": self.config,
            "notes": self.notes,
            "unbiased": self.unbiased,
        }
        return {KEY: json.dumps(fields)}


def skeleton_fields(skeleton: Skeleton) -> dict[str, Any]:
    """A skeleton as JSON has it; `skeleton_of` reads it back."""
    fields = dataclasses.asdict(skeleton)
    fields.pop("_index")
    if not skeleton.body:
        fields.pop("body")
    return fields


def skeleton_of(fields: Any, source: str | Path) -> Skeleton:
    """What `skeleton_fields` gave; ModelError, which names the file, where it is something else."""
    try:
        return _skeleton(fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{source}: its skeleton cannot be read ({error!r})") from None


def from_metadata(metadata: Mapping[str, str], source: str | Path) -> PoseInfo | None:
    """The `PoseInfo` in a file's metadata; None if it has none, ModelError if it is damaged."""
    if KEY not in metadata:
        return None
    try:
        fields = json.loads(metadata[KEY])
        height, width = (int(side) for side in fields.get("input_hw", (256, 192)))
        return PoseInfo(
            skeleton=_skeleton(fields["skeleton"]),
            input_hw=(height, width),
            sigma=float(fields.get("sigma", 2.0)),
            config=dict(fields.get("config", {})),
            notes=dict(fields.get("notes", {})),
            unbiased=bool(fields.get("unbiased", False)),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{source}: its '{KEY}' metadata cannot be read ({error!r})") from None


def _skeleton(value: str | dict[str, Any]) -> Skeleton:
    if isinstance(value, str):
        return by_name(value)
    return Skeleton(
        name=str(value["name"]),
        joints=tuple(str(joint) for joint in value["joints"]),
        limbs=tuple((int(a), int(b)) for a, b in value["limbs"]),
        flip_pairs=tuple((int(a), int(b)) for a, b in value["flip_pairs"]),
        sigmas=tuple(float(sigma) for sigma in value["sigmas"]),
        body=tuple(int(joint) for joint in value.get("body", ())),
    )


def guess_skeleton(joints: int, source: str | Path, wanted: Skeleton | None = None) -> Skeleton:
    """The keypoint set of a model that names none: the ``wanted`` one if it has as many joints, and
    by their number if nobody says which; ModelError else."""
    if wanted is None:
        return by_joint_count(joints, source)
    if len(wanted) != joints:
        raise ModelError(
            f"{source} predicts {joints} joints, the skeleton '{wanted.name}' has {len(wanted)}"
        )
    return wanted


def with_skeleton(info: PoseInfo, wanted: Skeleton | None, source: str | Path) -> PoseInfo:
    """``info`` with the keypoint set that the user names, if any; ModelError if it does not fit."""
    if wanted is None:
        return info
    skeleton = guess_skeleton(len(info.skeleton), source, wanted)
    return dataclasses.replace(info, skeleton=skeleton)


CERTAIN_RTMW = 10.0
"""RTMPose and DWPose learn the targets' logarithms divided by 10 (their configs' ``beta``), RTMW
learns them as they are, so the peaks of a joint beyond doubt are near 1 and near 10."""


def guess_info(skeleton: Skeleton, source: str | Path) -> PoseInfo:
    """What is likely for a checkpoint that only holds weights.

    The crop's size shows in the names of official and OpenMMLab files (``_256x192``); else
    the official configs use 256x256 for MPII and 256x192 for COCO, and a sigma of 3 at 384x288.
    Networks with UDP's coordinates are OpenMMLab's that say so in their names (``_udp-``), and
    all ViTPose. RTMW's files are called so.
    """
    stem = Path(source).stem.lower()
    named = re.search(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", stem)
    if named:
        input_hw = int(named[1]), int(named[2])
    else:
        input_hw = (256, 256) if skeleton is MPII16 else (256, 192)
    words = re.split(r"[^a-z]+", stem)
    unbiased = "udp" in words or "vitpose" in stem
    sigma = 3.0 if input_hw[0] >= 384 else 2.0
    certain = CERTAIN_RTMW if "rtmw" in words else 1.0
    return PoseInfo(skeleton, input_hw, sigma, unbiased=unbiased, certain=certain)


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata entries of an ONNX file, read straight from its protocol buffer.

    Raises:
        ModelError: the file is missing or is no protocol buffer.
    """
    try:
        data = memoryview(path.read_bytes())
        entries = [
            bytes(value) for number, value in _fields(data) if number == METADATA_PROPS_FIELD
        ]
        pairs = [dict(_fields(memoryview(entry))) for entry in entries]
        return {bytes(pair[1]).decode(): bytes(pair.get(2, b"")).decode() for pair in pairs}
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from None
    except (IndexError, KeyError, ValueError):
        raise ModelError(f"{path} is not an ONNX file") from None


def require_onnx(path: Path) -> None:
    """ModelError for a file that is called .onnx and holds no graph.

    OpenVINO would try it as files of every other kind, and some of its readers print about that.
    """
    if path.suffix.lower() == ".onnx" and not holds_graph(path):
        raise ModelError(f"{path} is not an ONNX file")


def holds_graph(path: Path) -> bool:
    """Whether a file is a protocol buffer with an ONNX graph; ModelError if it cannot be read."""
    try:
        return any(number == GRAPH_FIELD for number, _ in _fields(memoryview(path.read_bytes())))
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from None
    except (IndexError, KeyError, ValueError):
        return False


def _fields(data: memoryview) -> list[tuple[int, memoryview]]:
    """The length-delimited fields of one protocol buffer message as (number, bytes)."""
    found, position = [], 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            size, position = _varint(data, position)
            if position + size > len(data):
                raise ValueError("a field runs past the end")
            found.append((tag >> 3, data[position : position + size]))
            position += size
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
    return found


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        shift += 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("a number is too long")


ROOT = Path(__file__).resolve().parents[2]


def provenance(seed: int) -> dict[str, str]:
    """The version that trains, the run's seed, and the commit where there is one.

    ``commit`` ends in ``-dirty`` when tracked files were changed since; an installed package
    has none.
    """
    notes = {"hrtrack": __version__, "seed": str(seed)}
    commit = commit_of(ROOT)
    return notes if commit is None else {**notes, "commit": commit}


def commit_of(root: Path) -> str | None:
    """The commit that a checkout stands at, with ``-dirty`` if changed; None if it is none."""
    # A package inside somebody else's repository must not claim its commits.
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
