"""The development server's inbox shows what was mailed, and to nobody else."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.test import Client

from harness.deployment import ROOT, Running, free_port, running, wait_until
from tests.conftest import API, PostOffice

REQUEST = (
    'mutation { requestPasswordReset(input: {email: "demo@example.com"}) '
    "{ ... on RequestPasswordResetSuccess { reset { matchPhrase } } } }"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """What `make run` starts, with a database and an inbox of its own."""
    folder, port = tmp_path_factory.mktemp("development"), free_port()
    (folder / "settings_here.py").write_text(
        f"from backend.settings import *\nMAIL_PREVIEW_ROOT = {str(folder / 'inbox')!r}\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "DJANGO_SETTINGS_MODULE": "settings_here",
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "DEBUG": "1",
        "PORT": str(port),
    }
    for command in (["migrate", "--verbosity", "0"], ["demo", "--port", str(port)]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with running(command, port, environment, folder / "log") as server:
        yield server


def read(url: str) -> str:
    response = requests.get(url, timeout=30)
    assert response.status_code == 200
    return response.text


@pytest.mark.processes
def test_a_mailed_code_is_in_the_inbox(server: Running) -> None:
    answer = requests.post(f"{server.url}/graphql/", json={"query": REQUEST}, timeout=30).json()
    phrase = answer["data"]["requestPasswordReset"]["reset"]["matchPhrase"]
    inbox = f"{server.url}/inbox/"
    wait_until(lambda: requests.get(f"{inbox}sent/latest/", timeout=30).json()["count"])
    assert "Your code to reset the password" in read(inbox)
    letter = read(f"{inbox}sent/{requests.get(f'{inbox}sent/latest/', timeout=30).json()['latest']}/")
    assert phrase in letter
    assert re.search(r"@127\.0\.0\.1 #\d{6}", letter)
    assert f"{server.url}/reset/#token=" in letter


@pytest.mark.processes
@pytest.mark.parametrize("path", ["/graphql/", "/reset/", "/admin/login/"])
def test_the_pages_that_make_run_names_are_there(server: Running, path: str) -> None:
    assert "<html" in requests.get(server.url + path, headers={"Accept": "text/html"}, timeout=30).text


@pytest.mark.processes
def test_the_front_page_leads_to_graphiql(server: Running) -> None:
    response = requests.get(f"{server.url}/", timeout=30, allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (302, "/graphql/")


@pytest.mark.parametrize("path", ["/inbox/", "/inbox/sent/latest/"])
def test_without_debug_there_is_no_inbox(path: str, db: None) -> None:
    assert Client().get(path).status_code == 404


# --- For tests of frontends ------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_what_was_mailed_can_be_read_by_a_test(server: Running) -> None:
    requests.post(f"{server.url}/graphql/", json={"query": REQUEST}, timeout=30)
    wait_until(lambda: requests.get(f"{server.url}/inbox.json", timeout=30).json()["mails"])
    for to in ("demo@example.com", "DEMO@example.com", ""):
        newest = requests.get(f"{server.url}/inbox.json", {"to": to}, timeout=30).json()["mails"][0]
        assert newest["to"] == ["demo@example.com"]
        assert re.fullmatch(r"\d{6}", newest["code"])
        assert newest["link"] == newest["links"][0] == f"{server.url}/reset/#token={newest['token']}"
        assert newest["report"] == f"{server.url}/reset/#report={newest['reportToken']}"
    nobodys = requests.get(f"{server.url}/inbox.json", {"to": "nobody@example.com"}, timeout=30).json()
    assert nobodys == {"mails": []}


def test_without_debug_there_is_no_json_either(db: None) -> None:
    assert Client().get("/inbox.json").status_code == 404


def test_a_test_address_has_its_fixed_code_in_development_alone(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.TEST_CODES = {"ada@example.com": "424242"}
    settings.DEBUG = True
    handle = api.request()["requestId"]
    assert post.deliver_one().code == "424242"
    settings.DEBUG = False
    assert api.verify(handle, "424242")["__typename"] == "InvalidCodeError"
    settings.DEBUG = True
    assert api.verify(handle, "424242")["__typename"] == "VerifyPasswordResetCodeSuccess"
