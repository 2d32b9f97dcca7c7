"""The app as a wheel, and environments of its own to install it into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.deployment import ROOT

UV = str(Path(sys.executable).parent / "uv")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a command says; AssertionError with all of it where it fails."""
    done = subprocess.run(command, cwd=cwd, env=environment or None, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(folder: Path) -> Path:
    """Build the wheel into an empty folder."""
    run(UV, "build", "--quiet", "--wheel", "--out-dir", str(folder))
    (built,) = folder.glob("*.whl")
    return built


def install(folder: Path, *packages: str, pins: str) -> str:
    """Make an environment with these packages, in the versions of a file of this project; returns its Python."""
    run(UV, "venv", "--quiet", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    run(UV, "pip", "install", "--quiet", "--python", python, "--constraint", str(ROOT / pins), *packages)
    return python
