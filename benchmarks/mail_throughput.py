"""How many mails a second, and for how much CPU, against one `send_mail` call each and against the number of threads.

    python -m tests.postgres python -m benchmarks.mail_throughput [mails]

Each line sends that many mails of a prepared backlog through a mail server that takes 0, 20 or 100 ms for each command.
CPU is this process's own, user and system, without the mail server's and the database's. Compare the lines of one run
with each other: the machine may be shared.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.smtp_sink import sink

DELAYS = (0, 20, 100)
THREADS = (1, 4, 16)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(name: str, mails: int, send: Callable[[], None]) -> None:
    wall, cpu = time.perf_counter(), cpu_seconds()
    send()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    print(f"{name:32} {mails:6} {mails / wall:10.0f} {1000 * cpu / mails:12.2f}", flush=True)


def prepare(mails: int) -> None:
    """Make a backlog: rows that have been looked up and owe a code, each with an account of its own."""
    from django.contrib.auth import get_user_model
    from django.utils import timezone

    from accounts import codes
    from accounts.choices import State
    from accounts.models import ForgetPassword

    users = get_user_model()._default_manager
    ForgetPassword.objects.all().delete()
    users.all().delete()
    users.bulk_create(
        users.model(username=f"user{n}", email=f"user{n}@example.com", password="md5$a$b") for n in range(mails)
    )
    now = timezone.now()
    ForgetPassword.objects.bulk_create(
        ForgetPassword(
            user=user,
            email=user.email,
            email_digest=codes.address_digest(user.email),
            state=State.SENT,
            looked_at=now,
            sent_at=now,
        )
        for user in users.all()
    )


def one_call_each(mails: int) -> None:
    """What a view does that calls `send_mail`: a connection for each mail, and no record of it."""
    from django.core.mail import send_mail

    for number in range(mails):
        send_mail(
            "Your code", "Your code: 123456\n" * 20, None, [f"user{number}@example.com"], html_message="<p>" * 300
        )


def with_threads(threads: int) -> None:
    from accounts import workers

    crew = workers.SendingCrew(threads)
    crew.start()
    crew.stop(timeout=600)


def main() -> None:
    mails = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    print(f"{'':32} {'mails':>6} {'mails/s':>10} {'CPU ms/mail':>12}")
    for delay in DELAYS:
        # A slow server is measured with fewer mails: five commands each add up.
        few = max(20, mails // (1 + delay // 4))
        with sink(delay) as port:
            arguments = [sys.executable, "-m", "benchmarks.mail_throughput", "--run", str(few), str(delay)]
            subprocess.run(
                arguments, env={**os.environ, "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(port)}, check=True
            )


def run(mails: int, delay: int) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    measure(f"{delay:3} ms, send_mail each", mails, lambda: one_call_each(mails))
    for threads in THREADS:
        prepare(mails)
        measure(f"{delay:3} ms, {threads:2} threads", mails, partial(with_threads, threads))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
