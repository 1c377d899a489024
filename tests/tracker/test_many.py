"""Many clips at once: each finished exactly once, also when processes die and jobs break off."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import av
import pytest

from hrtrack.errors import HrtrackError, SinkError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.many import SUMMARY, Done, Work, read_summary, run_many, run_on_ray
from hrtrack.tracker.outputs.base import parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.video.open import open_source

from .clips import make_clip

CLIPS = 6


def annotate(clip: str, folder: str, dies: str = "", times: int = 1) -> Done:
    """Copies a clip through source and sinks; the process is killed while it works on ``dies``."""
    out = Path(folder) / f"{Path(clip).stem}_pose.mp4"
    frames = 0
    try:
        with (
            open_source(clip) as source,
            open_sinks(
                [parse_save(str(out))], source=source, skeleton=COCO17, overwrite=True
            ) as sinks,
        ):
            for frame in source:
                empty = Poses.empty(frame.index, frame.time, 17)
                sinks.write(frame, empty, lambda image=frame.image: image)  # type: ignore[misc]
                frames += 1
                deaths = Path(folder) / "deaths"
                died = len(deaths.read_text()) if deaths.exists() else 0
                if frames == 5 and Path(clip).stem == dies and died < times:
                    deaths.write_text("x" * (died + 1))
                    os.kill(os.getpid(), signal.SIGKILL)
    except HrtrackError as error:
        return Done(clip, frames, error=str(error), code=error.exit_code)
    with (Path(folder) / "finished").open("a") as log:
        print(Path(clip).stem, file=log)
    return Done(clip, frames)


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    (tmp_path / "in").mkdir()
    return [str(make_clip(tmp_path / "in" / f"clip{i}.mp4", 12 + i)) for i in range(CLIPS)]


def assert_all_finished(clips: list[str], folder: Path, done: list[Done]) -> None:
    assert [one.source for one in done] == clips
    assert [one.frames for one in done] == [12 + i for i in range(len(clips))]
    assert all(one.error is None for one in done)
    for i in range(len(clips)):
        with av.open(str(folder / f"clip{i}_pose.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) == 12 + i
    assert not list(folder.glob("*.part.*"))
    rows = [json.loads(line) for line in (folder / SUMMARY).read_text().splitlines()]
    assert Counter(row["source"] for row in rows if "source" in row) == Counter(clips)


def work(clips: list[str], folder: Path, **settings: Any) -> Work:
    return Work({clip: [folder / f"{Path(clip).stem}_pose.mp4"] for clip in clips}, **settings)


def test_a_killed_process_costs_an_attempt_not_the_job(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    told: list[str] = []
    done = run_many(
        work(clips, out),
        partial(annotate, folder=str(out), dies="clip2"),
        jobs=2,
        folder=out,
        on_done=lambda one: told.append(one.source),
    )
    assert_all_finished(clips, out, done)
    assert sorted(told) == clips
    assert (out / "deaths").read_text() == "x"


def test_a_clip_that_always_kills_its_process_is_given_up(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_one = partial(annotate, folder=str(out), dies="clip1", times=99)
    done = run_many(work(clips[:3], out), run_one, jobs=1, folder=out)
    assert [one.error for one in done] == [None, "its process died 3 times", None]


def test_a_job_goes_on_where_it_was_broken_off(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_one = partial(annotate, folder=str(out))
    Path(clips[1]).write_bytes(b"")
    first = run_many(work(clips[:3], out), run_one, jobs=1, folder=out)
    assert [one.code for one in first] == [0, 1, 0]
    assert "empty" in str(first[1].error)
    known = read_summary(out)
    assert [known[clip].done == done for clip, done in zip(clips, first, strict=False)] == [
        True
    ] * 3
    with (out / SUMMARY).open("a") as summary:
        summary.write('{"source": "half a li')
    make_clip(Path(clips[1]), 13)
    make_clip(Path(clips[2]), 20)
    again = run_many(work(clips[:3], out), run_one, jobs=1, folder=out)
    assert [one.frames for one in again] == [12, 13, 20]
    assert all(one.error is None for one in again)
    finished = (out / "finished").read_text().split()
    assert finished == ["clip0", "clip2", "clip1", "clip2"]
    before = (out / SUMMARY).read_text()
    assert run_many(work(clips[:3], out), run_one, jobs=1, folder=out) == again
    assert (out / SUMMARY).read_text() == before
    anew = run_many(work(clips[:3], out, overwrite=True), run_one, jobs=1, folder=out)
    assert [one.frames for one in anew] == [12, 13, 20]
    assert len((out / "finished").read_text().split()) == 7


def test_other_options_and_lost_outputs_run_a_clip_again(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_one = partial(annotate, folder=str(out))
    run_many(work(clips[:2], out, options="a"), run_one, jobs=1, folder=out)
    (out / "clip1_pose.mp4").unlink()
    run_many(work(clips[:2], out, options="a"), run_one, jobs=1, folder=out)
    assert (out / "finished").read_text().split() == ["clip0", "clip1", "clip1"]
    run_many(work(clips[:2], out, options="b"), run_one, jobs=1, folder=out)
    assert (out / "finished").read_text().split()[3:] == ["clip0", "clip1"]


def test_what_jobs_made_at_any_time_is_theirs(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_one = partial(annotate, folder=str(out))
    first = work(clips[:2], out, options="a")
    run_many(first, run_one, jobs=1, folder=out)
    elsewhere = Work({clip: [out / "deep" / Path(clip).name] for clip in clips[:2]}, "b")
    run_many(elsewhere, run_one, jobs=1, folder=out)
    run_many(first, run_one, jobs=1, folder=out)
    assert (out / "finished").read_text().split() == ["clip0", "clip1"] * 3


def test_a_list_of_the_version_before_is_gone_on_with(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_one = partial(annotate, folder=str(out))
    run_many(work(clips[:2], out), run_one, jobs=1, folder=out)
    rows = [json.loads(line) for line in (out / SUMMARY).read_text().splitlines()]
    old = [{k: v for k, v in row.items() if k not in ("options", "outputs")} for row in rows]
    (out / SUMMARY).write_text("".join(json.dumps(row) + "\n" for row in old if "source" in row))
    run_many(work(clips[:3], out, options="new"), run_one, jobs=1, folder=out)
    assert (out / "finished").read_text().split() == ["clip0", "clip1", "clip2"]


def test_a_name_that_is_too_long_costs_its_clip_only(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = Work({clips[0]: [out / ("n" * 300)], **work(clips[1:2], out).outputs})
    done = run_many(job, partial(annotate, folder=str(out)), jobs=1, folder=out)
    assert [one.error for one in done] == [None, None]


def test_what_is_not_the_job_s_own_is_not_replaced(clips: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    own = out / "clip1_pose.mp4"
    own.write_bytes(b"mine")
    run_one = partial(annotate, folder=str(out))
    with pytest.raises(SinkError, match=r"clip1_pose\.mp4 exists already; pass --overwrite"):
        run_many(work(clips[:3], out), run_one, jobs=1, folder=out)
    assert own.read_bytes() == b"mine"
    assert not (out / "finished").exists()
    # What a job broken off had begun is its own.
    with (out / SUMMARY).open("a") as summary:
        row = {"begun": clips[1], "state": [], "options": "", "outputs": [str(own)]}
        print(json.dumps(row), file=summary)
    done = run_many(work(clips[:3], out), run_one, jobs=1, folder=out)
    assert [one.error for one in done] == [None] * 3
    assert own.read_bytes() != b"mine"


@pytest.mark.slow
def test_ray_finishes_every_clip_once_though_a_worker_is_killed(
    clips: list[str], tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    out = tmp_path / "out"
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        done = run_on_ray(
            work(clips, out),
            partial(annotate, folder=str(out), dies="clip3"),
            address="local",
            folder=out,
        )
    finally:
        ray.shutdown()
    assert_all_finished(clips, out, done)
    assert (out / "deaths").read_text() == "x"
    assert sorted((out / "finished").read_text().split()) == [f"clip{i}" for i in range(CLIPS)]
