"""A full disk, a kill, an output that fails: what was written stays readable."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hrtrack.errors import HrtrackError, SinkError
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import Run, Target, parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.video import finalise
from hrtrack.tracker.outputs.results.jsonl import JsonLines, read_jsonl
from hrtrack.tracker.outputs.results.mot import read_mot
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip, stamped
from ..files import contents, copy, people


@contextmanager
def small_files() -> Iterator[None]:
    """A file-size limit stands in for a full disk: the system refuses to write on.

    Not a fixture: between set-up and test pytest writes its own report, which may be a file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 40)
    count = 0
    with (  # noqa: PT012
        small_files(),
        pytest.raises(SinkError, match="what was written so far is good") as failure,
        open_source(str(clip)) as source,
        open_sinks([parse_save(f"{tmp_path}/o.jsonl")], source=source, skeleton=COCO17) as sinks,
    ):
        for frame in source:
            sinks.write(frame, people(frame.index, frame.time, 3), lambda: stamped(0))
            count += 1
    assert "\n" not in str(failure.value)
    assert [poses.frame for poses in read_jsonl(tmp_path / "o.jsonl")] == list(range(count))
    assert (tmp_path / "o.jsonl").read_bytes().endswith(b"\n")
    assert count > 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_device_is_one_line(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 1)
    with open_source(str(clip)) as source:
        lines = JsonLines(Target("jsonl", "/dev/full"), Run(source, COCO17, {}, True, Stopwatch()))
        with pytest.raises(SinkError, match="no space left on device"):
            lines.write(next(iter(source)), people(0, 0.0, 3), lambda: stamped(0))
        lines.close(complete=False)


def test_one_failing_output_does_not_cost_the_others(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 40)
    saves = [parse_save(f"{tmp_path}/{name}") for name in ("o.jsonl", "o.txt", "o.json")]
    with (  # noqa: PT012
        small_files(),
        pytest.raises(HrtrackError),
        open_source(str(clip)) as source,
        open_sinks(saves, source=source, skeleton=COCO17) as sinks,
    ):
        for frame in source:
            sinks.write(frame, people(frame.index, frame.time, 3), lambda: stamped(0))
    assert len(list(read_mot(tmp_path / "o.txt"))) > 5
    assert len(list(read_jsonl(tmp_path / "o.jsonl"))) > 5


FULL = """
import resource, signal, sys
from hrtrack.errors import HrtrackError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.video.open import open_source
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.base import parse_save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    with open_source(sys.argv[1]) as s, open_sinks(
        [parse_save(out) for out in sys.argv[2:4]], source=s, skeleton=COCO17
    ) as k:
        for f in s:
            k.write(f, Poses.empty(f.index, f.time, 17), lambda f=f: f.image)
except HrtrackError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".mkv", marks=pytest.mark.slow)])
def test_a_full_disk_stops_with_one_line_and_a_video_that_plays(
    tmp_path: Path, suffix: str
) -> None:
    # A file-size limit stands in for a full disk: the system refuses to write on.
    clip = make_clip(tmp_path / "clip.mp4", 300, fps=30, audio="aac")
    out, lines = tmp_path / f"o{suffix}", tmp_path / "o.jsonl"
    command = [sys.executable, "-c", FULL, str(clip), str(out), str(lines), "60000"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    (said,) = run.stdout.splitlines()
    assert "file too large" in said
    numbers, times, _ = contents(tmp_path / f"o.part{suffix}")
    assert numbers == list(range(len(numbers)))
    assert 0.5 < times[-1] < 9
    assert len(list(read_jsonl(lines))) >= len(numbers)


def test_a_disk_that_fills_at_the_end_keeps_the_part(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 20)
    copy(clip, tmp_path / "small.mp4")
    part = tmp_path / "o.part.mp4"
    part.write_bytes((tmp_path / "small.mp4").read_bytes())
    with pytest.raises(SinkError, match="holds the whole video and plays") as failure:
        finalise(part, tmp_path / "missing" / "o.mp4")
    assert "\n" not in str(failure.value)
    assert contents(part)[0] == list(range(20))


KILLED = """
import sys, time
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.video.open import open_source
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.base import parse_save
with open_source(sys.argv[1]) as s, open_sinks(
    [parse_save(out) for out in sys.argv[2:]], source=s, skeleton=COCO17
) as k:
    for f in s:
        k.write(f, Poses.empty(f.index, f.time, 17), lambda f=f: f.image)
        print(f.index, f.time, flush=True)
        time.sleep(0.004)
"""


@pytest.mark.parametrize(
    "moment", [99, *(pytest.param(one, marks=pytest.mark.slow) for one in (30, 61, 150, 201))]
)
def test_kill_leaves_all_but_the_last_second(tmp_path: Path, moment: int) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 300, fps=30, audio="aac")
    outputs = [tmp_path / f"o.{suffix}" for suffix in ("mp4", "mkv", "jsonl")]
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(clip), *map(str, outputs)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    for line in run.stdout:
        if int(line.split()[0]) >= moment:
            break
    run.send_signal(signal.SIGKILL)
    rest = run.stdout.read().splitlines()
    run.wait(timeout=10)
    last = float((rest[-1] if rest and len(rest[-1].split()) == 2 else line).split()[1])
    for suffix in ("mp4", "mkv"):
        numbers, times, _ = contents(tmp_path / f"o.part.{suffix}")
        assert numbers == list(range(len(numbers)))
        assert times[-1] >= last - 1.0
    frames = [poses.time for poses in read_jsonl(outputs[2])]
    assert frames[-1] >= last - 1.0
    assert not outputs[0].exists()
    assert not outputs[1].exists()


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.webm", "o.gif", "o.json", "o.parquet"])
def test_what_a_killed_run_left_is_named_and_replaced(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "walk.mp4", 3)
    target = parse_save(str(tmp_path / name))
    target.part.write_bytes(b"half")
    target.part.chmod(0o400)

    def write(*, overwrite: bool) -> None:
        with (
            open_source(str(clip)) as source,
            open_sinks([target], source=source, skeleton=COCO17, overwrite=overwrite) as sinks,
        ):
            for frame in source:
                sinks.write(frame, people(frame.index, frame.time, 1), lambda: stamped(0))

    with pytest.raises(SinkError, match="was left by a run that was cut off") as failure:
        write(overwrite=False)
    assert str(failure.value).startswith(f"{target.part} was left")
    assert "pass --overwrite" in str(failure.value)
    assert target.part.read_bytes() == b"half"
    write(overwrite=True)
    assert not target.part.exists()
    assert Path(target.path).stat().st_size > 4
