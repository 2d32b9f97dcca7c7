"""`manage.py run_mailer`, the mailer as a process of its own beside web processes that mail nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.deployment import CROWD, PATIENCE, Site, mailed_to, request_all, site_in
from harness.smtp_server import HOLD

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path, prepared: Path) -> Iterator[Site]:
    with site_in(tmp_path, prepared, MAIL_DISPATCH="none") as site:
        yield site


def test_it_mails_what_web_processes_accept(site: Site) -> None:
    with site.serving() as server, site.mailing():
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
            stack.enter_context(site.mailing())
        site.mail.wait_until(lambda: len(site.mail.letters) >= len(CROWD))
    assert mailed_to(site) == CROWD


def test_once_mails_what_is_due_and_ends_and_says_nothing_to_a_log(site: Site) -> None:
    with site.serving() as server:
        request_all(server)
    with site.mailing("--once") as mailer:
        assert mailer.process.wait(PATIENCE) == 0
    assert mailed_to(site) == CROWD
    assert mailer.log.read_text() == ""


def test_it_finishes_what_is_due_when_told_to_stop(site: Site) -> None:
    site.mail.on("DATA", HOLD)
    with site.serving() as server:
        request_all(server)
    with site.mailing() as mailer:
        site.mail.wait_until(lambda: site.mail.stages["DATA"])
        mailer.process.send_signal(signal.SIGTERM)
        site.mail.release("DATA")
        assert mailer.process.wait(PATIENCE) == 0
    assert mailed_to(site) == CROWD
