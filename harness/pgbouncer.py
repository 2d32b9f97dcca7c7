"""A real PgBouncer before a PostgreSQL of the tests; its connections take turns, transaction by transaction."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from harness.deployment import free_port, wait_until
from harness.postgres import Postgres

PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
"""Debian puts it where only root looks."""
CONFIGURATION = """[databases]
* = host={socket} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_round_robin = 1
"""


@contextmanager
def pgbouncer(server: Postgres) -> Iterator[str]:
    """Yields the address of the server's database by way of a PgBouncer; skips the test where there is none."""
    binary = shutil.which("pgbouncer", path=PATH)
    if binary is None:
        pytest.skip("No PgBouncer is installed here: install the package pgbouncer.")
    address, port = urlsplit(server.url), free_port()
    socket = parse_qs(address.query)["host"][0]
    url = f"postgresql://postgres:@127.0.0.1:{port}{address.path}"
    with tempfile.TemporaryDirectory(prefix="recovery-pgbouncer-") as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(socket=socket, port=port))
        # The owner of the server's socket, for nobody else may look into its folder, and root may not run this.
        owner = Path(socket).stat().st_uid
        os.chown(folder, owner, -1)
        user = owner if os.getuid() == 0 else None
        with subprocess.Popen([binary, "--quiet", str(file)], user=user) as process:
            try:
                wait_until(lambda: process.poll() is not None or _turns(url))
                assert process.poll() is None
                yield url
            finally:
                process.terminate()


def _turns(url: str) -> bool:
    """Whether it answers. Two transactions at once let it open two connections, which then take turns."""
    try:
        with psycopg.connect(url) as one, psycopg.connect(url) as other:
            return bool(one.execute("SELECT 1") and other.execute("SELECT 1"))
    except psycopg.OperationalError:
        return False
