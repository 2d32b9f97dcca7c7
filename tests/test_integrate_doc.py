"""docs/integrate.md, followed word for word from an empty folder to a changed password."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from pathlib import Path

import django
import pytest

from harness.deployment import ROOT, free_port, running, wait_until
from harness.wheel import UV, build, run

pytestmark = pytest.mark.processes

PAGE = (ROOT / "docs" / "integrate.md").read_text()
TUTORIAL = PAGE.partition("## Ten minutes")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
NEW = "thistle walnut comet raft 7"


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a newcomer's shell. `pip` stands for uv's, which takes the versions that are tested here."""
    tools = tmp_path / "tools"
    (tools / "pip").mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    pip = tools / "pip" / "pip"
    constraint = ROOT / "requirements.txt"
    pip.write_text(f'#!/bin/sh\nshift\nexec {UV} pip install --quiet --constraint {constraint} "$@"\n')
    pip.chmod(0o755)
    wheel = build(tmp_path / "wheel")
    ours = {"DJANGO_SETTINGS_MODULE", "VIRTUAL_ENV", "PYTHONPATH"}
    around = {name: value for name, value in os.environ.items() if name not in ours}
    return {**around, "PATH": f"{tools}:{os.environ['PATH']}", "WHEEL": str(wheel), "TOOLS": str(tools)}


def test_the_page_leads_from_an_empty_folder_to_a_changed_password(shell: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    written = [text for kind, text in BLOCKS if kind == "python"]
    settings, console, urls = written
    script, asked = ["set -e"], ""
    for kind, text in BLOCKS:
        if kind == "python":
            target = "mysite/urls.py" if text == urls else "mysite/settings.py"
            if text != console or django.VERSION < (6, 1):
                script.append(f"cat {'>' if text == urls else '>>'} {target} <<'END'\n{text}END")
        elif "runserver" in text or text.startswith("curl"):
            asked = text
        else:
            # The environment's own pip would take whatever is newest.
            script.append(text.replace("activate\n", 'activate\nPATH="$TOOLS/pip:$PATH"\n'))
    assert settings in "\n".join(script)
    assert "no issues" in in_shell("\n".join(script), folder, shell)

    port = free_port()
    python = str(folder / ".venv" / "bin" / "python")
    command = ["env", "-C", str(folder), python, "-u", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with running(command, port, shell, tmp_path / "server.log") as server:
        answer = json.loads(in_shell(asked.replace(":8000", f":{port}"), folder, shell))
        assert answer["data"]["requestPasswordReset"]["reset"]["status"] == "QUEUED"
        wait_until(lambda: "#token=" in server.log.read_text())
        token = re.search(r"http://127\.0\.0\.1:8000/recovery/reset/#token=([\w-]+)", server.log.read_text())
        assert token
        page = urllib.request.urlopen(f"{server.url}/recovery/reset/", timeout=60)  # noqa: S310 (our own server)
        assert b'data-endpoint="/graphql/"' in page.read()
        query = (
            f'mutation {{ resetPassword(input: {{resetToken: "{token[1]}", newPassword: "{NEW}"}}) {{ __typename }} }}'
        )
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{server.url}/graphql/", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answered:  # noqa: S310
            assert json.loads(answered.read()) == {"data": {"resetPassword": {"__typename": "ResetPasswordSuccess"}}}
    check = f"from django.contrib.auth import authenticate; print(authenticate(username='ada', password='{NEW}'))"
    assert "ada" in in_shell(f'.venv/bin/python manage.py shell --no-imports -c "{check}"', folder, shell)


def in_shell(script: str, folder: Path, environment: dict[str, str]) -> str:
    return run("sh", "-c", script, cwd=folder, **environment)


def test_each_host_of_the_tests_is_the_one_that_the_page_shows() -> None:
    shown = [text for kind, text in re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    hosts = ROOT / "tests" / "hosts"
    assert (hosts / "legacy/people/directory.py").read_text() in shown
    assert (hosts / "custom/people/directory.py").read_text() in shown
    model = (hosts / "legacy/people/models.py").read_text()
    assert model.partition('"""\n\n')[2] in shown
