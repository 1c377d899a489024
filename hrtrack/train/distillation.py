"""Learning from a finished network's features, whatever it sees: people's joints or people.

A student that starts from nothing learns far faster when every cell of its maps is told what a
trained network sees there (Romero et al., "FitNets", ICLR 2015) than from labels alone. Nothing of
the teacher's weights enters the student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..models.runtimes.onnx_torch import OnnxNetwork
from ..models.runtimes.openvino import openvino_core

LIMIT = 6.0
"""Standard deviations beyond which a feature is not to be copied."""


class FeatureHeads(nn.Module):
    """Maps a student's features to its teacher's; thrown away after the training.

    Args:
        width: channels of the student's features.
        channels: of the teacher's.
        levels: maps of different resolution, each with its own head.
        silent: begin by guessing nothing, so that a student that has learnt already is not led by
            random predictions.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, channels: int, levels: int = 1, *, silent: bool = False) -> None:
        super().__init__()
        self._scaled = False
        self.levels = nn.ModuleList(nn.Linear(width, channels) for _ in range(levels))
        if silent:
            for level in self.levels:
                nn.init.zeros_(level.weight)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(levels, channels))
        self.register_buffer("deviation", torch.zeros(levels, channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Guesses (N, P, C) for the P cells of each level's map (N, W, h, w)."""
        return [head(cells_of(own)) for head, own in zip(self.levels, maps, strict=True)]

    def loss(self, guesses: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Mean squared error in the teacher's own standard deviations, a mean over levels.

        Both are (N, P, C) a level. The first batch sets the scale.
        """
        if not self._scaled:  # looking waits for the device, so it is done once
            if not self.deviation.any():
                for i, level in enumerate(wanted):
                    self.mean[i] = level.float().mean((0, 1))
                    self.deviation[i] = level.float().std((0, 1)).clamp(min=1e-3)
            self._scaled = True
        total = torch.zeros(())
        for i, (guess, want) in enumerate(zip(guesses, wanted, strict=True)):
            target = (want.float() - self.mean[i]) / self.deviation[i]
            total = total + F.mse_loss(guess.float(), target.clamp(-LIMIT, LIMIT))
        return total / len(self.levels)


def cells_of(maps_NCHW: Tensor) -> Tensor:
    """Maps as one row a cell: (N, P, C)."""
    return maps_NCHW.flatten(2).transpose(1, 2)


Compute = Callable[[Tensor], list[Tensor]]
"""Pictures (N, 3, H, W), as the file takes them, to the tensors asked for, in float32."""


def open_teacher(
    path: Path,
    outputs: Sequence[str],
    device: torch.device | None,
    *,
    single: bool = False,
    exact: bool = False,
) -> Compute:
    """A teacher's ONNX file, ready to compute the tensors named ``outputs``, in this order.

    On ``device`` PyTorch computes them, beside the student. Without one OpenVINO does so on one
    thread of a CPU: such a teacher lives in a loader's process.

    Args:
        path: the file.
        outputs: names of tensors.
        device: None for a loader's process.
        single: OpenVINO is shown one picture at a time, for files that can be of no other batch.
        exact: OpenVINO computes in float32 where the processor's default is bfloat16.

    Raises:
        ModelError: the file cannot be read or has no such tensors; where OpenVINO computes, maybe
            at the first pictures only.
    """
    if device is None:
        return _OnOpenVino(path, outputs, single, exact)
    return _OnPyTorch(path, outputs, device)


class _OnPyTorch:
    def __init__(self, path: Path, outputs: Sequence[str], device: torch.device) -> None:
        self._dtype = torch.float32 if device.type == "cpu" else torch.float16
        self._network = OnnxNetwork(path, outputs).to(device, self._dtype)

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        found = self._network(pictures.to(self._dtype).contiguous())
        return [tensor.float() for tensor in found]


class _OnOpenVino:
    """Compiled once for every shape of pictures."""

    def __init__(self, path: Path, outputs: Sequence[str], single: bool, exact: bool) -> None:
        self._path, self._outputs, self._single = path, outputs, single
        self._options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if exact:
            self._options["INFERENCE_PRECISION_HINT"] = "f32"
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        parts = pictures.split(1) if self._single else (pictures,)
        found = [self._computed(part) for part in parts]
        return [torch.cat(tensors) for tensors in zip(*found, strict=True)]

    def _computed(self, pictures: Tensor) -> list[Tensor]:
        request = self._request(tuple(pictures.shape))
        request.infer({0: pictures.contiguous().numpy()})
        # The next call fills the same memory.
        return [torch.tensor(request.get_tensor(name).data) for name in self._outputs]

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            core = openvino_core()
            try:
                model = core.read_model(self._path)
                given = {name for port in model.outputs for name in port.get_names()}
                model.add_outputs([name for name in self._outputs if name not in given])
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise ModelError(
                    f"{self._path} cannot teach: expected an ONNX file with the tensors "
                    f"{', '.join(self._outputs)}: {reason}"
                ) from None
            model.reshape(list(shape))
            compiled = core.compile_model(model, "CPU", self._options)
            self._requests[shape] = compiled.create_infer_request()
        return self._requests[shape]
