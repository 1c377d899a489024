import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trackers")

from hrtrack.cli import main
from hrtrack.cli.evaluate import saved_tracks
from hrtrack.errors import DataError
from hrtrack.evaluation.metrics.tracking import Frame, compare_boxes, score, score_joints
from hrtrack.evaluation.tracks import evaluate_tracks
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import FORMATS, READABLE, parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.results.read import read_results, saved_results
from hrtrack.tracker.video.open import open_source

from ...tracker.clips import make_clip
from ...tracker.files import save_to

HERE = [[0.0, 0.0, 10.0, 20.0], [100.0, 0.0, 110.0, 20.0]]


def people(ids: list[int], boxes: list[list[float]] | None = None) -> Frame:
    chosen = HERE[: len(ids)] if boxes is None else boxes
    return Frame(np.array(ids, np.int64), np.array(chosen, np.float64).reshape(-1, 4))


def test_perfect_tracks() -> None:
    frames = [people([1, 2])] * 5
    result = score([compare_boxes(frames, [people([7, 9])] * 5)])
    assert (result.mota, result.idf1, result.hota) == pytest.approx((1, 1, 1))
    assert (result.switches, result.fragmentations) == (0, 0)


def test_one_switch_by_hand() -> None:
    # One person, four frames; the ID changes from 7 to 8 after the second.
    truth = [people([1])] * 4
    result = score([compare_boxes(truth, [people([7])] * 2 + [people([8])] * 2)])
    assert result.switches == 1
    assert result.mota == pytest.approx(1 - 1 / 4)
    # Identity: the better of the two IDs explains 2 of 4 boxes; 2 are false, 2 missed.
    assert result.idf1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    # HOTA: every box found, and each shares 2 of the 4 + 2 - 2 boxes of its pair of tracks.
    assert result.hota == pytest.approx(np.sqrt(1.0 * 2 / 4))


def test_misses_false_boxes_and_a_fragment_by_hand() -> None:
    # Two people, four frames: one is missed in the second frame, a false box in the third.
    truth = [people([1, 2])] * 4
    found = [
        people([1, 2]),
        people([1]),
        people([1, 2, 3], [*HERE, [500.0, 0.0, 510.0, 20.0]]),
        people([1, 2]),
    ]
    result = score([compare_boxes(truth, found)])
    assert (result.misses, result.false_positives, result.switches) == (1, 1, 0)
    assert result.fragmentations == 1
    assert result.mota == pytest.approx(1 - 2 / 8)


def test_ids_of_two_clips_are_different_people() -> None:
    one = compare_boxes([people([1])] * 3, [people([1])] * 3)
    other = compare_boxes([people([1])] * 3, [people([5])] * 3)
    result = score([one, other])
    assert (result.switches, result.idf1) == (0, pytest.approx(1))


def test_a_joint_counts_within_half_a_head() -> None:
    # Head size 20: the wrist may be 10 pixels off. In two of four frames it is 12 off, which
    # is a miss and a false joint each: 1 - (2 + 2) / 4. The nose is always right.
    def one(offset: float) -> Frame:
        points = np.array([[[5.0, 5.0], [5.0 + offset, 15.0]]])
        return Frame(
            np.array([1]), np.array([HERE[0]]), points, np.ones((1, 2), bool), np.array([20.0])
        )

    truth, found = [one(0)] * 4, [one(9), one(12), one(-12), one(9)]
    result = score_joints([(truth, found)], ["nose", "wrist"])
    assert result == pytest.approx({"nose": 1.0, "wrist": 0.0, "mean": 0.5})


def evaluate_files(truth: Path, results: Path) -> dict[str, float | int]:
    return evaluate_tracks(truth, saved_tracks(saved_results(results)), str(results))


def posetrack(path: Path, frames: int) -> None:
    names = ["nose", "head_bottom", "head_top", "left_wrist"]
    data: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    data["categories"] = [{"id": 1, "name": "person", "keypoints": names}]
    for i in range(frames):
        name = f"images/{i:06d}.jpg"
        data["images"].append({"id": 100 + i, "frame_id": 900 + i, "file_name": name})
        data["annotations"].append(
            {
                "image_id": 100 + i, "track_id": 0, "bbox": [10, 10, 40, 80],
                "bbox_head": [20, 10, 12, 16],
                "keypoints": [26, 18, 1, 26, 26, 1, 26, 10, 1, 40, 50, 1],
            }
        )  # fmt: skip
    path.write_text(json.dumps(data))


