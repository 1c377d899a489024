"""Which model to take: by one measured rate, the published cost and the published accuracy."""

from __future__ import annotations

import json

import pytest

from hrtrack.cli import main
from hrtrack.models import zoo
from hrtrack.models.recommend import SHARE, Candidate, candidates, choose, gmacs_a_second


def found(rate: float, skeleton: str = "coco17") -> list[Candidate]:
    return candidates(zoo.entries(), skeleton, rate, 5.0)


def test_cost_over_rate_and_the_most_accurate_first() -> None:
    ranked = found(100.0)
    by_name = {each.entry.name: each for each in ranked}
    assert by_name["rtmpose_m_coco_256x192"].milliseconds == pytest.approx(19.3)
    assert not by_name["rtmpose_m_coco_256x192"].measured
    assert (by_name["body_fast"].milliseconds, by_name["body_fast"].measured) == (5.0, True)
    scores = [each.entry.score for each in ranked]
    assert scores == sorted(scores, reverse=True)
    # Figures by another measure, without a figure, and of other joints cannot be compared.
    assert not {"rtmpose_l_humanart_256x192", "hrnet_w32_coco_256x192"} & set(by_name)
    assert {each.entry.skeleton for each in ranked} == {"coco17"}
    assert gmacs_a_second(1.23) == pytest.approx(1000.0)


@pytest.mark.parametrize("people", [1, 4])
@pytest.mark.parametrize("rate", [50.0, 1000.0, 1e6])
def test_the_choice_keeps_up_and_no_better_one_does(rate: float, people: int) -> None:
    ranked = found(rate)
    best = choose(ranked, people, 30.0)
    assert best is not None
    budget = SHARE * 1000 / 30 / people
    better = [each for each in ranked if each.milliseconds <= budget]
    if better:
        assert best in better
        assert best.entry.score == max(each.entry.score or 0 for each in better)
    else:
        assert best.milliseconds == min(each.milliseconds for each in ranked)


def test_more_speed_never_means_less_accuracy() -> None:
    scores = []
    for rate in (20.0, 200.0, 2000.0, 1e5):
        best = choose(found(rate), 2, 30.0)
        assert best is not None
        scores.append(best.entry.score or 0.0)
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_none_of_none() -> None:
    assert found(100.0, "nobody") == []
    assert choose([], 1, 30.0) is None


@pytest.mark.slow
def test_the_command_measures_and_recommends_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", "--recommend", "--people", "1", "--json"])
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    own = next(row for row in rows if row["name"] == "body_fast")
    assert own["measured"]
    assert 0 < own["milliseconds"] < 10_000
    assert sum(row["recommended"] for row in rows) == 1
    with pytest.raises(SystemExit) as ended:
        main(["models", "--recommend", "--skeleton", "octopus"])
    assert ended.value.code != 0
    assert "predicts the skeleton 'octopus'" in capsys.readouterr().err


def test_the_table_names_sources_and_what_was_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models"])
    lines = capsys.readouterr().out.splitlines()
    head = lines[0].split()
    assert head[:5] == ["NAME", "TASK", "SKELETON", "INPUT", "ACCURACY"]
    row = next(line for line in lines if line.startswith("rtmpose_m_coco_256x192"))
    number = row.split("[")[1].split("]")[0]
    assert "74.9 AP COCO val2017" in row
    assert "not published" in row
    assert "not run" in row
    assert f"[{number}] mmpose projects/rtmpose/README.md" in lines
    with pytest.raises(SystemExit):
        main(["models", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(zoo.entries())
    assert next(row for row in rows if row["name"] == "body_fast")["bytes"] > 1e6
