"""One table of all clips: of a folder, by several processes, broken off, and side by side."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hrtrack import Poses, read_results, to_dataframe
from hrtrack.cli import main
from hrtrack.errors import DataError, SinkError
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import Target, parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.results.several import begin as begin_table
from hrtrack.tracker.outputs.results.several import joining, part_of
from hrtrack.tracker.video.open import open_source

from ..clips import moving_portrait
from ..test_stop import begin, lines_in, long_clip, wait_for
from ..tracker.clips import make_clip
from ..tracker.files import people

FRAMES = {"a.mp4": 6, "b.mp4": 4, "wall.mp4": 3}
"""Nobody is in the last one."""
SUFFIXES = ("csv", "parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    moving_portrait(folder / "a.mp4", FRAMES["a.mp4"])
    moving_portrait(folder / "b.mp4", FRAMES["b.mp4"], fps=10)
    make_clip(folder / "wall.mp4", FRAMES["wall.mp4"])
    return folder


@pytest.fixture
def clips(made: Path, tmp_path: Path) -> Path:
    """A folder of clips; the first in order cannot be read."""
    folder = tmp_path / "clips"
    shutil.copytree(made, folder)
    (folder / "0.mp4").write_bytes(b"no video")
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments])
    return int(stop.value.code or 0)


def same(found: list[Poses], expected: list[Poses], source: str) -> None:
    assert [poses.frame for poses in found] == [poses.frame for poses in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.source == source
        assert other.source is None
        assert one.time == other.time
        assert one.ids.tolist() == other.ids.tolist()
        assert np.array_equal(one.keypoints, other.keypoints)
        assert one.skeleton == other.skeleton


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_s_table_holds_every_clip(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, apart = tmp_path / "out", tmp_path / "apart"
    saves = [f"--save={out}/all.{suffix}" for suffix in SUFFIXES]
    assert run(clips, *saves, f"--save=csv:{apart}", f"--save=parquet:{apart}", "-q") == 1
    said = capsys.readouterr().err
    assert said.count("hrtrack: ") == 1
    assert "0.mp4 is not a video" in said
    assert left_in(out) == {"all.csv", "all.parquet"}
    for suffix in SUFFIXES:
        path = out / f"all.{suffix}"
        names = [str(clips / name) for name in ("a.mp4", "b.mp4")]
        every = list(read_results(path))
        assert list(dict.fromkeys(poses.source for poses in every)) == names
        for name in names:
            alone = list(read_results(apart / f"{Path(name).stem}.{suffix}"))
            same(list(read_results(path, source=name)), alone, name)
            same([poses for poses in every if poses.source == name], alone, name)
        with pytest.raises(DataError, match=r"holds no rows of c\.mp4; it has those of .*a\.mp4"):
            list(read_results(path, source="c.mp4"))
        with pytest.raises(DataError, match="it does not name its clips"):
            list(read_results(apart / f"a.{suffix}", source=names[0]))
        table = to_dataframe(path)
        assert list(table.columns[:4]) == ["source", "frame", "time", "id"]
        people = table.groupby("source").frame.nunique()
        assert people.to_dict() == {name: FRAMES[Path(name).name] for name in names}
        assert "source" not in to_dataframe(apart / f"a.{suffix}").columns
    assert every[0].to_dict()["source"] == names[0]
    assert every[0][[0]].source == names[0]


def test_a_table_is_not_replaced_unasked(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "all.csv"
    table.write_text("mine\n")
    assert run(clips / "[ab].mp4", "--save", table, "-q") == 1
    assert "exists already; pass --overwrite" in capsys.readouterr().err
    assert table.read_text() == "mine\n"
    left = tmp_path / "all.part.csv"
    left.mkdir()
    (left / "b-01234567.csv").write_text("what a killed run had finished\n")
    table.unlink()
    assert run(clips / "[ab].mp4", "--save", table, "-q") == 1
    assert "was left by a run that was cut off" in capsys.readouterr().err
    assert run(clips / "[ab].mp4", "--save", table, "-q", "--overwrite") == 0
    assert len(list(read_results(table))) == FRAMES["a.mp4"] + FRAMES["b.mp4"]
    assert left_in(tmp_path) == {"clips", "all.csv"}
    assert run(clips / "[ab].mp4", "--save", table, "--save", f"csv:{table}") == 2
    assert "all.csv is named twice" in capsys.readouterr().err
    assert run(clips / "[ab].mp4", "--save", tmp_path / "all.jsonl") == 2
    assert "only csv and parquet hold several clips" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_go_on_with_a_table_of_each_format(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    tables = [out / f"all.{suffix}" for suffix in SUFFIXES]
    files = {"hrtrack.done.jsonl", *(table.name for table in tables)}
    job = (clips, *(f"--save={table}" for table in tables), "--jobs", "2")
    assert run(*job) == 1
    assert "0.mp4 is not a video" in capsys.readouterr().err
    assert left_in(out) == files
    before = [list(read_results(table)) for table in tables]
    for first in before:
        assert len(first) == FRAMES["a.mp4"] + FRAMES["b.mp4"]
    # What is done is not run again, and its rows stay, also those of a clip that has gone.
    (clips / "0.mp4").write_bytes((clips / "b.mp4").read_bytes())
    (clips / "a.mp4").unlink()
    assert run(*job) == 0
    said = capsys.readouterr().err
    assert "0.mp4: 4 frames" in said
    assert "b.mp4: " not in said
    assert "wall.mp4: " not in said
    for table, first in zip(tables, before, strict=True):
        again = list(read_results(table))
        assert [poses.source for poses in again] == [str(clips / "0.mp4")] * 4 + [
            poses.source for poses in first
        ]
        assert np.array_equal(again[-1].keypoints, first[-1].keypoints)
    # Rows of other options are not mixed with these.
    assert run(*job, "--max-people", "3") == 1
    told = f"holds results of {clips / 'a.mp4'} that were made with other options"
    assert told in capsys.readouterr().err
    assert run(*job, "--max-people", "3", "--overwrite", "-q") == 0
    for table in tables:
        assert len(list(read_results(table))) == 2 * FRAMES["b.mp4"]
    assert left_in(out) == files


def test_jobs_leave_the_table_of_another_alone(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "all.csv"
    assert run(clips / "b.mp4", "--jobs", "2", "--save", table, "-q") == 0
    table.write_text(table.read_text().replace("b.mp4", "c.mp4"))
    before = table.read_bytes()
    assert run(clips / "[ab].mp4", "--jobs", "2", "--save", table, "-q") == 1
    assert "exists already; pass --overwrite" in capsys.readouterr().err
    assert table.read_bytes() == before
    assert run(clips / "b.mp4", "--jobs", "2", "--save", tmp_path / "{name}" / "b.csv") == 2
    assert "need --output FOLDER, or --save" in capsys.readouterr().err


@pytest.mark.slow
def test_a_job_that_was_killed_goes_on(clips: Path, tmp_path: Path) -> None:
    long_clip(clips / "z.mp4")
    (clips / "0.mp4").unlink()
    out = tmp_path / "out"
    parts = out / "all.part.csv"
    job = (str(clips), "--save", f"{out}/all.csv", "--jobs", "2", "-q")
    killed = begin(*job)
    summary = out / "hrtrack.done.jsonl"
    wait_for(lambda: summary.exists() and summary.read_text().count('"frames"') == 3, killed)
    wait_for(lambda: len(list(parts.glob("z-*"))) == 1, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (out / "all.csv").exists()
    (done,) = parts.glob("a-*.csv")
    assert len(list(read_results(done))) == FRAMES["a.mp4"]
    short = moving_portrait(tmp_path / "short.mp4", 5)
    (clips / "z.mp4").write_bytes(short.read_bytes())
    assert run(*job) == 0
    lines = summary.read_text().splitlines()
    assert sum('"frames"' in line and "a.mp4" in line for line in lines) == 1
    found = [Path(poses.source or "").name for poses in read_results(out / "all.csv")]
    assert found == ["a.mp4"] * 6 + ["b.mp4"] * 4 + ["z.mp4"] * 5
    assert not parts.exists()


def test_ctrl_c_leaves_a_table_of_what_there_was(clips: Path, tmp_path: Path) -> None:
    long_clip(clips / "c.mp4")
    (clips / "0.mp4").unlink()
    table = tmp_path / "all.csv"
    going = begin(str(clips), "--save", str(table), "--save", f"jsonl:{tmp_path}", "-q")
    wait_for(lambda: (tmp_path / "c.jsonl").exists() and lines_in(tmp_path / "c.jsonl") > 20, going)
    going.send_signal(signal.SIGINT)
    assert going.wait(60) == 130
    going.communicate()
    frames = {name: lines_in(tmp_path / f"{name}.jsonl") for name in "abc"}
    for name, count in frames.items():
        assert len(list(read_results(table, source=str(clips / f"{name}.mp4")))) == count
    assert frames["c"] < 1500
    assert left_in(tmp_path) == {"clips", "all.csv", "a.jsonl", "b.jsonl", "c.jsonl"}


def test_sources_side_by_side_share_a_table(made: Path, tmp_path: Path) -> None:
    """Two of one name, each with its own rows, and what a URL's password is stays out."""
    (tmp_path / "left").mkdir()
    left = shutil.copy(made / "a.mp4", tmp_path / "left" / "hall.mp4")
    right = shutil.copy(made / "b.mp4", tmp_path / "hall.mp4")
    saves = [f"--save={tmp_path}/all.{suffix}" for suffix in SUFFIXES]
    gone = "http://me:secret@127.0.0.1:9/x.mp4"
    assert run("-s", left, "-s", right, "-s", gone, *saves, "-q") == 1
    for suffix in SUFFIXES:
        path = tmp_path / f"all.{suffix}"
        counts = to_dataframe(path).groupby("source").frame.nunique().to_dict()
        assert counts == {str(left): FRAMES["a.mp4"], str(right): FRAMES["b.mp4"]}
    assert not list(tmp_path.glob("*.part.*"))