def jsonl(path: Path, ids: list[int], wrist: float) -> None:
    lines = []
    for i, person in enumerate(ids):
        points = [[0.0, 0.0, 0.0]] * len(COCO17)
        points[COCO17.index("nose")] = [26, 18, 0.9]
        points[COCO17.index("left_wrist")] = [wrist, 50, 0.9]
        one = {"id": person, "score": 0.9, "box": [10, 10, 50, 90], "keypoints": points}
        lines.append({"frame": i, "time": i / 30, "skeleton": "coco17", "people": [one]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_posetrack_truth_against_jsonl(tmp_path: Path) -> None:
    posetrack(tmp_path / "truth.json", 4)
    jsonl(tmp_path / "found.jsonl", [3, 3, 4, 4], wrist=47)
    found = evaluate_files(tmp_path / "truth.json", tmp_path / "found.jsonl")
    assert found["ID switches"] == 1
    assert found["MOTA"] == pytest.approx(0.75)
    # The head is 0.6 * 20 = 12 pixels: 7 pixels off is too far. The nose loses the switch only.
    assert found["MOTA nose"] == pytest.approx(0.75)
    assert found["MOTA left_wrist"] == pytest.approx(-1.0)
    assert "MOTA head_top" not in found


def test_mot_truth_against_mot(tmp_path: Path) -> None:
    rows = ["1,1,0,0,10,20,1,1,1", "2,1,0,0,10,20,1,1,1", "2,2,50,0,10,20,0,1,1",
            "3,1,0,0,10,20,1,1,1", "3,9,80,0,30,20,1,3,1"]  # fmt: skip
    (tmp_path / "gt.txt").write_text("\n".join(rows))
    (tmp_path / "out.txt").write_text(
        "1,5,0,0,10,20,0.9,-1,-1,-1\n3,5,0,0,10,20,0.9,-1,-1,-1\n3,6,200,0,10,20,0.9,-1,-1,-1\n"
    )
    found = evaluate_files(tmp_path / "gt.txt", tmp_path / "out.txt")
    assert (found["misses"], found["false positives"], found["frames"]) == (1, 1, 3)
    assert found["MOTA"] == pytest.approx(1 - 2 / 3)


def test_only_labelled_frames_count(tmp_path: Path) -> None:
    """Whatever numbers a truth of some frames carries, it is held against those of the results."""
    jsonl(tmp_path / "found.jsonl", [3] * 10, wrist=40)
    posetrack(tmp_path / "truth.json", 10)
    whole = json.loads((tmp_path / "truth.json").read_text())
    first = 10_003_420_000  # PoseTrack's own
    for kept, ids in (
        (range(10), range(900, 910)),  # every frame, whatever its numbers
        (range(0, 10, 2), range(0, 10, 2)),
        (range(5, 10), range(5, 10)),
        (range(10), range(1, 11)),
        (range(3, 7), range(first + 3, first + 7)),
    ):
        images = [whole["images"][i] | {"frame_id": n} for i, n in zip(kept, ids, strict=True)]
        if ids[0] == 900:
            images[0]["nframes"] = 10
        for image in images if ids[0] in (0, 1) else ():
            del image["file_name"]
        some = whole | {"images": images}
        # Each frame has the person elsewhere, so that a shift would show.
        for line, person in enumerate(whole["annotations"]):
            person["bbox"][0] = 60 * line
        some["annotations"] = whole["annotations"]
        (tmp_path / "some.json").write_text(json.dumps(some))
        moved = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
        for line in moved:
            line["people"][0]["box"] = [60 * line["frame"], 10, 60 * line["frame"] + 40, 90]
        (tmp_path / "moved.jsonl").write_text("".join(json.dumps(m) + "\n" for m in moved))
        found = evaluate_files(tmp_path / "some.json", tmp_path / "moved.jsonl")
        assert found["frames"] == len(kept)
        assert found["MOTA"] == 1.0, ids


ROW = "1,1,0,0,10,20,1,1,1"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "1,1,nan,0,10,20,1"),
        ("a.txt", "inf,1,0,0,10,20,1"),
        ("a.txt", "1,1,,0,10,20,1"),
        ("a.txt", "1.5,1,0,0,10,20,1"),
        ("a.txt", "0,1,0,0,10,20,1"),
        ("a.txt", "1,1,0,0,-10,20,1"),
        ("a.txt", "1,1,0,0,10,20,1,nan"),
        ("a.txt", f"{ROW}\n{ROW}"),
        ("a.txt", "99999999,1,0,0,10,20,1"),
        ("a.txt", ""),
    ],
)
def test_mot_truth_that_cannot_be(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "found.txt").write_text(ROW)
    with pytest.raises(DataError) as caught:
        evaluate_files(tmp_path / name, tmp_path / "found.txt")
    assert "\n" not in str(caught.value)


