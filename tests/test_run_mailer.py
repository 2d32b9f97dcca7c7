"""`manage.py run_mailer`, the mailer as a process of its own beside web processes that mail nothing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.deployment import CROWD, PATIENCE, Running, Site, mailed_to, request_all, running, site_in
from tests.smtp_server import HOLD

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path, prepared: Path) -> Iterator[Site]:
    with site_in(tmp_path, prepared, MAIL_DISPATCH="none") as site:
        yield site


@contextmanager
def mailing(site: Site, *arguments: str) -> Iterator[Running]:
    command = [sys.executable, "manage.py", "run_mailer", *arguments]
    with running(command, None, site.environment, site.folder / "mailer.log") as mailer:
        yield mailer


def test_it_mails_what_web_processes_accept(site: Site) -> None:
    with site.serving() as server, mailing(site):
        request_all(server)
        site.mail.wait_until(lambda: len(site.mail.letters) == len(CROWD))
    assert mailed_to(site) == CROWD


def test_web_processes_told_to_mail_nothing_mail_nothing(site: Site) -> None:
    with site.serving() as server:
        request_all(server)
        server.stop()
    assert site.mail.stages["CONNECT"] == 0


def test_several_of_them_send_every_mail_once(site: Site) -> None:
    with site.serving() as server:
        request_all(server)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(mailing(site))
        site.mail.wait_until(lambda: len(site.mail.letters) >= len(CROWD))
    assert mailed_to(site) == CROWD


def test_once_mails_what_is_due_and_ends_and_says_nothing_to_a_log(site: Site) -> None:
    with site.serving() as server:
        request_all(server)
    with mailing(site, "--once") as mailer:
        assert mailer.process.wait(PATIENCE) == 0
    assert mailed_to(site) == CROWD
    assert mailer.log.read_text() == ""


def test_it_finishes_what_is_due_when_told_to_stop(site: Site) -> None:
    site.mail.on("DATA", HOLD)
    with site.serving() as server:
        request_all(server)
    with mailing(site) as mailer:
        site.mail.wait_until(lambda: site.mail.stages["DATA"])
        mailer.process.send_signal(signal.SIGTERM)
        site.mail.release("DATA")
        assert mailer.process.wait(PATIENCE) == 0
    assert mailed_to(site) == CROWD
