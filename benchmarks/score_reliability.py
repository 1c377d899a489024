"""What joint scores mean: how many joints of a score are right, on labelled people.

    python -m benchmarks.score_reliability MODEL chart.png NAME=ANNOTATIONS,IMAGES ...
        [--fit ANNOTATIONS,IMAGES]

MODEL is a name of `hrtrack models` or a file; it runs on OpenVINO as `hrtrack` runs it. A labelled
joint is right if its own OKS is .5 or more, that is within 2.35 sigma sqrt(area) of the label
(exp(-d^2 / (2 area (2 sigma)^2)), https://cocodataset.org/#keypoints-eval). Joints without a label
are not judged, so a score that a joint out of sight gets does not count. Prints one line of JSON a
set: the share of right joints by tenths of the score, the same around .8 with its 95 % interval
over people, and the expected calibration error (the mean distance of score and share, Guo et al.,
"On Calibration of Modern Neural Networks", ICML 2017). With --fit, which may be given several
times, one temperature of the scores' log odds is fitted on those sets (marked as pseudo or not),
each of which counts the same, and the lines and dashed curves say what it would do.
"""

import json
import re
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from hrtrack.cli import run
from hrtrack.configs.pose_schema import DataSection, SetSection
from hrtrack.evaluation.predict import Reader, labelled_boxes, predict
from hrtrack.geometry import PADDING, joint_similarities
from hrtrack.models.network import PoseNetwork
from hrtrack.tracker.inference.open import open_network
from hrtrack.train.pose.data.pseudo_labels import open_people

Floats = NDArray[np.floating]
RIGHT = 0.5
BINS = 10
NEAR = (0.75, 0.85)
"""Scores that count as .8."""
MIN_JOINTS = 5
RESAMPLES = 1000
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


@dataclass(frozen=True, slots=True)
class Judged:
    """M joints: their scores (M,), whether they are right (M,), and whose they are (M,)."""

    scores: Floats
    right: Floats
    person: NDArray[np.int64]


@click.command(help=__doc__)
@click.argument("model")
@click.argument("chart", type=click.Path(path_type=Path))
@click.argument("sets", nargs=-1, required=True, metavar="NAME=ANNOTATIONS,IMAGES ...")
@click.option("--fit", multiple=True, metavar="ANNOTATIONS,IMAGES", help="Fit a temperature here.")
@click.option("--share", default=1.0, show_default=True, help="Share of the photos of --fit.")
def main(
    model: str, chart: Path, sets: tuple[str, ...], fit: tuple[str, ...], share: float
) -> None:
    wrong = [text for text in sets if not re.fullmatch(r"[^=]+=[^,]+,.+", text)]
    wrong += [text for text in fit if "," not in text]
    if wrong:
        raise click.UsageError(f"'{wrong[0]}' does not name annotations and their images")
    network = open_network(model, backend="openvino")
    fitted = [judge(network, text, share, pseudo=True) for text in fit]
    heat = temperature(fitted) if fitted else None
    judged = {}
    for text in sets:
        name, _, where = text.partition("=")
        judged[name] = judge(network, where, 1.0, pseudo=False)
        row = {"set": name, **summary(judged[name].scores, judged[name])}
        print(json.dumps(row))
        if heat is not None:
            row = {"set": name, "temperature": round(heat, 3)}
            print(json.dumps({**row, **summary(cooled(judged[name].scores, heat), judged[name])}))
    draw(judged, heat, model, chart)


def judge(network: PoseNetwork, where: str, share: float, *, pseudo: bool) -> Judged:
    """Every labelled joint of a set, whose people are looked at once in their labelled boxes."""
    annotations, _, images = where.partition(",")
    spec = SetSection(
        annotations=str(Path(annotations).resolve()),
        images=str(Path(images).resolve()),
        pseudo_weight=1.0 if pseudo else 0.0,
        min_joints=MIN_JOINTS if pseudo else 1,
        share=(0.0, share),
    )
    people = open_people(DataSection(train=(spec,)), [spec])
    cv2.setNumThreads(1)
    reader = Reader(
        network.input_hw, lambda crops: np.array(network(crops)["keypoints"], np.float64)
    )
    found = predict(
        {"": reader}, labelled_boxes(people), people.photo, len(people.skeleton),
        padding=PADDING, lenient=True, quiet=True,
    )[""]  # fmt: skip
    sigmas = np.asarray(people.skeleton.sigmas)
    similar = joint_similarities(found[..., :2], people.keypoints, people.areas, sigmas)
    person, joint = np.nonzero(people.weights > 0)
    right = (similar[person, joint] >= RIGHT).astype(np.float64)
    return Judged(found[person, joint, 2], right, person)


