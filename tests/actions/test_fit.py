"""Training, calibration, evaluation and pictures on a set of two easy actions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hrtrack import __version__  # noqa: E402
from hrtrack.actions.clips import ActionClip  # noqa: E402
from hrtrack.actions.recordings import load_recordings  # noqa: E402
from hrtrack.actions.tagger import open_action_network  # noqa: E402
from hrtrack.actions.training.evaluate import auroc, evaluate, steps  # noqa: E402
from hrtrack.actions.training.fit import Fitted, as_function  # noqa: E402
from hrtrack.actions.training.run import eval_action, leave_out, train_action  # noqa: E402
from hrtrack.configs.action_schema import ActionConfig, load_action_config  # noqa: E402
from hrtrack.errors import ConfigError, DataError  # noqa: E402
from hrtrack.export.action import export_action  # noqa: E402


def _recording(label: str, seed: int) -> list[dict[str, object]]:
    """Waving (arms up and swinging) or bowing (the trunk goes down and up), as JSONL."""
    rng = np.random.default_rng(seed)
    x = np.array([0, 0, 0, 0, 0, -1, 1, -1.5, 1.5, -1.5, 1.5, -0.6, 0.6, -0.6, 0.6, -0.6, 0.6])
    y = np.array([-1, -1.1, -1.1, -1, -1, 0, 0, 1, 1, 2, 2, 2.5, 2.5, 4, 4, 5.5, 5.5])
    rate, start = rng.uniform(0.6, 1.0), rng.uniform(0, 6)
    lines: list[dict[str, object]] = []
    for i in range(60):
        px, py = x.copy(), y.copy()
        swing = np.sin(2 * np.pi * rate * i / 20 + start)
        if label == "wave":
            py[7:11] = (-1.0, -1.0, -2.0, -2.0)
            px[7:11] += swing * np.array([0.3, 0.3, 0.8, 0.8])
        else:
            py[:11] += 1.2 * (1 + swing)
            px[:11] += 0.8 * (1 + swing)
        points = 40 * np.stack((px, py), 1) + rng.normal(300, 2, (17, 2))
        keypoints = [[float(a), float(b), 0.9] for a, b in points]
        people = [{"id": 1, "score": 1, "box": [0, 0, 1, 1], "keypoints": keypoints}]
        lines.append({"frame": i, "time": i / 20, "skeleton": "coco17", "people": people})
    return lines


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    for label in ("wave", "bow"):
        (root / label).mkdir()
        for seed in range(12):
            lines = "".join(json.dumps(line) + "\n" for line in _recording(label, seed))
            (root / label / f"{seed}.jsonl").write_text(lines)
    return root


@pytest.fixture(scope="module")
def config() -> ActionConfig:
    plain = load_action_config().model_dump()
    plain["model"] |= {"widths": (16, 32), "strides": (2, 2)}
    plain["fit"] |= {"epochs": 16, "batch": 8, "lr": 0.01, "ema": 0.9, "precision": "fp32"}
    return ActionConfig.model_validate(plain)


@pytest.fixture(scope="module")
def fitted(recordings: Path, config: ActionConfig) -> Fitted:
    return train_action(config, recordings, show_progress=False)


def test_it_learns(fitted: Fitted, recordings: Path) -> None:
    assert fitted.info.labels == ("bow", "wave")
    assert fitted.held_out_accuracy == 1.0
    report = evaluate(
        as_function(fitted.net), fitted.info, load_recordings(recordings), curves=False
    )
    assert report.top1 >= 0.95
    assert report.tracked >= 0.9
    assert 0 < fitted.info.threshold < 1
    assert fitted.info.notes["seed"] == "0"
    assert fitted.info.notes["hrtrack"] == __version__


def test_a_seed_repeats(recordings: Path, config: ActionConfig) -> None:
    short = config.model_copy(update={"fit": config.fit.model_copy(update={"epochs": 1.0})})
    one, two, other = (
        train_action(short, recordings, seed=seed, show_progress=False) for seed in (4, 4, 5)
    )
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not torch.equal(one.net.head.weight, other.net.head.weight)


def test_eval_writes_its_report(fitted: Fitted, recordings: Path, tmp_path: Path) -> None:
    export_action(fitted.net, fitted.info, tmp_path / "two.onnx")
    network, info = open_action_network(tmp_path / "two.onnx", threads=1)
    report = eval_action(network, info, recordings, tmp_path / "out", show_progress=False)
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["top1"] == report.top1
    assert [row["label"] for row in saved["per_action"]] == ["bow", "wave"]
    assert np.array(report.confusion).sum() == 24
    for name in ("confusion.png", "curves.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"
    seen = dict(report.curves["seen"])
    assert seen[1.0] == report.top1


@pytest.mark.parametrize("stride", [1, 2])
def test_eval_counts_its_steps(fitted: Fitted, recordings: Path, stride: int) -> None:
    done: list[str] = []
    clips = [
        replace(clip, times=clip.times[::stride], joints=clip.joints[::stride])
        for clip in load_recordings(recordings)[:3]
    ]
    evaluate(as_function(fitted.net), fitted.info, clips, step_done=done.append)
    assert len(done) == steps(clips, curves=True)
    # Of 5, 8, 10 and 15 frames a second those below the clips' own 20 or 10.
    assert done.count("frame rate") == (4 if stride == 1 else 2)


def test_an_action_without_clips_has_no_recall(fitted: Fitted, recordings: Path) -> None:
    waving = [clip for clip in load_recordings(recordings) if clip.label == "wave"]
    report = evaluate(as_function(fitted.net), fitted.info, waving, curves=False)
    bow, wave = report.per_action
    assert (bow.clips, bow.recall) == (0, None)
    assert wave.recall == report.top1


def test_strange_labels_are_named(fitted: Fitted) -> None:
    clip = ActionClip("x", "fly", np.arange(4.0), np.zeros((4, 13, 3), np.float32))
    with pytest.raises(DataError, match="the clips show fly; the network knows bow, wave"):
        evaluate(as_function(fitted.net), fitted.info, [clip])


def test_leaving_an_action_out(recordings: Path, config: ActionConfig) -> None:
    clips = load_recordings(recordings)
    others = [
        ActionClip(c.name, "nod", c.times, c.joints[:, :, [1, 0, 2]].copy())
        for c in clips
        if c.label == "wave"
    ]
    (fold,) = leave_out(config, [*clips, *others], [*clips, *others], folds=1, size=1)
    assert len(fold.actions) == 1
    assert fold.top1 > 0.8
    assert 0 <= fold.called_unknown <= 1
    assert 0.5 < fold.auroc <= 1


def test_auroc() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(0, 9, 40), rng.integers(0, 9, 30)
    wins = (known[:, None] > unknown).mean() + 0.5 * (known[:, None] == unknown).mean()
    assert auroc(known, unknown) == pytest.approx(wins)


def test_one_action_is_not_enough(recordings: Path, config: ActionConfig, tmp_path: Path) -> None:
    (tmp_path / "wave").symlink_to(recordings / "wave")
    with pytest.raises(DataError, match=r"1 action \(wave\)"):
        train_action(config, tmp_path, show_progress=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("window: {seconds: 2, samples: 32, max_gap: 1, speed: 3}", "window.speed"),
        ("- 1", "must hold sections"),
        ("a: [", "not YAML"),
        ("window: {seconds: -1, samples: 32, max_gap: 1}", "window.seconds"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_action_config(path)


@pytest.mark.parametrize(
    ("samples", "strides", "message"),
    [
        (30, [1, 2, 1], "window.samples must be a multiple of 4"),
        (32, [1, 3, 1], "window.samples must be a multiple of 6"),
        (32, [1, 0, 1], "model.strides.1"),
    ],
)
def test_strides_that_do_not_divide_the_moments_are_refused(
    tmp_path: Path, samples: int, strides: list[int], message: str
) -> None:
    settings = load_action_config().model_dump()
    settings["window"]["samples"], settings["model"]["strides"] = samples, strides
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=message):
        load_action_config(path)


def test_flags_of_the_other_trainings_are_refused(recordings: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from hrtrack.cli.main import hrtrack

    words = ["train", "action", "--data", str(recordings), "-o", str(tmp_path / "out")]
    for flag in (["--resume"], ["--init", "bundled"], ["--device", "cuda"]):
        done = CliRunner().invoke(hrtrack, [*words, *flag])
        assert done.exit_code != 0
        assert "starts afresh on the CPU" in done.output + repr(done.exception)
    assert not (tmp_path / "out").exists()
