"""The mean of several checkpoints of one training, which often beats each of them.

Only checkpoints that went on from one another lie close enough together (Wortsman et al., Model
soups, ICML 2022): measure the result.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError
from ..writable import atomic_write, require_file
from .detector.network import average_of
from .runtimes.eight_bit import KEY

Weights = dict[str, torch.Tensor]


def average(checkpoints: Sequence[Path], output: Path) -> None:
    """Writes the mean of checkpoints, which are all of the output's kind.

    They are ``weights.safetensors`` of pose trainings, or ``weights.pt`` and ``state.pt`` of
    detectors' trainings, of which the running averages are meant. What was recorded beside the
    weights is the last one's. 8-bit ranges are not kept, for they belong to one set of weights.

    Raises:
        ModelError: a file cannot be read, is of another kind, or of another network.
        SinkError: the output cannot be written.
    """
    other = [path for path in checkpoints if path.suffix != output.suffix]
    if other or output.suffix not in (".pt", ".safetensors"):
        raise ModelError(
            f"{[*other, output][0]}: name checkpoints and output that are all .safetensors or all "
            ".pt"
        )
    require_file(output)
    if output.suffix == ".pt":
        saved = [_training(path) for path in checkpoints]
        content = {**saved[-1], "ema": mean([one["ema"] for one in saved])}
        with atomic_write(output) as part:
            torch.save(content, part)
        return
    several = [_weights(path) for path in checkpoints]
    notes = {key: value for key, value in several[-1][1].items() if key != KEY}
    averaged = mean([weights for weights, _ in several])
    with atomic_write(output) as part:
        save_file(averaged, part, notes)


def mean(several: Sequence[Weights]) -> Weights:
    """The mean of each floating-point tensor; whole numbers (counters) are the last one's.

    ModelError when the tensors of one are not those of the others.
    """
    last = several[-1]
    shapes = [{name: value.shape for name, value in one.items()} for one in several]
    if any(one != shapes[-1] for one in shapes):
        raise ModelError("these checkpoints are not of one network: their tensors differ")
    return {
        name: torch.stack([one[name].double() for one in several]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }


def _training(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile):
        raise ModelError(f"{path} is not a PyTorch checkpoint, or it is damaged") from None
    try:
        weights, config = average_of(saved)
    except (KeyError, TypeError, AttributeError):
        weights, config = None, None
    if not isinstance(weights, dict):
        raise ModelError(f"{path} is no checkpoint of a detector's training: it holds no averages")
    return saved if "ema" in saved else {"ema": weights, "config": config}


def _weights(path: Path) -> tuple[Weights, dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error})") from None