def test_a_table_that_cannot_be_finished_costs_no_clip(made: Path, tmp_path: Path) -> None:
    table = parse_save(str(tmp_path / "all.csv"))
    part = part_of(table, "a.mp4", "a")
    begin_table(table, overwrite=False)
    written(made / "b.mp4", part)
    (tmp_path / "all.csv").mkdir()
    with pytest.raises(SinkError, match=r"each clip's rows are in .*all\.part\.csv"):  # noqa: SIM117
        with joining([table]):
            pass
    assert [poses.source for poses in read_results(part.path)] == ["a.mp4", "a.mp4"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_of_the_clips_has_people_who_were_not_estimated(
    suffix: str, made: Path, tmp_path: Path
) -> None:
    """A camera beside a file: only the camera's part has the column."""
    table = parse_save(str(tmp_path / f"all.{suffix}"))
    with joining([table]):
        written(made / "b.mp4", part_of(table, "file", "file"))
        written(made / "b.mp4", part_of(table, "camera", "camera"), budget=True)
    found = {poses.source: poses.estimated.tolist() for poses in read_results(table.path)}
    assert found == {"camera": [False], "file": [True]}


def written(clip: Path, target: Target, *, budget: bool = False) -> None:
    """Two frames with one person, carried where there is a budget."""
    with (
        open_source(str(clip)) as source,
        open_sinks([target], source=source, skeleton=COCO17, budget=budget) as sinks,
    ):
        for frame in list(source)[:2]:
            poses = replace(people(frame.index, frame.time, 1), estimated=np.array([not budget]))
            sinks.write(frame, poses, lambda image=frame.image: image)  # type: ignore[misc]
