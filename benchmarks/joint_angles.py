"""How far the angles of joints in the picture are from those of labelled people.

    python -m benchmarks.joint_angles NAME=ANNOTATIONS,IMAGES ... [-m MODEL ...]

MODEL is a name of `hrtrack models` or a file. The angle of a knee is that between its hip and its
ankle in the picture, and the angle of an elbow that between its shoulder and its wrist. Only angles
whose three joints are labelled count; the crops are cut around the labelled boxes. Prints a row for
all of them, and a row for those whose three joints have a score above --min-score: the share of all
angles, the median and the 90th percentile of the absolute error in degrees, and the mean of the
signed error. Labels have errors, too, which these figures include.
"""

import sys
from itertools import product
from pathlib import Path

import click
import numpy as np

from hrtrack.cli import run
from hrtrack.evaluation.labels import read_labels
from hrtrack.evaluation.predict import Boxes, Protocol, evaluated, predict
from hrtrack.models.network import PoseNetwork
from hrtrack.skeleton import Skeleton
from hrtrack.tracker.inference.open import open_network
from hrtrack.types import FloatArray

CHAINS = {
    "knee": ("hip", "knee", "ankle"),
    "elbow": ("shoulder", "elbow", "wrist"),
}


@click.command(help=__doc__)
@click.argument("sets", nargs=-1, required=True, metavar="NAME=ANNOTATIONS,IMAGES ...")
@click.option("-m", "--model", "models", multiple=True, default=("body_fast",), show_default=True)
@click.option("--min-score", default=0.5, show_default=True)
def main(sets: tuple[str, ...], models: tuple[str, ...], min_score: float) -> None:
    networks: dict[str, PoseNetwork] = {
        Path(model).stem: open_network(model, backend="openvino") for model in models
    }
    print("| Set | Model | Angle | Joints | Angles | Share | Median | 90 % | Mean signed |")
    print("|---|---|---|---|---|---|---|---|---|")
    for text in sets:
        name, _, where = text.partition("=")
        annotations, _, images = where.partition(",")
        if not images:
            raise click.UsageError(f"'{text}' does not name annotations and their images")
        labels = read_labels(Path(annotations), Path(images))
        people = labels.people
        protocol = Protocol()
        found = predict(
            evaluated(networks, people.skeleton, protocol),
            Boxes(labels.image, np.asarray(people.boxes, np.float64), np.ones(len(people))),
            labels.read_photo,
            len(people.skeleton),
            quiet=not sys.stderr.isatty(),
        )
        for (model, poses), angle in product(found.items(), CHAINS):
            rows = chains(people.skeleton, angle)
            labelled = labels.labelled[:, rows].all(-1)
            truth = angles(np.asarray(people.keypoints, np.float64)[:, rows])[labelled]
            error = angles(poses[:, rows, :2])[labelled] - truth
            sure = (poses[:, rows, 2].min(-1) > min_score)[labelled]
            for title, kept in (("all", np.ones_like(sure)), (f"above {min_score:g}", sure)):
                miss = np.abs(error[kept])
                middle, most = np.percentile(miss, [50, 90])
                print(
                    f"| {name} | {model} | {angle} | {title} | {kept.sum()} | {kept.mean():.2f} "
                    f"| {middle:.1f} | {most:.1f} | {error[kept].mean():+.1f} |"
                )


def chains(skeleton: Skeleton, angle: str) -> list[list[int]]:
    """The three joints of this angle, on the left and on the right: (2, 3) numbers."""
    return [
        [skeleton.joints.index(f"{side}_{joint}") for joint in CHAINS[angle]]
        for side in ("left", "right")
    ]


def angles(points: FloatArray) -> FloatArray:
    """Degrees (...,) from 0 to 180 at the middle one of three points (..., 3, 2)."""
    first, middle, last = np.moveaxis(points[..., 0] + 1j * points[..., 1], -1, 0)
    degrees: FloatArray = np.abs(np.angle((first - middle) * np.conj(last - middle), deg=True))
    return degrees


if __name__ == "__main__":
    run(main, "joint_angles")
