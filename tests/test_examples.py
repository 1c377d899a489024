"""Every recipe in examples/ runs, has at most 15 lines of code, and does what it says."""

from __future__ import annotations

import ast
import io
import json
import runpy
import sys
import threading
import time
import tokenize
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from hrtrack import Skeleton, Tracker
from hrtrack.models.info import from_metadata
from hrtrack.models.zoo import resolve
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.video.open import open_source

from .clips import canvas, count_frames, moving_portrait

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FRAMES = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_portrait(tmp_path_factory.mktemp("examples") / "clip.mp4", FRAMES)


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> dict[str, Any]:
    """Runs a recipe as a script would be."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def cells() -> list[str]:
    """The code of the notebook's cells, without what only a notebook understands."""
    content = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in content["cells"])
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def lines_of_code(text: str) -> int:
    """Lines that are neither empty nor a comment nor the module's docstring."""
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
               tokenize.ENDMARKER)  # fmt: skip
    found = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in nothing
        for line in range(token.start[0], token.end[0] + 1)
    }
    first = ast.parse(text).body[0]
    if isinstance(first, ast.Expr):
        found -= set(range(1, (first.end_lineno or 0) + 1))
    return len(found)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.*")))
def test_a_recipe_has_at_most_fifteen_lines(name: str) -> None:
    path = EXAMPLES / name
    text = "\n".join(cells()) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    assert 0 < lines_of_code(text) <= 15


def test_every_recipe_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.*"):
        assert f'"{path.name}"' in text, path.name


