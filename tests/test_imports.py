"""Rooms keep their walls: what loads what, and how imports may point."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hrtrack

HEAVY = ("torch", "openvino", "tensorrt", "tensorrt_rtx", "cv2", "scipy", "matplotlib", "av")
PACKAGE = Path(hrtrack.__file__).parent
LEAVES = {
    "errors",
    "skeleton",
    "poses",
    "geometry",
    "writable",
    "interrupt",
    "pyav",
    "shown",
    "pictures",
}
MAY_IMPORT = {
    "models": LEAVES | {"models"},
    "configs": {"errors", "skeleton", "configs"},
    "export": LEAVES | {"models", "configs", "export"},
    "tracker": LEAVES | {"models", "configs", "tracker"},
    "train": LEAVES | {"models", "configs", "train"},
}


@pytest.mark.parametrize("statement", ["import hrtrack", "from hrtrack.cli.main import hrtrack"])
def test_nothing_heavy_is_loaded(statement: str) -> None:
    program = f"{statement}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr


def test_the_tracker_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import hrtrack.tracker.api, hrtrack.tracker.act, hrtrack.cli.track\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def imported_rooms(path: Path) -> set[str]:
    """The rooms of hrtrack that a file imports from, wherever the import stands."""
    rooms = set()
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[: len(parts) - node.level])
            target = base + (node.module.split(".") if node.module else [])
            if target:
                rooms.add(target[0])
            else:
                rooms.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hrtrack."):
            rooms.add((node.module or "").split(".")[1])
    return rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        wrong = imported_rooms(path) - MAY_IMPORT[room] - {"__version__"}
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}"


def test_files_stay_short() -> None:
    for path in PACKAGE.rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 350, f"{path.relative_to(PACKAGE)} has {lines} lines"
    assert len((PACKAGE / "tracker" / "loop.py").read_text().splitlines()) < 150
