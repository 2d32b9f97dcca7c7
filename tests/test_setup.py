"""What `make` installs: a download that fails says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.deployment import ROOT, free_port


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


NPM = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in *" $FAILS"*) echo "npm error: no $FAILS today" >&2; exit 1;; esac
case "$*" in
    *" ci") mkdir -p "$2/node_modules" && echo {} > "$2/node_modules/.package-lock.json" ;;
    *" build") mkdir -p "$2/dist" && echo bundle > "$2/dist/graphiql.js" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make` needs to build the bundle, with an npm that does as it is told."""
    for name in ("Makefile", "web/npm.sh", "web/vite.config.js", "web/package-lock.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for path, text in {"tools/npm": NPM, "tools/node": "#!/bin/sh\n", ".venv/bin/python": "#!/bin/sh\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    return tmp_path


def build(clone: Path, target: str = "web/dist/graphiql.js", *, fails: str = "nothing") -> tuple[int, str, list[str]]:
    """Make the bundle, or another target: the exit code, what was said, and what npm was asked for."""
    log = clone / "log"
    log.write_text("")
    path = f"{clone / 'tools'}{os.pathsep}{os.environ['PATH']}"
    command = ["make", "--no-print-directory", target]
    done = subprocess.run(
        command,
        cwd=clone,
        env={"PATH": path, "LOG": str(log), "FAILS": fails},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr, [line.removeprefix("--prefix web ") for line in log.read_text().splitlines()]


def test_a_second_make_goes_on_where_the_first_stopped(clone: Path) -> None:
    code, said, asked = build(clone, fails="ci")
    assert (code != 0, asked) == (True, ["ci"])
    assert "no ci today" in said
    assert "web/node_modules/.package-lock.json could not be made: see above. The same command goes on" in said

    code, said, asked = build(clone, fails="run")
    assert (code != 0, asked) == (True, ["ci", "run --silent build"])
    assert "web/dist/graphiql.js could not be made" in said

    assert build(clone) == (0, "", ["run --silent build"])
    assert build(clone) == (0, "", [])


def test_a_changed_lock_file_is_installed_and_built_anew(clone: Path) -> None:
    build(clone)
    made = time.time() - 60
    for path in (clone / "web").rglob("*"):
        os.utime(path, (made, made))
    (clone / "web" / "package-lock.json").touch()
    assert build(clone) == (0, "", ["ci", "run --silent build"])


def test_a_bundle_that_broke_off_is_not_taken_for_one(clone: Path) -> None:
    half = "echo half > web/dist/graphiql.js; exit 1"
    npm = clone / "tools" / "npm"
    whole = npm.read_text()
    build(clone, fails="run")
    (clone / "web" / "dist").mkdir()
    npm.write_text(f"#!/bin/sh\n{half}\n")
    assert build(clone)[0] != 0
    npm.write_text(whole)
    assert build(clone) == (0, "", ["run --silent build"])


def test_serve_installs_nothing_and_says_what_to_do_instead(clone: Path) -> None:
    (clone / "requirements.txt").touch()
    code, said, asked = build(clone, "serve")
    assert (code != 0, asked) == (True, [])
    assert said.startswith("make setup first: something is not installed")

    for name in ("granian", "../run.stamp", "../texts.stamp"):
        path = clone / ".venv" / "bin" / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    assert build(clone, "serve")[0] != 0  # GraphiQL is not there
    build(clone)
    assert build(clone, "serve") == (0, "", [])

    later = time.time() + 60
    os.utime(clone / "requirements.txt", (later, later))
    assert "requirements.txt has changed since" in build(clone, "serve")[1]
