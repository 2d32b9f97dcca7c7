"""Runs the Node tools of tests/audit, which `make test` installs there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.deployment import ROOT

AUDIT = ROOT / "tests" / "audit"


def npm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of tests/audit/package.json; where its packages are missing, fail and say what installs them."""
    if not (AUDIT / "node_modules").is_dir():
        pytest.fail("The Node tools are not installed here: run `make test` once.")
    command = ["sh", "web/npm.sh", sys.executable, "--prefix", str(AUDIT), "run", "--silent", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