def summary(scores: Floats, judged: Judged) -> dict[str, object]:
    """What is printed of a set whose joints have these scores."""
    place, right = bins(scores), judged.right
    counts = np.bincount(place, minlength=BINS)
    shares = np.bincount(place, right, BINS) / np.maximum(counts, 1)
    means = np.bincount(place, scores, BINS) / np.maximum(counts, 1)
    near = (scores > NEAR[0]) & (scores <= NEAR[1])
    error = float((np.abs(shares - means) * counts).sum() / counts.sum())
    return {
        "joints": len(scores),
        "right": round(float(right.mean()), 3),
        "mean_score": round(float(scores.mean()), 3),
        "calibration_error": round(error, 3),
        "right_at_.8": round(float(right[near].mean()), 3) if near.any() else None,
        "ci95": interval(near, judged),
        "right_by_tenths": [
            round(float(s), 2) if n else None for s, n in zip(shares, counts, strict=True)
        ],
        "joints_by_tenths": counts.tolist(),
    }


def bins(scores: Floats) -> NDArray[np.int64]:
    """Which tenth each score lies in."""
    return np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)


def interval(near: NDArray[np.bool_], judged: Judged) -> list[float] | None:
    """95 % interval of the share of right joints among ``near``, by bootstrap over people."""
    count = np.bincount(judged.person, near)
    right = np.bincount(judged.person, near * judged.right)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(count), size=len(count))
        if count[rows].sum():
            drawn.append(right[rows].sum() / count[rows].sum())
    return [round(float(end), 3) for end in np.percentile(drawn, [2.5, 97.5])] if drawn else None


def cooled(scores: Floats, heat: float) -> Floats:
    """Scores whose log odds are divided by a temperature."""
    scores = np.clip(scores, 1e-4, 1 - 1e-4)
    odds = np.log(scores / (1 - scores))
    return np.asarray(1 / (1 + np.exp(-odds / heat)))


def temperature(sets: list[Judged]) -> float:
    """The temperature of the least mean log loss."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        total = 0.0
        for one in sets:
            likely = cooled(one.scores, float(np.exp(logarithm)))
            total -= float(np.log(np.where(one.right > 0, likely, 1 - likely)).mean())
        return total

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def draw(judged: dict[str, Judged], heat: float | None, model: str, chart: Path) -> None:
    """The reliability diagram, with how many joints have which score below it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6, 6.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    above.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":", label="a score that is the share")
    for (name, one), colour in zip(judged.items(), cycle(COLOURS), strict=False):
        shapes = [("as it is", one.scores, "-")]
        if heat is not None:
            shapes.append((f"temperature {heat:.2f}", cooled(one.scores, heat), "--"))
        for said, scores, style in shapes:
            place = bins(scores)
            some = [tenth for tenth in range(BINS) if (place == tenth).sum() >= BINS]
            means = [scores[place == tenth].mean() for tenth in some]
            shares = [one.right[place == tenth].mean() for tenth in some]
            above.plot(
                means, shares, style, marker="o", ms=3, color=colour, label=f"{name}, {said}"
            )
        below.hist(one.scores, np.linspace(0, 1, BINS + 1), density=True, histtype="step",
                   color=colour)  # fmt: skip
    above.set(ylabel="share of right joints (OKS of the joint .5)", ylim=(0, 1.02))
    below.set(xlabel=f"joint score of {Path(model).stem}", ylabel="density", xlim=(0, 1))
    above.grid(alpha=0.3)
    above.legend(fontsize=8, loc="upper left")
    figure.savefig(chart, dpi=110)


if __name__ == "__main__":
    run(main, "score_reliability")
