"""Rooms keep their walls: what loads what, how imports may point, and that none go in circles."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hrtrack

HEAVY = ("torch", "openvino", "tensorrt", "tensorrt_rtx", "cv2", "scipy", "matplotlib", "av")
PACKAGE = Path(hrtrack.__file__).parent
# Single files at the top: everybody may import them, and they import one another only.
LEAVES = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
MAY_IMPORT = {
    "configs": LEAVES | {"configs"},
    "models": LEAVES | {"models"},
    "datasets": LEAVES | {"configs", "datasets"},
    "trainer": LEAVES | {"configs", "models", "trainer"},
    "actions": LEAVES | {"configs", "models", "trainer", "actions"},
    "evaluation": LEAVES | {"configs", "models", "datasets", "evaluation"},
    "export": LEAVES | {"configs", "models", "actions", "export"},
    "tracker": LEAVES | {"models", "actions", "tracker"},
    "train": LEAVES | {"configs", "models", "datasets", "evaluation", "trainer", "train"},
}


@pytest.mark.parametrize(
    "statement",
    [
        "import hrtrack",
        "from hrtrack.cli.main import hrtrack",
        "from hrtrack import HrtrackError, Poses, Skeleton, read_results, to_dataframe",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    program = f"{statement}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr


def test_the_tracker_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import hrtrack.tracker.api, hrtrack.actions.tagger, hrtrack.cli.track\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def name_of(path: Path) -> str:
    """The module's name: ``hrtrack.models.zoo``."""
    parts = ("hrtrack", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(name: str) -> Iterator[str]:
    """The modules of hrtrack that a module imports, wherever the import stands.

    Imports inside functions and for type checkers count too: whoever reads one of two files that
    name each other has to read both.
    """
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parts if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in MODULES:
                    yield inner
                elif base in MODULES:
                    yield base


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_one_way(room: str) -> None:
    names = [name for name in MODULES if room_of(name) == room]
    assert names, f"there is no room {room}"
    for name in names:
        wrong = {room_of(other) for other in imports_of(name)} - MAY_IMPORT[room] - {""}
        assert not wrong, f"{name} imports {sorted(wrong)}"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_single_files_import_no_room(leaf: str) -> None:
    wrong = {room_of(other) for other in imports_of(f"hrtrack.{leaf}")} - LEAVES
    assert not wrong, f"{leaf} imports {sorted(wrong)}"


def test_every_room_has_its_rule() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders - {"cli"} == set(MAY_IMPORT)  # only cli knows every room


def test_no_circles() -> None:
    # The package itself is left out: its face offers the tracker, whose files ask for its version.
    graph = {
        name: {other for other in imports_of(name) if other not in (name, "hrtrack")}
        for name in MODULES
        if name != "hrtrack"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("files import each other: " + " -> ".join(reversed(error.args[1])))


def test_private_names_stay_in_their_file() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (
                node.level or "hrtrack" in (node.module or "")
            ):
                private = [a.name for a in node.names if re.match("_[^_]", a.name)]
                assert not private, f"{name} imports {private} from {node.module}"
