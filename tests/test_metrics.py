"""/metrics: what operators count, who may read it, and that no label says who anybody is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from django.test import Client
from django.utils import timezone

from accounts.exposition import forget_the_dead
from accounts.hooks import delivery
from accounts.mailing import smtp, threads
from accounts.models import ForgetPassword, Heartbeat, WebhookDelivery
from harness.deployment import CROWD, REQUEST, ROOT, ask, site_in
from tests.conftest import API, PostOffice

TOKEN = "a-token-for-the-metrics-of-tests"  # noqa: S105 (made up)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def read(db: None, settings: Any) -> Callable[[], dict[str, float]]:
    """What `/metrics` says now, by the name and labels of each sample."""
    settings.METRICS_TOKEN = TOKEN

    def samples() -> dict[str, float]:
        response = Client().get("/metrics", headers=BEARER)
        assert response.status_code == 200
        lines = [line for line in response.content.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    return samples


@pytest.fixture
def grown(read: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """By how much each sample has grown since the test began."""
    before = read()
    return lambda: {name: value - before.get(name, 0) for name, value in read().items() if value != before.get(name, 0)}


# --- Who may read it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, "Bearer ", "Bearer x", f"bearer {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_nobody_reads_it_without_the_token(read: Any, given: str | None) -> None:
    response = Client().get("/metrics", headers={} if given is None else {"Authorization": given})
    assert (response.status_code, response.content, response["WWW-Authenticate"]) == (401, b"", "Bearer")


def test_without_a_token_it_is_not_there(db: None) -> None:
    for headers in ({}, BEARER, {"Authorization": "Bearer "}):
        assert Client().get("/metrics", headers=headers).status_code == 404


def test_prometheus_asks_by_an_ip_address_and_by_plain_http(read: Any, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    response = Client().get("/metrics", headers={**BEARER, "host": "10.0.0.7:8000"})
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    assert "no-store" in response["Cache-Control"]


# --- What it says ----------------------------------------------------------------------------------------------------


def test_operations_are_counted_by_verb_and_outcome(api: API, user: Any, grown: Any) -> None:
    handle = api.request()["requestId"]
    api.mutate("requestPasswordReset", email="ada@example.com")
    api.mutate("requestPasswordReset", email="no address")
    api.status(handle)
    api.status("made up")
    counted = {name: value for name, value in grown().items() if "_created" not in name and "recovery_op" in name}
    assert counted == {
        'recovery_operations_total{outcome="done",verb="requestPasswordReset"}': 1,
        'recovery_operations_total{outcome="RateLimited",verb="requestPasswordReset"}': 1,
        'recovery_operations_total{outcome="InvalidInput",verb="requestPasswordReset"}': 1,
        'recovery_operations_total{outcome="done",verb="passwordResetStatus"}': 1,
        'recovery_operations_total{outcome="UnknownRequest",verb="passwordResetStatus"}': 1,
    }
    assert grown()['recovery_refusals_total{limit="cooldown"}'] == 1


def test_a_failure_is_counted(api: API, grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.api.schema.verbs.status", lambda *_: 1 / 0)
    api.post({"query": '{ passwordResetStatus(requestId: "x") { status } }'})
    assert grown()['recovery_operations_total{outcome="failed",verb="passwordResetStatus"}'] == 1


def test_mails_are_counted_by_kind_and_outcome_with_their_age(
    api: API, post: PostOffice, user: Any, later: Callable[..., None], grown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for email in ("ada@example.com", "nobody@example.com"):
        api.request(email)
    later(seconds=3)
    post.deliver()
    assert grown()['recovery_mails_total{kind="CODE",outcome="mailed"}'] == 1
    assert grown()['recovery_mails_total{kind="CODE",outcome="not_mailed"}'] == 1
    assert grown()['recovery_mail_age_seconds_bucket{le="5.0"}'] == 1
    assert grown()["recovery_mail_age_seconds_sum"] == pytest.approx(3, abs=0.01)
    later(seconds=61)
    api.request()

    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(smtp.Connection, "send", refuse)
    for _ in range(10):
        post.deliver()
        later(hours=1)
    assert grown()['recovery_mails_total{kind="CODE",outcome="mail_failed"}'] == 9
    assert grown()['recovery_mails_total{kind="CODE",outcome="mail_dead"}'] == 1
    assert grown()["recovery_dead_mails"] == 1


def test_the_backlog_is_told_with_its_age(api: API, post: PostOffice, later: Callable[..., None], read: Any) -> None:
    assert (read()["recovery_backlog"], read()["recovery_backlog_oldest_seconds"]) == (0, 0)
    api.request("nobody@example.com")
    later(seconds=45)
    assert (read()["recovery_backlog"], read()["recovery_backlog_oldest_seconds"]) == (1, 45)
    post.deliver()
    assert (read()["recovery_backlog"], read()["recovery_backlog_oldest_seconds"]) == (0, 0)


def test_each_mailing_process_has_a_heartbeat_until_it_has_long_ended(
    db: None, later: Callable[..., None], read: Any
) -> None:
    crew = threads.SendingThreads(1)
    crew._beat(1000.0)
    later(seconds=20)
    crew._beat(1020.0)  # too soon to write again
    ((name, age),) = [item for item in read().items() if "heartbeat" in item[0]]
    assert re.fullmatch(r'recovery_mailer_heartbeat_seconds\{process="[^"]+:\d+"\}', name)
    assert age == 20
    crew._beat(1030.0)
    assert read()[name] == 0
    later(minutes=61)
    assert name not in read()
    assert Heartbeat.objects.count() == 1


def test_webhooks_are_counted(grown: Any, user: Any, api: API, post: PostOffice) -> None:
    row = record_and_webhook(api, post)
    delivery._settle(row, timezone.now(), "")
    delivery._settle(row, timezone.now(), "timeout")
    assert grown()['recovery_webhooks_total{event="recovery.requested",outcome="delivered"}'] == 1
    assert grown()['recovery_webhooks_total{event="recovery.requested",outcome="failed"}'] == 1


def record_and_webhook(api: API, post: PostOffice) -> Any:
    api.request()
    record = ForgetPassword.objects.get()
    return WebhookDelivery.objects.create(record=record, endpoint="x", event="recovery.requested", body="{}")


def test_no_label_says_who_anybody_is(api: API, post: PostOffice, user: Any, read: Any) -> None:
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    api.verify(handle, "000000")
    api.reset(letter.token)
    post.deliver()
    record = ForgetPassword.objects.get()
    secrets = [
        "ada",
        "example.com",
        handle,
        letter.token,
        letter.code,
        str(record.pk),
        record.email_digest,
        "127.0.0.1",
    ]
    text = "\n".join(read())
    assert not [secret for secret in secrets if secret in text]


def test_docs_and_code_name_the_same_metrics(read: Any) -> None:
    told = set(re.findall(r"^\| `(recovery_\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    Heartbeat.beat("host:1", timezone.now(), mails=True)
    text = Client().get("/metrics", headers=BEARER).content.decode()
    there = {
        name for name in re.findall(r"^# TYPE (recovery_\w+) ", text, re.MULTILINE) if not name.endswith("_created")
    }
    assert told == there


DEPLOY = ROOT / "deploy"


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    there = set(re.findall(r"^\| `(recovery_\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    panels = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules()]
    named = {name.removesuffix("_bucket") for expr in asked for name in re.findall(r"recovery_\w+", expr)}
    assert named - there == set()
    assert there - named == set()


def test_every_alert_is_explained_and_is_made_to_fire() -> None:
    """By promtool, which does not come with the requirements: docs/operations.md says how."""
    names = {rule["alert"] for rule in rules()}
    explained = re.findall(r"^\| `(Recovery\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert names == set(explained)
    quiet, busy, *_ = yaml.safe_load((DEPLOY / "alerts.test.yml").read_text())["tests"]
    assert {test["alertname"] for test in quiet["alert_rule_test"]} == names
    assert busy["promql_expr_test"][0]["exp_samples"][0]["value"] == len(names)


def test_alerts_name_limits_verbs_and_outcomes_as_the_code_does() -> None:
    known = {"failed", "mailed", "mail_failed", "mail_dead", "delivered"}  # each is in a test above
    limits = set(re.findall(r"`([\w-]+)`", (ROOT / "docs/logging.md").read_text()))
    for rule in rules():
        assert set(re.findall(r'outcome="(\w+)"', rule["expr"])) <= known
        assert set(re.findall(r'limit="(\w+)"', rule["expr"])) <= limits


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


# --- Over processes --------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_an_answer_sums_all_processes_of_a_machine_up(tmp_path: Path, prepared: Path) -> None:
    variables = {"METRICS_TOKEN": TOKEN, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts"), "MAIL_DISPATCH": "none"}
    with site_in(tmp_path / "site", prepared, **variables) as site, site.serving(workers=2) as web, site.mailing():
        for email in CROWD:
            ask(web, REQUEST, input={"email": email})
        site.mail.wait_until(lambda: len(site.mail.letters) == len(CROWD))
        for _ in range(8):  # whichever worker answers
            text = requests.get(f"{web.url}/metrics", headers=BEARER, timeout=30).text
            assert f'recovery_operations_total{{outcome="done",verb="requestPasswordReset"}} {len(CROWD)}.0' in text
        assert 'recovery_mails_total{kind="CODE",outcome="mailed"}' in text
        assert "recovery_mailer_heartbeat_seconds{process=" in text


def test_what_a_killed_process_was_just_doing_is_not_counted_for_ever(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607
        for name in ("gauge_livesum", "counter", "histogram"):
            (tmp_path / f"{name}_{process.pid}.db").touch()
        forget_the_dead(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
        process.kill()
    forget_the_dead(tmp_path)
    assert {path.name.partition("_")[0] for path in tmp_path.iterdir()} == {"counter", "histogram"}
