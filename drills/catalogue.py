"""The drills. Each is a function that strikes, and a line that says what the strike may do."""

from __future__ import annotations

import os
import signal

from drills.scene import SENDERS, Drill, Scene
from drills.verdict import Repeats
from harness.deployment import wait_until
from harness.smtp_server import DROP, HOLD

MARKED_TOGETHER = 10
"""Mails of a thread that wait for their marks, at the most: MARK_MAILS of `batches`, which needs Django."""
UNMARKED = SENDERS * MARKED_TOGETHER
"""Mails of a process, at the most, that the server has taken and that are not marked yet."""
WEB_PROCESSES = 2
"""The default of WORKERS, for `make serve`."""
TASKS = 2
"""Mails sent at once by a drill's Celery worker."""
BROKEN_ANSWERS = 2
"""Mails at each strike that the server takes without ever saying so."""


def kill_a_web_worker(scene: Scene) -> None:
    for number in scene.strikes():
        with scene.in_the_midst_of_mails():
            # Now one and then the other: a worker that dies as soon as it is replaced ends the server.
            os.kill(scene.server.workers[number % WEB_PROCESSES], signal.SIGKILL)
        wait_until(lambda: scene.server.started == WEB_PROCESSES + number + 1)  # noqa: B023 (called at once)


def kill_the_web_server(scene: Scene) -> None:
    for _ in scene.strikes():
        with scene.in_the_midst_of_mails():
            scene.server.kill()
        scene.serve()


def kill_the_mailer(scene: Scene) -> None:
    """`run_mailer`, or a Celery worker."""
    for _ in scene.strikes():
        with scene.in_the_midst_of_mails():
            scene.mailer.kill()
        scene.mail()


def kill_the_broker(scene: Scene) -> None:
    if scene.broker is None:
        raise SystemExit("this drill has no broker to kill")
    for _ in scene.strikes():
        with scene.in_the_midst_of_mails():
            scene.broker.terminate()
        scene.sit_out()
        scene.broker.start()


def kill_the_database(scene: Scene) -> None:
    if scene.postgres is None:
        raise SystemExit("this drill has no postgres to kill")
    for _ in scene.strikes():
        with scene.in_the_midst_of_mails():
            scene.postgres.kill()
        scene.sit_out()
        scene.postgres.start()


def fill_the_disk(scene: Scene) -> None:
    if scene.postgres is None:
        raise SystemExit("this drill has no postgres whose disk could be filled")
    for _ in scene.strikes():
        with scene.postgres.full():
            wait_until(lambda: scene.readiness() == "full")
            scene.sit_out()
        wait_until(lambda: scene.readiness() == "ok")


def take_the_mail_server_down(scene: Scene) -> None:
    for _ in scene.strikes():
        scene.site.mail.go_down()
        scene.sit_out()
        wait_until(lambda: "not accepted: refused" in scene.server.log.read_text())
        scene.site.mail.come_back()


def put_mails_off(scene: Scene) -> None:
    _misbehave(scene, "RCPT", "451 4.7.1 Greylisted")


def refuse_finished_mails_for_now(scene: Scene) -> None:
    _misbehave(scene, "END", "451 4.3.0 Try again later")


def send_everybody_away(scene: Scene) -> None:
    _misbehave(scene, "MAIL", "421 4.3.2 Shutting down")


def hang_before_a_mail_is_taken(scene: Scene) -> None:
    _misbehave(scene, "DATA", HOLD)


def drop_before_a_mail_is_taken(scene: Scene) -> None:
    _misbehave(scene, "END", DROP)


def hang_when_a_mail_is_taken(scene: Scene) -> None:
    for _ in scene.strikes():
        _break_answers(scene, HOLD)
    held = BROKEN_ANSWERS * scene.size.strikes
    wait_until(lambda: scene.server.log.read_text().count("not accepted: timeout") >= held)
    scene.site.mail.release("TAKEN")


def drop_when_a_mail_is_taken(scene: Scene) -> None:
    for _ in scene.strikes():
        _break_answers(scene, DROP)


def _misbehave(scene: Scene, stage: str, answer: str) -> None:
    mail = scene.site.mail
    for _ in scene.strikes():
        before = mail.stages[stage]
        mail.on(stage, answer)
        mail.wait_until(lambda: mail.stages[stage] > before)  # noqa: B023 (called at once)
        scene.sit_out()
        mail.release(stage)


def _break_answers(scene: Scene, answer: str) -> None:
    mail, before = scene.site.mail, scene.site.mail.stages["TAKEN"]
    mail.on("TAKEN", answer, times=BROKEN_ANSWERS)
    mail.wait_until(lambda: mail.stages["TAKEN"] >= before + BROKEN_ANSWERS)


DRILLS = {
    drill.name: drill
    for drill in (
        Drill("web worker killed", kill_a_web_worker, Repeats(0, UNMARKED), waits_for_leases=True),
        Drill("web server killed", kill_the_web_server, Repeats(1, UNMARKED * WEB_PROCESSES), waits_for_leases=True),
        Drill("mailer killed", kill_the_mailer, Repeats(1, UNMARKED), dispatch="none", waits_for_leases=True),
        Drill("Celery worker killed", kill_the_mailer, Repeats(1, TASKS), dispatch="celery", waits_for_leases=True),
        Drill("broker killed", kill_the_broker, Repeats(0, TASKS), dispatch="celery", waits_for_leases=True),
        Drill("PostgreSQL killed", kill_the_database, Repeats(0, UNMARKED * WEB_PROCESSES), waits_for_leases=True),
        Drill("PostgreSQL's disk full", fill_the_disk, Repeats(0, UNMARKED * WEB_PROCESSES), waits_for_leases=True),
        Drill("SMTP down", take_the_mail_server_down, Repeats(0, SENDERS * WEB_PROCESSES)),
        Drill("SMTP 451 at RCPT", put_mails_off),
        Drill("SMTP 451 after DATA", refuse_finished_mails_for_now),
        Drill("SMTP 421", send_everybody_away),
        Drill("SMTP hangs in DATA", hang_before_a_mail_is_taken),
        Drill(
            "SMTP hangs, mail taken",
            hang_when_a_mail_is_taken,
            Repeats(BROKEN_ANSWERS, BROKEN_ANSWERS),
            waits_for_leases=True,
        ),
        Drill("SMTP drops, mail refused", drop_before_a_mail_is_taken),
        Drill("SMTP drops, mail taken", drop_when_a_mail_is_taken, Repeats(BROKEN_ANSWERS, BROKEN_ANSWERS)),
    )
}
