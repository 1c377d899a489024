"""Where a trained model comes from, for its metadata."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .. import __version__

ROOT = Path(__file__).resolve().parents[2]


def provenance(seed: int) -> dict[str, str]:
    """The version that trains, the run's seed, and the commit where there is one.

    ``commit`` ends in ``-dirty`` when tracked files were changed since; an installed package
    has none.
    """
    notes = {"hrtrack": __version__, "seed": str(seed)}
    commit = _commit(ROOT)
    return notes if commit is None else {**notes, "commit": commit}


def _commit(root: Path) -> str | None:
    # A package inside somebody else's repository must not claim its commits.
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--dirty"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
