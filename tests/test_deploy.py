"""deploy/: the image holds what a server needs, and the compose file says nothing that nobody reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.deployment import ROOT
from tests.test_environment import PRODUCTION

DEPLOY = ROOT / "deploy"
COPY = re.compile(r"^COPY (?!--from)(.+) (\S+)$", re.MULTILINE)


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The last stage of the image, as a folder."""
    last = (DEPLOY / "Containerfile").read_text().rpartition("\nFROM ")[2]
    for sources, target in COPY.findall(last):
        for source in sources.split():
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    return tmp_path


def test_what_the_image_copies_is_enough(image: Path) -> None:
    for arguments in (["check", "--deploy", "--fail-level", "ERROR"], ["collectstatic", "--no-input"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=image,
            env=PRODUCTION,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (image / "var" / "static" / "account_recovery").is_dir()
    served = subprocess.run(
        [sys.executable, "-c", "import backend.asgi"],
        cwd=image,
        env={**PRODUCTION, "MAIL_DISPATCH": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert served.returncode == 0, served.stderr


def test_what_the_image_is_built_from_is_in_the_repository() -> None:
    named = [
        source for sources, _ in COPY.findall((DEPLOY / "Containerfile").read_text()) for source in sources.split()
    ]
    assert "requirements.txt" in named
    tracked = subprocess.run(
        ["git", "ls-files", "--", *named],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [name for name in named if not any(path == name or path.startswith(f"{name}/") for path in tracked)] == []


def test_the_build_sees_all_that_it_copies() -> None:
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    seen = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    named = {
        source.split("/")[0]
        for sources, _ in COPY.findall((DEPLOY / "Containerfile").read_text())
        for source in sources.split()
    }
    assert seen == named


def test_compose_sets_what_the_readme_explains() -> None:
    table = set(re.findall(r"`([A-Z_]+)`", (ROOT / "README.md").read_text()))
    variables = {name.removesuffix("_FILE") for name in compose()["x-recovery"]["environment"]}
    assert len(variables) > 10
    assert variables - table == set()


def test_compose_mounts_the_secrets_that_it_names() -> None:
    made = compose()
    assert set(made["x-recovery"]["secrets"]) | set(made["services"]["postgres"]["secrets"]) == set(made["secrets"])
    paths = {value for name, value in made["x-recovery"]["environment"].items() if name.endswith("_FILE")}
    assert paths == {f"/run/secrets/{name}" for name in made["x-recovery"]["secrets"]}


@pytest.mark.parametrize("service", ["web", "mailer", "worker", "migrate"])
def test_no_container_may_write_or_gain_rights(service: str) -> None:
    made = compose()["services"][service]
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in made["security_opt"]
