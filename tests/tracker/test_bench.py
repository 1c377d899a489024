"""The bench runs the real loop and adds its times up."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import hrtrack
from hrtrack.cli.bench import pipeline as pipeline_command
from hrtrack.errors import SourceError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker import bench
from hrtrack.tracker.inference.estimate import Estimator
from hrtrack.tracker.loop import Pipeline, Upcoming
from hrtrack.tracker.outputs.pictures.draw import DrawOptions
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.proposals import BoxProposer
from hrtrack.tracker.tracking.smooth import Smoother
from hrtrack.tracker.video.frame import Frame

from ..clips import moving_portrait

BOX = np.array([[40, 20, 120, 180]], np.float32)


class Anatomy:
    """A network that finds a standing figure in every crop."""

    input_hw = (256, 192)

    def __call__(self, crops: np.ndarray, *, heatmaps: bool = False) -> dict[str, np.ndarray]:
        rows = np.linspace(40, 220, 17, dtype=np.float32)
        figure = np.stack([np.full(17, 96, np.float32), rows, np.full(17, 0.9, np.float32)], axis=1)
        return {"keypoints": np.tile(figure, (len(crops), 1, 1))}

    def close(self) -> None: ...


def pipeline(watch: Stopwatch | None = None) -> Pipeline:
    watch, tracks = watch or Stopwatch(), Tracks(COCO17)
    return Pipeline(
        proposer=BoxProposer(lambda image: (BOX, np.array([0.9], np.float32)), tracks, every=1),
        estimate=Estimator(Anatomy(), 17, watch),
        tracks=tracks,
        smoother=Smoother(COCO17, "light"),
        stopwatch=watch,
    )


def whole(clip: str, count: int) -> bench.ClipReport:
    watch = Stopwatch()

    def begin(upcoming: Upcoming) -> Pipeline:
        return replace(pipeline(watch), upcoming=upcoming)

    return bench.bench_clip(clip, begin, COCO17, DrawOptions({"boxes"}), watch, count)


def frames(count: int = 30) -> list[Frame]:
    return [Frame(i, i / 25, np.zeros((200, 320, 3), np.uint8)) for i in range(count)]


def test_stages_add_up_to_the_loop() -> None:
    report = bench.bench_pipeline(
        "anatomy", pipeline(), COCO17, frames(), drawing=DrawOptions({"skeleton"})
    )
    stages = {stage.stage: stage for stage in report.stages}
    assert list(stages) == ["detect", "crop", "infer", "associate", "draw"]
    assert report.people == pytest.approx(1, abs=0.2)
    loop_ms = 1e3 / report.fps
    # Drawing goes on beside the loop.
    on_the_loop = [s.per_frame for s in report.stages if s.stage != "draw"]
    assert sum(on_the_loop) <= loop_ms
    networks = stages["detect"].per_frame + stages["infer"].per_frame
    assert report.own_ms == pytest.approx(loop_ms - networks, rel=0.01)
    assert stages["crop"].p50 <= stages["crop"].p95 <= stages["crop"].p99
    assert report.to_json()["frames"] == 30
    assert report.to_json()["streams_of_30_fps"] == int(report.fps / 30)
    assert report.cpu_ms > 0


def test_tiled_people_keep_the_detector_running() -> None:
    calls = []
    tiled = bench.TiledProposer(lambda image: calls.append(1) or (BOX, BOX[:, 0]), [BOX[0]], 4, 5)
    for frame in frames(10):
        proposals = tiled.propose(frame)
        boxes = proposals.boxes
        assert boxes.shape == (4, 4)
        assert proposals.scores.shape == (4,)
        np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], 80)
        assert boxes[0, 0] == pytest.approx(0)
        assert boxes[-1, 2] == pytest.approx(320)
    assert len(calls) == 2


def test_a_recorded_box_needs_a_person() -> None:
    with pytest.raises(SourceError, match="nobody was found"):
        bench.record_box([Poses.empty(0, 0.0, 17)])


@pytest.mark.parametrize("measure", [
    lambda clip: bench.preload(clip, 0),
    lambda clip: whole(clip, 0),
])  # fmt: skip
def test_nothing_is_measured_on_no_frames(tmp_path: Path, measure) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 3)
    with pytest.raises(SourceError, match="has no frames to measure with"):
        measure(str(clip))


def test_a_whole_clip_is_annotated_and_its_parts_timed(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 12)
    report = whole(str(clip), 12)
    stages = {stage.stage for stage in report.stages}
    assert {"decode", "look ahead", "detect", "infer", "draw", "encode"} <= stages
    assert report.fps > 0
    assert report.decode_alone_ms > 0
    assert report.encode_alone_ms > 0


@pytest.mark.slow
def test_the_command_measures_and_compares(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 12)
    peer = tmp_path / "peer.py"
    peer.write_text('print(\'{"name": "nothing: at all", "fps": 5, "people": 2, "cpu_ms": 40}\')')
    words = [str(clip), "--frames", "10", "--people", "1,2", "--threads", "1", "--max-people", "1",
             "--backend", "openvino", "--compare", str(peer), "--json", str(tmp_path / "a.json"),
             "--chart", str(tmp_path / "a.png"),
             "--trace", str(tmp_path / "trace.json")]  # fmt: skip
    result = CliRunner().invoke(pipeline_command, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "nothing: at all: 5.0 FPS with 2.0 people; hrtrack with" in result.stdout
    found = json.loads((tmp_path / "a.json").read_text())
    assert [run["name"] for run in found["pipelines"]] == ["body_fast", "1 people", "2 people"]
    assert {"p50", "p95", "p99"} <= found["pipelines"][0]["stages"][0].keys()
    assert found["peers"][0]["cpu_ms"] == 40
    assert found["hrtrack"] == hrtrack.__version__
    assert found["frame_size"] == [640, 360]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(found["date"])) < timedelta(hours=1)
    main = found["pipelines"][0]
    assert main["backend"].startswith("OpenVINO ")
    assert main["device"]
    assert main["precision"]
    # Both tables, equal to those printed, row by row.
    rows = [re.findall(r"[a-z]+|[0-9.]+", line) for line in result.stdout.splitlines()]
    for table in (main, main["file_to_file"]):
        assert table["stages"]
        for stage in table["stages"]:
            name, *times = stage.values()
            assert [name, *(f"{value:.2f}" for value in times)] in rows
        assert f": {table['fps']:.1f} FPS" in result.stdout
    assert f"networks: {main['with_drawing']['own_ms']:.2f} ms" in result.stdout
    assert f"decode {main['file_to_file']['decode_alone_ms']:.2f} ms" in result.stdout
    assert (tmp_path / "a.png").stat().st_size > 10_000
    check_trace(json.loads((tmp_path / "trace.json").read_text()), main["file_to_file"], frames=10)


def check_trace(trace: dict[str, Any], table: dict[str, Any], frames: int) -> None:
    """The trace tells of the same run as the table, and of each thread in turn."""
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert min(event["ts"] for event in events) == 0
    for stage in table["stages"]:
        times = [event["dur"] for event in events if event["name"] == stage["stage"]]
        assert sum(times) / frames / 1e3 == pytest.approx(stage["per_frame"], abs=0.001)
    named = {
        event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if "args" in event
    }
    assert {event["tid"] for event in events} == named.keys()
    rows = {event["name"]: event["tid"] for event in events}
    assert named[rows["infer"]] == "MainThread"
    assert rows["encode"] != rows["infer"] != rows["decode"]
    for thread in named:
        row = [event for event in events if event["tid"] == thread]
        for one, after in itertools.pairwise(row):  # in the order of their beginnings
            end = one["ts"] + one["dur"]
            inside = after["ts"] + after["dur"] <= end + 0.5
            assert after["ts"] >= end - 0.5 or inside
