"""A detector's weights somewhat further along a training than it went.

    python -m scripts.extrapolate_weights CONFIG BEGIN END OUTPUT [--by 0.15] [KEY=VALUE ...]

Where a training was too short, the way from its beginning to its end still points to better
weights (end + by x (end - begin); Ilharco et al., "Editing models with task arithmetic", ICLR
2023, scale such a difference). The norms' statistics belong to the weights, so they are measured
anew on canvases of the last stage. BEGIN and END are checkpoints or ONNX files of one detector,
BEGIN perhaps with fewer blocks; CONFIG is the training's, as for `hrtrack train`, with its photos.
Writes OUTPUT/weights.pt, from which `hrtrack train --init` goes on, and OUTPUT/NAME.onnx. Measure
the result: too far is worse at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from hrtrack.configs.person_fast_schema import load_detector_config
from hrtrack.export.detector import detector_ranges, export_detector
from hrtrack.models.detector import PersonDetector, load_detector
from hrtrack.train.detector.batches import calibration_pictures
from hrtrack.train.detector.photos import build_store
from hrtrack.train.detector.state import save_weights


def extrapolated(begin: PersonDetector, end: PersonDetector, by: float) -> PersonDetector:
    """``end`` moved on by a share of the way from ``begin``, but for the norms' statistics."""
    learnt = dict(begin.named_parameters())
    with torch.no_grad():
        for name, value in end.named_parameters():
            value += by * (value - learnt[name])
    return end


@torch.no_grad()
def measure_norms(network: nn.Module, pictures: Iterable[Tensor]) -> None:
    """Sets the norms' means and variances to those of ``pictures``, batches (N, H, W, 3)."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    network.train()
    for batch in pictures:
        network(batch)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@click.command()
@click.argument("config")
@click.argument("begin", type=click.Path(path_type=Path))
@click.argument("end", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--by", type=click.FloatRange(0, 1), default=0.15, show_default=True)
@click.option("--batches", type=click.IntRange(1), default=24, show_default=True)
def main(
    config: str,
    begin: Path,
    end: Path,
    output: Path,
    overrides: tuple[str, ...],
    by: float,
    batches: int,
) -> None:
    """Writes OUTPUT/weights.pt and OUTPUT/NAME.onnx: the weights END and somewhat more."""
    checked = load_detector_config(config, overrides)
    last = load_detector(end)
    network = extrapolated(load_detector(begin, PersonDetector(last.config)), last, by)
    build_store(checked.data.sets, Path(checked.data.root), output / checked.data.cache)
    # The same pictures for norms and ranges, the ranges by the new norms.
    measure_norms(network, calibration_pictures(checked, output, batches))
    save_weights(network, output / "weights.pt")
    ranges = detector_ranges(network, calibration_pictures(checked, output))
    path = output / f"{checked.name}.onnx"
    said = {"name": checked.name, "task": "detector"}
    export_detector(network, checked.model.size, path, said, ranges)
    click.echo(path)


if __name__ == "__main__":
    main()
