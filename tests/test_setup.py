"""What `make` installs: a download that fails says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment import ROOT, free_port


@pytest.mark.processes
@pytest.mark.parametrize("folder", ["web", "tests/audit"])
def test_npm_says_what_it_could_not_fetch(tmp_path: Path, folder: str) -> None:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(ROOT / folder / name, tmp_path)
    nowhere = {
        "npm_config_registry": f"http://127.0.0.1:{free_port()}/",
        "npm_config_cache": str(tmp_path / "cache"),
        "npm_config_fetch_retries": "0",
    }
    command = ["sh", "web/npm.sh", sys.executable, "--prefix", str(tmp_path), "ci"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode != 0
    assert "ECONNREFUSED" in done.stderr
