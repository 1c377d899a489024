"""One-Euro settings on people who act on the spot: jitter at rest against lag in fast motion.

    python -m benchmarks.smoothing LABELS --out docs/tracking

LABELS is the folder of Penn Action's ``*.mat`` files (see docs/tracking.md).
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.crossings import FPS, Clip, load_clips, make_scene
from hrtrack.cli import run
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13
from hrtrack.tracker.tracking.smooth import STRENGTHS, OneEuroOptions, Smoother

Floats = NDArray[np.float64]


@click.command()
@click.argument("labels", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--joints", default=1.0, help="Joint noise in sigmas.")
@click.option("--people", default=40)
@click.option("--test", is_flag=True)
def main(labels: Path, out: Path, joints: float, people: int, test: bool) -> None:
    """Jitter at rest against lag in fast motion for a grid of One-Euro settings."""
    clips = load_clips(labels, train=not test)
    truth, noisy, sizes = _motion(clips, people, joints)
    raw = _calm(noisy, noisy, truth, sizes)
    click.echo(f"raw: error {100 * raw[2]:.2f} % of size, jitter 1")
    grid: dict[float, list[tuple[float, float, float]]] = {}
    for beta in BETAS:
        grid[beta] = []
        for cutoff in CUTOFFS:
            result = _calm(_smoothed(noisy, OneEuroOptions(cutoff, beta)), noisy, truth, sizes)
            grid[beta].append(result)
            click.echo(
                f"min_cutoff {cutoff:g} beta {beta:g}: jitter {result[0]:.3f} of raw, "
                f"lag {result[1]:.0f} ms, error {100 * result[2]:.2f} % of size"
            )
    chosen = {}
    for name, options in STRENGTHS.items():
        chosen[name] = _calm(_smoothed(noisy, options), noisy, truth, sizes)
        click.echo(
            f"{name}: jitter {chosen[name][0]:.3f}, lag {chosen[name][1]:.0f} ms, "
            f"error {100 * chosen[name][2]:.2f} %"
        )
    out.mkdir(parents=True, exist_ok=True)
    _plot_smooth(grid, chosen, out / "smooth.png")


CUTOFFS = (0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0)
BETAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def _motion(clips: list[Clip], people: int, joints: float) -> tuple[Floats, list[Poses], Floats]:
    """Joints in truth (T, P, 13, 2), as heard, and sizes (P,) of people who act on the spot.

    The labels were clicked frame by frame; a mean of three frames takes the clicks' own jitter
    out of the truth.
    """
    rng = np.random.default_rng(7)
    scene = make_scene(clips, people, 300, rng)
    kernel = np.full(3, 1 / 3)
    truth = np.apply_along_axis(np.convolve, 0, scene.keypoints, kernel, "valid")
    boxes, seen = scene.boxes[1:-1], scene.seen[1:-1]
    sides = boxes[:, :, 2:] - boxes[:, :, :2]
    sizes = np.median(sides.mean(axis=2), axis=0)
    spread = (
        joints * np.array(ACTION13.sigmas) * np.sqrt(np.median(sides.prod(axis=2), axis=0))[:, None]
    )
    found = truth + rng.normal(0, 1, truth.shape) * spread[None, :, :, None]
    heard = [
        Poses(
            t, t / FPS, boxes[t].astype(np.float32), np.ones(people, np.float32),
            found[t].astype(np.float32), np.where(seen[t], 0.9, 0.5).astype(np.float32),
            np.arange(1, people + 1),
        )
        for t in range(len(truth))
    ]  # fmt: skip
    return truth, heard, sizes


def _smoothed(heard: list[Poses], options: OneEuroOptions) -> list[Poses]:
    smoother = Smoother(ACTION13, options)
    return [smoother.update(poses) for poses in heard]


def _calm(
    smoothed: list[Poses], raw: list[Poses], truth: Floats, sizes: Floats
) -> tuple[float, float, float]:
    """Jitter at rest as a share of the raw one, lag in fast motion in ms, error in sizes."""
    found = np.stack([poses.keypoints for poses in smoothed]).astype(np.float64)
    noisy = np.stack([poses.keypoints for poses in raw]).astype(np.float64)
    scale = sizes[None, :, None, None]
    velocity = np.gradient(truth, 1 / FPS, axis=0) / scale
    speed = np.linalg.norm(velocity, axis=3)
    still, fast = speed[1:-1] < 0.25, speed > 1.5
    shake = [
        np.linalg.norm(np.diff(points, 2, axis=0) * FPS**2 / scale, axis=3)[still].mean()
        for points in (found, noisy)
    ]
    behind = ((truth - found) / scale * velocity).sum(axis=3)[fast] / speed[fast] ** 2
    error = np.linalg.norm((found - truth) / scale, axis=3).mean()
    return float(shake[0] / shake[1]), float(1000 * behind.mean()), float(error)


def _plot_smooth(
    grid: dict[float, list[tuple[float, float, float]]],
    chosen: dict[str, tuple[float, float, float]],
    path: Path,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(grid)))
    for shade, (beta, results) in zip(shades, grid.items(), strict=True):
        points = np.array(results)
        axes[0].plot(points[:, 1], points[:, 0], "o-", ms=3, color=shade, label=f"beta {beta:g}")
        axes[1].plot(CUTOFFS, 100 * points[:, 2], "o-", ms=3, color=shade)
    for name, (jitter, lag, _) in chosen.items():
        axes[0].plot(lag, jitter, "r*", ms=11)
        axes[0].annotate(name, (lag, jitter), xytext=(6, 6), textcoords="offset points")
    axes[0].set(xlabel="lag in fast motion, ms", ylabel="jitter at rest, share of raw")
    axes[1].set(xlabel="min_cutoff, Hz", ylabel="error, % of person size", xscale="log")
    axes[1].set_xticks(CUTOFFS, [f"{cutoff:g}" for cutoff in CUTOFFS])
    axes[1].minorticks_off()
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run(main, "smoothing")