def row_of(task: str) -> list[str]:
    """The cells of a task's row in the table of programs of docs/comparison.md."""
    text = (EXAMPLES.parent / "docs/comparison.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if f"`{task}_" in line)
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("task", ["video", "picture", "table", "cameras", "knee"])
def test_the_comparison_counts_its_programs(task: str) -> None:
    """Lines as the page counts them: formatted, without comments, docstring and empty lines."""
    peers = ("hrtrack", "rtmlib", "supervision", "mediapipe")
    for peer, cell in zip(peers, row_of(task)[1:], strict=True):
        program = EXAMPLES / "compare" / f"{task}_{peer}.py"
        if program.exists():
            assert cell.split()[0].rstrip(",") == str(
                lines_of_code(program.read_text(encoding="utf-8"))
            )
        else:
            assert not cell[:1].isdigit()


@pytest.mark.slow
def test_our_programs_of_the_comparison(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    out, table, photo = tmp_path / "out.mp4", tmp_path / "out.csv", tmp_path / "photo.png"
    cv2.imwrite(str(photo), canvas(60)[..., ::-1])
    other = moving_portrait(tmp_path / "other.mp4", FRAMES)
    run(monkeypatch, "compare/video_hrtrack.py", clip, out)
    assert count_frames(out) == FRAMES
    run(monkeypatch, "compare/table_hrtrack.py", clip, table)
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0][:4] == ["frame", "time", "id", "joint"]
    assert sum(row[2] == "1" for row in rows) == 17 * FRAMES
    capsys.readouterr()
    run(monkeypatch, "compare/picture_hrtrack.py", photo)
    assert len(capsys.readouterr().out.splitlines()) >= 17
    run(monkeypatch, "compare/knee_hrtrack.py", clip)
    lines = capsys.readouterr().out.splitlines()
    assert sum("s: person 1, " in line for line in lines) == FRAMES
    assert lines[0].startswith("0.00 s: person 1, ")
    run(monkeypatch, "compare/cameras_hrtrack.py", clip, other)
    said = capsys.readouterr().out  # identities depend on the clock, as for cameras
    assert min(said.count(f"{clip} "), said.count(f"{other} ")) >= FRAMES


def test_opencv_loop(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    run(monkeypatch, "opencv_loop.py", clip, out)
    assert count_frames(out) == FRAMES
    assert capsys.readouterr().out.startswith("0 1 ")


def test_two_cameras(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = moving_portrait(tmp_path / "other.mp4", FRAMES, fps=10)
    run(monkeypatch, "two_cameras.py", clip, other)
    for line, name in zip(capsys.readouterr().out.splitlines(), (clip, other), strict=True):
        found, people = line.removesuffix(" people").split(": ")
        assert found == str(name)
        assert int(people) >= 1


def test_callback() -> None:
    sent: list[str] = []
    node = runpy.run_path(str(EXAMPLES / "callback.py"))["PoseNode"](sent.append)
    for step in range(3):
        image = canvas(60 + 4 * step)[..., ::-1]
        node.on_image(1e9 + step / 25, *image.shape[:2], image.tobytes())
    node.tracker.close()
    frames = [json.loads(text) for text in sent]
    assert [frame["time"] for frame in frames] == [1e9, 1e9 + 0.04, 1e9 + 0.08]
    assert [frame["people"][0]["id"] for frame in frames] == [1, 1, 1]


def test_fastapi_endpoint() -> None:
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    recipe = runpy.run_path(str(EXAMPLES / "fastapi_endpoint.py"))
    server = uvicorn.Server(uvicorn.Config(recipe["app"], port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        address = f"http://127.0.0.1:{port}/poses"
        photo = cv2.imencode(".jpg", canvas(60)[..., ::-1])[1].tobytes()
        with urllib.request.urlopen(urllib.request.Request(address, photo)) as answer:
            found = json.load(answer)
        assert found["skeleton"] == "coco17"
        assert found["people"][0]["id"] == 1
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(address, b"no picture"))
        assert error.value.code == 422
        assert "not a picture" in json.load(error.value)["detail"]
    finally:
        server.should_exit = True
        thread.join()
        recipe["tracker"].close()


def test_pandas_table(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    results = tmp_path / "results.jsonl"
    with (
        Tracker() as tracker,
        open_source(str(clip)) as source,
        open_sinks([parse_save(str(results))], source=source, skeleton=COCO17) as sinks,
    ):
        pipeline = tracker.pipeline()
        for frame in source:
            sinks.write(frame, pipeline.step(frame), lambda image=frame.image: image)  # type: ignore[misc]
    table = run(monkeypatch, "pandas_table.py", results)["table"]
    assert (table.id == 1).sum() == 17 * FRAMES
    assert "pixels a second" in capsys.readouterr().out


def test_knee_angle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Legs bent by known angles give these angles, and a joint with a low score a gap."""
    pytest.importorskip("pandas")
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    bends, lines = [180.0, 150.0, 120.0, 90.0, 60.0, 30.0], []
    for frame, bend in enumerate(bends):
        people = []
        for number, turn in ((1, 0.3), (2, -2.0)):
            toward = np.array([turn, turn + np.deg2rad(bend)])
            hip, ankle = 200 + np.stack([np.cos(toward), np.sin(toward)], 1) * [[40], [30]]
            leg = {"left_hip": hip, "left_knee": (200, 200), "left_ankle": ankle}
            joints = [[*leg.get(name, (0, 0)), 0.9] for name in COCO17.joints]
            if (number, frame) == (2, 3):
                joints[COCO17.joints.index("left_ankle")][2] = 0.2
            people.append({"id": number, "score": 0.9, "box": [0, 0, 300, 300],
                           "keypoints": joints, "action": None})  # fmt: skip
        lines.append({"frame": frame, "time": frame / 50, "skeleton": "coco17", "people": people})
    text = "".join(f"{json.dumps(line, default=float)}\n" for line in lines)
    (tmp_path / "results.jsonl").write_text(text, encoding="utf-8")
    run(monkeypatch, "knee_angle.py", "results.jsonl")
    head, *rows = (tmp_path / "knee.csv").read_text().splitlines()
    assert head == "time,1,2"
    table = [[float(cell or "nan") for cell in row.split(",")] for row in rows]
    expected = [[frame / 50, bend, bend] for frame, bend in enumerate(bends)]
    expected[3][2] = float("nan")
    np.testing.assert_allclose(table, expected, atol=1e-3)  # coordinates are float32
    picture = cv2.imread(str(tmp_path / "knee.png"))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2


def test_supervision_zone(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("supervision")
    run(monkeypatch, "supervision_zone.py", clip, tmp_path / "out.png")
    assert len(capsys.readouterr().out.splitlines()) == FRAMES
    scene = cv2.imread(str(tmp_path / "out.png"))
    assert scene is not None
    assert scene.shape == (360, 640, 3)


def test_custom_keypoints(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"point_{number}" for number in range(17))
    own = Skeleton("mine", names, COCO17.limbs, COCO17.flip_pairs, COCO17.sigmas)
    model = onnx.load(resolve("body_fast"))
    told = {entry.key: entry.value for entry in model.metadata_props}
    info = from_metadata(told, "body_fast")
    assert info is not None
    onnx.helper.set_model_props(model, told | replace(info, skeleton=own).metadata())
    onnx.save(model, tmp_path / "mine.onnx")
    run(monkeypatch, "custom_keypoints.py", tmp_path / "mine.onnx", clip)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"joints: {', '.join(names)}"
    assert sum(" of 1 at " in line for line in out) == 17 * FRAMES
    assert out[1].startswith("0.00 s: point_0 of 1 at ")


def test_notebook(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code cells of "notebook.ipynb", one after the other."""
    pytest.importorskip("pandas")
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(clip.parent)
    shared: dict[str, Any] = {}
    for source in cells():
        exec(source, shared)
    assert len(shared["results"]) == FRAMES
    assert shared["picture"].shape == (360, 640, 3)
    assert len(shared["noses"]) == FRAMES
