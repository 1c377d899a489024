"""Streams at a time are counted, in one process and in several, and nothing is left running."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from hrtrack.cli.bench import pipeline as pipeline_command
from hrtrack.errors import BackendError, ModelError, SourceError, UsageError
from hrtrack.tracker import bench_streams as measure
from hrtrack.tracker.options import TrackerOptions

from ..clips import moving_portrait


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_UP", 0.1)
    monkeypatch.setattr(measure, "REHEARSAL", 0.1)
    monkeypatch.setattr(measure, "ROUNDS", 1)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(moving_portrait(tmp_path / "clip.mp4", 12))


@pytest.mark.slow
def test_the_command_counts_both_ways(clip: str, tmp_path: Path) -> None:
    words = [clip, "--streams", "2", "--seconds", "0.5", "--threads", "2", "--precision", "fp32"]
    result = CliRunner().invoke(
        pipeline_command, [*words, "--json", str(tmp_path / "a.json")], catch_exceptions=False
    )
    assert result.exit_code == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["clip"], found["frame_size"], found["seconds"]) == ("clip.mp4", [640, 360], 0.5)
    (report,) = found["streams"]
    assert (report["streams"], report["threads"], report["own_threads"]) == (2, 2, 1)
    assert "1 x 2" in result.stdout
    assert "2 x 1" in result.stdout
    rows = [re.findall(r"[0-9.]+%?", line) for line in result.stdout.splitlines()]
    for way in ("one_process", "processes"):
        times = dict(report[way])
        # Cameras send 25 frames a second each; what is not taken is lost.
        assert 0 < times["cameras_fps"] < 60
        assert 0 < times["cameras_fewest_fps"] <= times["cameras_fps"]
        assert 0 < times["files_fewest_fps"] <= times["files_fps"]
        assert 0 < times["age_p50_ms"] <= times["age_p95_ms"]
        assert times["cpu_ms"] > 0
        lost = times.pop("lost")
        assert 0 <= lost < 1
        figures = [f"{value:.1f}" for value in times.values()]
        assert any(row[-8:] == [*figures, f"{lost:.0%}"] for row in rows)
    for name, word in (
        ("fps_ratio", "one process did {:.2f} times the frames"),
        ("cpu_ratio", "with {:.2f} times the processor time"),
    ):
        ratio = report[name]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert word.format(ratio["median"]) in result.stdout
    assert not multiprocessing.active_children()


def test_cameras_that_sent_nothing_have_no_ratio(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, cameras = (40.0, 20.0, 9.0), (0.0, 0.0, math.nan, math.nan, 0.0)
    both = [measure.StreamTimes(share * files[0], *files[1:], *cameras) for share in (1.5, 1)]
    ratio = measure.Ratio(1.5, 1.4, 1.6)
    report = measure.StreamsReport(2, 2, 1, *both, ratio, ratio)
    monkeypatch.setattr(measure, "bench_streams", lambda *given: report)
    result = CliRunner().invoke(
        pipeline_command, [clip, "--streams", "2", "--seconds", "0.3"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "When reading cameras, it did nan times the frames per second." in result.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--streams", "0"], "--streams 0: numbers with commas"),
        (["--streams", "2", "--people", "1"], "--people does not go with --streams"),
        (["--streams", "2", "--trace", "t.json"], "--trace does not go with --streams"),
    ],
)
def test_what_streams_cannot_have(clip: str, words: list[str], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        CliRunner().invoke(pipeline_command, [clip, *words], catch_exceptions=False)


def test_a_fault_in_a_process_is_one_line_here(clip: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        measure.bench_streams(clip, TrackerOptions(str(tmp_path / "none.onnx")), 2, 0.2)
    missing = str(tmp_path / "none.mp4")
    with pytest.raises(SourceError, match="no such file"):
        measure.bench_streams(missing, TrackerOptions(threads=1), 1, 0.2)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_noticed(clip: str) -> None:
    worker = measure._Worker(clip, TrackerOptions(threads=1), 1)
    worker.process.kill()
    with pytest.raises(BackendError, match="has died"):
        measure._heard([worker])
    worker.end()
