"""Person detectors side by side: AP and recall on labelled people, and time.

    python -m benchmarks.detectors --annotations A.json --images DIR person_fast yolox_nano.onnx

Annotations marked ``pseudo`` are regions in which detections count neither way. All detectors see
each photo one after the other, so a busy machine is busy for all of them.
"""

from __future__ import annotations

from pathlib import Path

import click

from hrtrack.cli import run
from hrtrack.evaluation.metrics.detection import evaluate_detectors, load_people, table
from hrtrack.tracker.inference.open import open_detector


@click.command()
@click.option("--annotations", type=click.Path(path_type=Path), required=True)
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.argument("detectors", nargs=-1, required=True)
def main(annotations: Path, images: Path, threads: int, detectors: tuple[str, ...]) -> None:
    """Print a Markdown table for DETECTORS: bundled names or ONNX files."""
    opened = {
        Path(name).stem: open_detector(name, threads=threads, min_score=0.01) for name in detectors
    }
    data = load_people(annotations)
    results = evaluate_detectors(opened, data, images)
    first = next(iter(results.values()))
    click.echo(f"{first.photos} photos, {first.people} labelled people, {threads} thread(s)\n")
    click.echo(table(results))


if __name__ == "__main__":
    run(main, "detectors")
