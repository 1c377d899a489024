"""What README and the guides tell people to type works, on the demo's clip, page by page.

A block of commands that cannot run here says why in a comment above it, ``<!-- not run: ... -->``;
of its commands only the names of the options are looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import click
import pytest

from hrtrack.cli import main
from hrtrack.cli.demo import pictures
from hrtrack.cli.main import hrtrack as group
from hrtrack.tracker import bench_streams

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?"
    r"(?P<indent>[ ]*)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)\n[ ]*```",
    re.DOTALL,
)
EVERY = 10
"""The clip has every tenth frame of the demo's, at its own pace, to be quick."""


@dataclass(frozen=True)
class Block:
    """One block of a page; ``why`` it is not run."""

    language: str
    text: str
    why: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(one["language"], one["text"], one["why"]) for one in found]


def commands(block: Block) -> list[str]:
    """The lines of a block, those that a backslash carries on put together."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(25, EVERY))
        stream.width, stream.height, stream.pix_fmt = 854, 480, "yuv420p"
        for image in islice(pictures(), 0, None, EVERY):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode())
    return path


@pytest.fixture
def folder(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the demo's clip, in which ``hrtrack`` is a command."""
    work, tools = tmp_path / "work", tmp_path / "tools"
    work.mkdir()
    tools.mkdir()
    shutil.copy(clip, work)
    script = tools / "hrtrack"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hrtrack "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(work)
    # Of a measurement of streams only the command matters here, not its figures.
    monkeypatch.setattr(bench_streams, "WARM_UP", 0.1)
    monkeypatch.setattr(bench_streams, "REHEARSAL", 0.1)
    monkeypatch.setattr(bench_streams, "ROUNDS", 1)
    return work


def test_pages_have_commands_and_snippets() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    run = [block for block in every if block.why is None]
    assert sum(block.language == "sh" for block in run) >= 10
    assert sum(block.language == "python" for block in run) >= 5
    readme = {block.language for block in blocks(ROOT / "README.md") if block.why is None}
    assert readme >= {"sh", "python"}
    # A shell block without its language would be overlooked.
    for page in PAGES:
        assert not re.search(r"```\n\s*(hrtrack|pip|python) ", page.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.why is None for b in blocks(page))], ids=named
)
def test_a_page_runs_from_top_to_bottom(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.why is not None:
            continue
        if block.language == "python":
            exec(compile(block.text, named(page), "exec"), {"__name__": "__main__"})
        if block.language == "sh":
            for command in commands(block):
                run(command)


def run(command: str) -> None:
    """Runs one line; the demo itself has a test of its own, and its clip is here already."""
    words = shlex.split(command, comments=True)
    if words == ["hrtrack", "demo"]:
        return
    if words[0] == "hrtrack" and not set(words) & {"|", "&", ">"}:
        with pytest.raises(SystemExit) as stop:
            main(words[1:])
        assert not stop.value.code, command
        return
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    subprocess.run(["bash", "-euc", command], check=True, timeout=120, stdout=subprocess.DEVNULL)


def of_hrtrack() -> list[tuple[str, str]]:
    return [
        (named(page), line)
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for line in commands(block)
        if re.search(r"(^|\| )hrtrack ", line)
    ]


def test_all_options_that_pages_name_exist() -> None:
    lines = of_hrtrack()
    assert len(lines) > 50
    wrong = []
    for page, line in lines:
        words = shlex.split(line, comments=True)
        words = words[words.index("hrtrack") + 1 :]
        command: click.Command = group
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {
            name
            for one in command.params
            if not getattr(one, "hidden", False)  # an old spelling
            for name in (*one.opts, *one.secondary_opts)
        }
        for word in words:
            if word in ("|", "&"):
                break
            if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known | {"--help"}:
                wrong.append(f"{page}: {word} in {line}")
    assert not wrong, "\n".join(wrong)
