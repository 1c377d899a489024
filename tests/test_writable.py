"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrtrack.writable import atomic_write, is_unfinished, unfinished


def test_a_file_takes_its_name_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    with atomic_write(path) as part:
        part.write_bytes(b"new")
        assert not path.exists()
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("weights.bin", b"new")]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")

    def stopped() -> None:
        with atomic_write(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("weights.bin", b"old")]


def test_a_block_that_wrote_nothing_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "weights.bin"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_unfinished_file_keeps_its_suffix_last(tmp_path: Path) -> None:
    part = unfinished(tmp_path / "clip_pose.mp4")
    assert part == tmp_path / "clip_pose.part.mp4"
    assert is_unfinished(part)
    assert not is_unfinished(tmp_path / "first.part.two.mp4")
