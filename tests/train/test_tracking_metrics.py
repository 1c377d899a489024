import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trackers")

from hrtrack.errors import DataError
from hrtrack.skeleton import COCO17
from hrtrack.train.metrics.tracking import Frame, compare_boxes, score, score_joints
from hrtrack.train.metrics.tracking_files import evaluate_files

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


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text('{"pictures": []}')
    (tmp_path / "truth.txt").write_text("hello, world")
    jsonl(tmp_path / "found.jsonl", [1], wrist=40)
    for name in ("truth.json", "truth.txt", "absent.json"):
        with pytest.raises(DataError):
            evaluate_files(tmp_path / name, tmp_path / "found.jsonl")
    posetrack(tmp_path / "good.json", 1)
    (tmp_path / "cut.jsonl").write_text('{"frame": 0, "peo')
    with pytest.raises(DataError, match="line 1"):
        evaluate_files(tmp_path / "good.json", tmp_path / "cut.jsonl")