def test_late_frames_of_results_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text(ROW + "\n")
    (tmp_path / "found.txt").write_text(f"{ROW}\n2000000000,1,0,0,10,20,1")
    assert evaluate_files(tmp_path / "gt.txt", tmp_path / "found.txt")["MOTA"] == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"box": [0, 0, float("nan"), 5]},
        {"id": 10**23},
        {"keypoints": []},
        {"keypoints": [[1.0, 2.0]] * len(COCO17)},
        {"keypoints": [[1.0, 2.0, 0.5]]},
    ],
)
def test_results_that_cannot_be(tmp_path: Path, change: dict[str, object]) -> None:
    posetrack(tmp_path / "truth.json", 1)
    jsonl(tmp_path / "found.jsonl", [1], wrist=40)
    line = json.loads((tmp_path / "found.jsonl").read_text())
    line["people"][0] |= change
    (tmp_path / "found.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="line 1"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "found.jsonl")


def test_lines_twice_and_lines_cut_off(tmp_path: Path) -> None:
    posetrack(tmp_path / "truth.json", 2)
    jsonl(tmp_path / "found.jsonl", [1, 1], wrist=40)
    good = (tmp_path / "found.jsonl").read_text()
    (tmp_path / "cut.jsonl").write_text(good + '{"frame": 2, "peo')
    assert evaluate_files(tmp_path / "truth.json", tmp_path / "cut.jsonl")["MOTA"] == 1.0
    (tmp_path / "twice.ndjson").write_text(good + good.splitlines()[0] + "\n")
    with pytest.raises(DataError, match="frame 0 is there already"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "twice.ndjson")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no frame"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "empty.jsonl")
    for name in ("truth.json", "found.jsonl"):
        (tmp_path / f"bom.{name}").write_text((tmp_path / name).read_text(), encoding="utf-8-sig")
    assert evaluate_files(tmp_path / "bom.truth.json", tmp_path / "bom.found.jsonl")["MOTA"] == 1.0


def test_the_figures_are_json_and_replace_no_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    posetrack(tmp_path / "truth.json", 1)
    data = json.loads((tmp_path / "truth.json").read_text())
    data["annotations"][0]["keypoints"] = [0, 0, 0] * 4  # no joint is labelled
    (tmp_path / "truth.json").write_text(json.dumps(data))
    jsonl(tmp_path / "found.jsonl", [1], wrist=40)
    words = ["eval", "tracking", "--truth", str(tmp_path / "truth.json")]
    words += ["--results", str(tmp_path / "found.jsonl"), "--json"]
    before = (tmp_path / "truth.json").read_text()
    with pytest.raises(SystemExit) as stop:
        main([*words, str(tmp_path / "truth.json")])
    assert stop.value.code == 2
    assert "would replace what is read" in capsys.readouterr().err
    assert (tmp_path / "truth.json").read_text() == before
    with pytest.raises(SystemExit) as stop:
        main([*words, str(tmp_path / "figures.json")])
    assert stop.value.code in (0, None)
    assert "NaN" not in (tmp_path / "figures.json").read_text()


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text('{"pictures": []}')
    (tmp_path / "truth.txt").write_text("hello, world")
    jsonl(tmp_path / "found.jsonl", [1], wrist=40)
    for name in ("truth.json", "truth.txt", "absent.json"):
        with pytest.raises(DataError):
            evaluate_files(tmp_path / name, tmp_path / "found.jsonl")
    posetrack(tmp_path / "good.json", 1)
    (tmp_path / "cut.jsonl").write_text('{"frame": 0, "peo')
    with pytest.raises(DataError, match="holds no frame"):
        evaluate_files(tmp_path / "good.json", tmp_path / "cut.jsonl")


@pytest.mark.parametrize("form", READABLE)
def test_every_readable_format_is_measured(form: str, tmp_path: Path) -> None:
    posetrack(tmp_path / "truth.json", 4)
    jsonl(tmp_path / "found.jsonl", [3, 3, 4, 4], wrist=47)
    expected = evaluate_files(tmp_path / "truth.json", tmp_path / "found.jsonl")
    save = save_to(tmp_path, form)
    with (
        open_source(str(make_clip(tmp_path / "walk.mp4", 4))) as source,
        open_sinks([parse_save(save)], source=source, skeleton=COCO17) as sinks,
    ):
        for frame, poses in zip(source, read_results(tmp_path / "found.jsonl"), strict=True):
            sinks.write(frame, poses, lambda image=frame.image: image)  # type: ignore[misc]
    found = evaluate_files(tmp_path / "truth.json", Path(save))
    if "boxes" not in FORMATS[form].lacks:
        assert found["ID switches"] == 1
        assert found["MOTA"] == expected["MOTA"]
    if not {"joints", "boxes"} & {*FORMATS[form].lacks}:
        assert found["MOTA nose"] == expected["MOTA nose"]
        assert found["MOTA left_wrist"] == expected["MOTA left_wrist"]


def test_mot_text_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,0,0,10,20,1,1,1\n2,1,0,0,10,20,1,1,1\n")
    (tmp_path / "blanks.txt").write_text("1.0 5 0 0 10 20\n\n2 5 0 0 10 20\n")
    assert evaluate_files(tmp_path / "gt.txt", tmp_path / "blanks.txt")["MOTA"] == 1.0
    for row in ("1,1,0,0,-10,20,1", "1,1,nan,0,10,20,1", "1.5,1,0,0,10,20,1"):
        (tmp_path / "bad.txt").write_text(row)
        with pytest.raises(DataError, match="bad"):
            evaluate_files(tmp_path / "gt.txt", tmp_path / "bad.txt")
