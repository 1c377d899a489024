"""The mean of several checkpoints of one training, which often beats each of them.

    python -m scripts.average_weights OUTPUT CHECKPOINT CHECKPOINT ...

Checkpoints are `weights.safetensors` of a pose training or `last.pt`/`final.pt` of a detector's
(its running averages); the output is of the same kind. Only checkpoints that went on from one
another lie close enough together (Wortsman et al., Model soups, ICML 2022): measure the result.
What was recorded beside the weights is the last one's; 8-bit ranges are not kept, for they
belong to one set of weights: `hrtrack export --calibrate` measures them anew.
"""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hrtrack.models.runtimes.eight_bit import KEY

Weights = dict[str, torch.Tensor]


def mean(several: list[Weights]) -> Weights:
    """The mean of each floating-point tensor; whole numbers (counters) are the last one's."""
    last = several[-1]
    shapes = [{name: value.shape for name, value in one.items()} for one in several]
    if any(one != shapes[-1] for one in shapes):
        sys.exit("these checkpoints are not of one network: their tensors differ")
    return {
        name: torch.stack([one[name].double() for one in several]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    output, *paths = (Path(argument) for argument in sys.argv[1:])
    if output.suffix == ".pt":
        saved = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
        torch.save({**saved[-1], "ema": mean([one["ema"] for one in saved])}, output)
        return
    several = []
    for path in paths:
        with safe_open(path, "pt") as file:
            several.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            notes = file.metadata() or {}
    save_file(mean(several), output, {k: v for k, v in notes.items() if k != KEY})


if __name__ == "__main__":
    main()
