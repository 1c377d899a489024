"""Where outputs go, and that none of them is what is read or another output."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrtrack.cli.outputs import TrackSettings, all_targets
from hrtrack.errors import UsageError

from .test_cli import fails

NOTHING = dict.fromkeys(TrackSettings.__dataclass_fields__)


def given(source: str, **options: object) -> TrackSettings:
    """The options of a run; those that are not named are not given."""
    chosen = {**NOTHING, "source": source, "save": (), "jobs": 1, **options}
    return TrackSettings(**chosen)  # type: ignore[arg-type]


def places(source: str, names: list[str], **options: object) -> list[list[str]]:
    """The paths that each of the sources is written to."""
    found = all_targets(given(source, **options), names)
    return [[f"{target.format}:{target.path}" for target in found[name]] for name in names]


def test_one_source_goes_to_files() -> None:
    saves = ("r.jsonl", "csv:people")
    assert places("a.mp4", ["a.mp4"], output="o.mp4", save=saves) == [
        ["video:o.mp4", "jsonl:r.jsonl", "csv:people"]
    ]
    assert places("12:30.mp4", ["12:30.mp4"], output="new/") == [["video:new/12:30_pose.mp4"]]
    assert places("a.mp4", ["a.mp4"], output="new") == [["video:new/a_pose.mp4"]]
    assert places("-", ["-"], output="new") == [["video:new/stdin_pose.mp4"]]
    assert places("a.mp4", ["a.mp4"], output="o.webm") == [["video:o.webm"]]
    assert places("a.mp4", ["a.mp4"], output="o.gif") == [["video:o.gif"]]


@pytest.mark.parametrize("names", [["in/a.mp4"], ["in/a.mp4", "in/b.jpg"]])
def test_a_folder_goes_to_folders_however_many_clips_it_holds(names: list[str]) -> None:
    saves = ("jsonl:res.v1", "openpose:op")
    expected = [
        ["video:new/a_pose.mp4", "jsonl:res.v1/a.jsonl", "openpose:op/a"],
        ["image:new/b_pose.png", "jsonl:res.v1/b.jsonl", "openpose:op/b"],
    ]
    found = places("in", names, output="new", save=saves)
    assert found == expected[: len(names)]
    assert places("in", names, output="new", save=saves, jobs=2) == found


def test_what_an_earlier_run_wrote_beside_its_sources_is_no_source(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.mp4", "a_pose.mp4", "b.mp4")]
    settings = given(str(tmp_path), output=str(tmp_path), jobs=2)
    assert list(all_targets(settings, names)) == [names[0], names[2]]


def test_a_glob_of_one_clip_may_go_to_a_file() -> None:
    assert places("in/*.mp4", ["in/a.mp4"], output="o.mkv", save=("r.jsonl",)) == [
        ["video:o.mkv", "jsonl:r.jsonl"]
    ]
    assert places("in/*.mp4", ["in/a.mp4"], output="video:-") == [["video:-"]]
    with pytest.raises(UsageError, match=r"videos are not written as \.avi; name"):
        places("in/*.mp4", ["in/a.mp4"], output="o.avi")


def test_a_device_takes_any_number_of_outputs() -> None:
    saves = ("jsonl:/dev/null", "csv:/dev/null")
    assert places("a.mp4", ["a.mp4"], save=saves) == [list(saves)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "{clip}"], "is an input of this run"),
        (["--source", "{folder}/other.mp4", "-o", "{clip}"], "put {{name}} in the file's name"),
        (["--source", "{folder}/b.mp4", "-o", "{folder}/{{name}}.mp4"], "is an input of this run"),
        (["--save", "jsonl:{folder}/../{name}/a.mp4"], "is an input of this run"),
        (["-o", "{folder}/link.mp4"], "is an input of this run"),
        (["--save", "{folder}/q.csv", "--save", "csv:{folder}/./q.csv"], "named twice"),
        (["-o", "{folder}/b.mp4", "--save", "video:{folder}/b.mp4"], "named twice"),
        (["--save", "-", "--save", "csv:-"], "named twice"),
        (["-o", "{folder}/o.mp4", "--token", "secret"], "--token is for --serve"),
        (["-o", "{folder}/o.mp4", "--min-score", "nan"], "not a finite number"),
        (["-o", "{folder}/o.mp4", "--stride", "0"], "--stride"),
        (["--save", "{folder}/a.docx"], "known suffixes"),
        (["-o", "{folder}/o.mp4", "--jobs", "2"], "name a folder"),
    ],
)
def test_a_run_that_would_harm_is_refused_before_it_begins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    clip, results = tmp_path / "a.mp4", tmp_path / "p.jsonl"
    clip.write_bytes(b"a clip")
    results.write_text("results\n")
    (tmp_path / "link.mp4").symlink_to(clip)
    known = {"clip": clip, "results": results, "folder": tmp_path, "name": tmp_path.name}
    given = [argument.format(**known) for argument in arguments]
    code, err = fails(capsys, "--source", str(clip), "--overwrite", *given)
    assert code == 2
    assert said.format() in err
    assert len(err.strip().splitlines()) == 1
    assert clip.read_bytes() == b"a clip"
    assert results.read_text() == "results\n"


def test_a_piece_is_not_written_over_the_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = tmp_path / "a_001.mp4"
    clip.write_bytes(b"a clip")
    given = ("-o", str(tmp_path / "a.mp4"), "--segment", "10s", "--overwrite")
    code, err = fails(capsys, "--source", str(clip), *given)
    assert code == 2
    assert "is an input of this run" in err
    assert clip.read_bytes() == b"a clip"


def test_one_file_for_several_sources_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"a clip")
    code, err = fails(capsys, "--source", str(tmp_path / "*.mp4"), "-o", str(tmp_path / "all.mp4"))
    assert code == 2
    assert "one file" in err
    assert not (tmp_path / "all.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--save", "{results}"], "is an input of this run"),
        (["--draw", "heatmaps"], "no heatmaps"),
    ],
)
def test_drawing_saved_results_is_refused_before_it_begins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    clip, results = tmp_path / "a.mp4", tmp_path / "p.jsonl"
    clip.write_bytes(b"a clip")
    results.write_text("results\n")
    given = [argument.format(results=results) for argument in arguments]
    out = str(tmp_path / "b.mp4")
    code, err = fails(capsys, "draw", str(clip), str(results), "-o", out, "--overwrite", *given)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert results.read_text() == "results\n"
