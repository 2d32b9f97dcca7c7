"""The log: a line for every verb and every refusal, each line one object, and no secret, no address, no forged line."""

from __future__ import annotations

import io
import json
import logging
import smtplib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings as django_settings
from django.core.servers.basehttp import WSGIRequestHandler
from django.db import IntegrityError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import path

from accounts import codes, signals
from accounts.mailing import smtp
from accounts.mailing import threads as workers
from accounts.models import ForgetPassword, PasswordResetEvent
from accounts.passwords import policy
from accounts.recovery import verbs as recovery_verbs
from backend import logs
from backend.logs import FORMATS, Formatter, logging_settings
from backend.middleware import RequestId
from harness.deployment import CROWD, PROXIED, REQUEST, ask, is_sent, site_in, wait_until
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice, record_of

EMAIL = "Ada@Example.com"
KEY = "k3y-of-22-characters-or-more"
AGENT = "Agent-Of-Nobody/1.0"
SAID = {"time", "level", "logger", "event", "client", "request_id", "verb", "outcome"}
"""What each line about a verb has."""


@dataclass
class Log:
    """All that the production's formatter, and the developer's, made of what was logged."""

    json: io.StringIO
    console: io.StringIO

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.json.getvalue().splitlines()]

    @property
    def verbs(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "verb" in line]

    @property
    def verb(self) -> dict[str, Any]:
        """The one line about a verb since the last time that somebody looked."""
        (line,) = self.verbs
        self.clear()
        return line

    @property
    def text(self) -> str:
        return self.json.getvalue() + self.console.getvalue()

    def clear(self) -> None:
        for stream in (self.json, self.console):
            stream.seek(0)
            stream.truncate()


@pytest.fixture
def log() -> Iterator[Log]:
    """Everything that any logger says, at the most talkative level."""
    streams = {form: io.StringIO() for form in FORMATS}
    handlers = [logging.StreamHandler(stream) for stream in streams.values()]
    for form, handler in zip(streams, handlers, strict=True):
        handler.setFormatter(Formatter(form))
    loggers = [logging.getLogger(), logging.getLogger("django")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    yield Log(**streams)
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def fail(*args: Any, **kwargs: Any) -> Any:
    """Fail with all in the text that must stay inside."""
    raise IntegrityError(f"Key (email)=({EMAIL}) for {args} {kwargs} already exists.")


# --- Lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["django.template", "corsheaders", "celery.app.trace", "accounts.mailing.mailer", "_granian"]
)
def test_a_line_of_any_logger_is_one_object(log: Log, name: str) -> None:
    logging.getLogger(name).warning("two\nlines of %s", name)
    (line,) = log.lines
    assert (line["level"], line["logger"], line["event"]) == ("warning", name, f"two\\nlines of {name}")
    assert line["time"].endswith("+00:00")


FORGERS = [
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\x1b[2K",
    "\x08",
    "\x85",
    "\x9b",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\ufeff",
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("forger", FORGERS, ids=ascii)
def test_no_letter_ends_a_line_or_turns_it_around(log: Log, form: str, forger: str) -> None:
    text = f'before{forger}{{"level": "info", "event": "forged"}}'
    logging.getLogger("django.security").warning("odd: %s", text)
    logging.getLogger("ours").warning({"event": "odd", "what": text, "several": [text, {"deep": text}]})
    stream: io.StringIO = getattr(log, form)
    assert len(stream.getvalue().splitlines()) == 2
    assert all(letter.isprintable() for letter in stream.getvalue().replace("\n", ""))
    assert "\\" in stream.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_a_lone_surrogate_can_be_written(form: str) -> None:
    line = Formatter(form).format(logging.makeLogRecord({"name": "ours", "msg": "odd: \ud800"}))
    assert rb"\ud800" in line.encode("utf-8")


def test_a_text_is_cut_where_it_grows_too_long(log: Log) -> None:
    logging.getLogger("ours").warning("x" * 100_000)
    assert len(log.text) < 2_000


@pytest.mark.parametrize("form", FORMATS)
def test_a_line_that_cannot_be_written_costs_its_text_and_nothing_more(form: str) -> None:
    line = Formatter(form).format(logging.makeLogRecord({"name": "ours", "msg": "%d tries", "args": ("hunter2",)}))
    assert json.loads(line)["event"] == "a line could not be written"
    assert "hunter2" not in line


def test_of_an_exception_its_types_and_the_way_to_it_are_written(log: Log) -> None:
    def guess(password: str) -> None:
        try:
            raise KeyError(password)
        except KeyError as error:
            error.add_note(password)
            raise RuntimeError(password) from error

    try:
        guess("hunter2")
    except RuntimeError:
        logging.getLogger("django.request").exception("failed", stack_info=True)
        logging.getLogger("ours").exception({"event": "failed"})
    theirs, ours = log.lines
    assert [each["type"] for each in theirs["exception"]] == ["RuntimeError", "KeyError"]
    assert "tests/test_logs.py:" in theirs["exception"][1]["frames"][0]
    assert "guess" in theirs["exception"][1]["frames"][0]
    assert ours["exception"] == theirs["exception"]
    assert "guess" in log.console.getvalue()
    assert "hunter2" not in log.text


def test_an_endless_chain_of_causes_ends(log: Log) -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    logging.getLogger("ours").error("failed", exc_info=first)
    (line,) = log.lines
    assert len(line["exception"]) == 5


# --- The request's id ------------------------------------------------------------------------------------------------

TOLD = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("address", ["/graphql/?query={", "/reset/", "/nix", "/admin/"])
def test_an_answer_tells_the_id_that_its_lines_have(log: Log, api: API, address: str) -> None:
    response = api.http.get(address, headers={"Accept": "text/html, application/graphql-response+json"})
    assert len(response["X-Request-ID"]) == 32
    assert {line["request_id"] for line in log.lines} <= {response["X-Request-ID"]}
    assert bool(log.lines) is (response.status_code >= 400)


def test_every_request_has_an_id_of_its_own(api: API) -> None:
    assert len({api.http.get("/reset/")["X-Request-ID"] for _ in range(3)}) == 3


def test_nothing_is_left_of_a_request_when_it_is_over(api: API) -> None:
    api.request()
    assert logs.context.get() == {}


@pytest.mark.parametrize(
    ("proxies", "told", "believed"),
    [
        (0, TOLD, False),
        (1, TOLD, True),
        (1, "01234567-89ab-cdef-0123-456789abcdef", True),
        (1, "", False),
        (1, "short", False),
        (1, TOLD + "0", False),
        (1, TOLD[:-1] + "\n", False),
        (1, TOLD + "\n", False),
        (1, TOLD[:-1] + "\u0660", False),
        (1, '{"level": "info", "event": "aaaa"}', False),
    ],
)
def test_an_id_is_believed_of_a_proxy_alone_and_only_if_it_looks_like_one(
    log: Log, api: API, settings: Any, proxies: int, told: str, believed: bool
) -> None:
    settings.TRUSTED_PROXIES = proxies
    response = api.http.get("/nix", headers={"X-Request-ID": told})
    assert (response.headers["X-Request-ID"] == told) is believed
    (line,) = log.lines
    assert line["request_id"] == response["X-Request-ID"]


def test_two_requests_at_once_do_not_mix_their_ids(log: Log) -> None:
    together = threading.Barrier(2, timeout=30)

    def answer(request: HttpRequest) -> HttpResponse:
        together.wait()
        logging.getLogger("ours").warning(request.path)
        together.wait()
        return HttpResponse()

    answers: dict[str, str] = {}

    def ask(address: str) -> None:
        answers[address] = RequestId(answer)(RequestFactory().get(address))["X-Request-ID"]

    threads = [threading.Thread(target=ask, args=(address,)) for address in ("/a", "/b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line["event"]: line["request_id"] for line in log.lines} == answers
    assert len(set(answers.values())) == 2


# --- Verbs -----------------------------------------------------------------------------------------------------------


def test_a_request_is_noted_with_its_record_and_a_digest_of_its_address(log: Log, api: API) -> None:
    record = record_of(api.request(EMAIL)["requestId"])
    line = log.verb
    assert set(line) == {*SAID, "address", "record"}
    assert (line["level"], line["logger"]) == ("info", "accounts.api.journal")
    assert (line["verb"], line["outcome"], line["client"]) == ("requestPasswordReset", "done", "127.0.0.1")
    assert line["record"] == str(record.pk)
    assert record.email_digest.startswith(line["address"])
    assert len(line["address"]) == 12


def test_an_argument_that_is_refused_is_noted_by_its_name(log: Log, api: API) -> None:
    api.mutate("requestPasswordReset", email="no address")
    line = log.verb
    assert (line["level"], line["outcome"], line["field"], line["address"]) == ("info", "InvalidInput", "email", None)


@pytest.mark.parametrize(
    ("rate", "limit", "level"),
    [
        ({}, "cooldown", "info"),
        ({"PASSWORD_RESET_COOLDOWN": 0, "THROTTLE_REQUEST_PER_EMAIL": "1/hour"}, "address", "warning"),
        ({"THROTTLE_REQUEST_PER_IP": "1/hour"}, "request", "warning"),
    ],
)
def test_a_limit_is_named(
    log: Log, api: API, settings: Any, rate: dict[str, Any], limit: str, level: str, clock: Any
) -> None:
    for name, value in rate.items():
        setattr(settings, name, value)
    api.request(EMAIL)
    log.clear()
    api.mutate("requestPasswordReset", email=EMAIL)
    line = log.verb
    assert (line["level"], line["outcome"], line["limit"]) == (level, "RateLimited", limit)
    assert line["retry_after"] >= 1
    assert line["address"]


def test_each_step_of_a_reset_is_noted_under_its_record(log: Log, api: API, post: PostOffice, user: Any) -> None:
    handle = api.request(EMAIL)["requestId"]
    letter = post.deliver_one()
    wrong = "000000" if letter.code != "000000" else "111111"
    log.clear()
    api.verify(handle, wrong)
    token = api.verify(handle, letter.code)["resetToken"]
    api.mutate("checkResetToken", resetToken=token)
    api.mutate("checkPassword", newPassword="hunter2", resetToken=token)
    api.mutate("checkPassword", newPassword=NEW_PASSWORD, resetToken=token)
    api.reset(token, "hunter2")
    api.reset(token)
    api.mutate("cancelPasswordReset", requestId=handle)
    assert [(line["verb"], line["outcome"]) for line in log.verbs] == [
        ("verifyPasswordResetCode", "InvalidCode"),
        ("verifyPasswordResetCode", "done"),
        ("checkResetToken", "done"),
        ("checkPassword", "PasswordRejected"),
        ("checkPassword", "done"),
        ("resetPassword", "PasswordRejected"),
        ("resetPassword", "done"),
        ("cancelPasswordReset", "done"),
    ]
    assert {line["record"] for line in log.verbs} == {str(record_of(handle).pk)}
    assert {line["level"] for line in log.verbs} == {"info"}
    first, refused = log.verbs[0], log.verbs[5]
    assert first["attempts_left"] == 4
    assert "password_too_short" in refused["violations"]


def test_a_handle_or_token_that_is_not_believed_is_noted_as_a_claim(
    log: Log, api: API, post: PostOffice, user: Any
) -> None:
    record = record_of(api.request(EMAIL)["requestId"])
    forged_handle = codes.handle(record.pk, codes.new_seed())
    forged_token = codes.link_token(record.pk, codes.new_seed(), codes.Account("1", "x", ""))
    log.clear()
    api.verify(forged_handle, "000000")
    api.mutate("resendPasswordResetCode", requestId=forged_handle)
    api.mutate("cancelPasswordReset", requestId=forged_handle)
    api.status(forged_handle)
    api.reset(forged_token)
    api.mutate("checkResetToken", resetToken=forged_token)
    api.mutate("checkPassword", newPassword=NEW_PASSWORD, resetToken=forged_token)
    api.mutate("reportPasswordReset", reportToken=codes.report_token(record.pk, codes.new_seed()))
    assert len(log.verbs) == 8
    assert {line["outcome"] for line in log.verbs} == {"UnknownRequest", "InvalidResetToken"}
    assert {line["level"] for line in log.verbs} == {"warning"}
    assert {line["claimed"] for line in log.verbs} == {str(record.pk)}
    assert not any("record" in line for line in log.verbs)


def test_nonsense_claims_nothing(log: Log, api: API) -> None:
    api.verify("nonsense", "000000")
    assert log.verb["claimed"] is None


def test_the_last_guess_smells(log: Log, api: API, post: PostOffice, user: Any) -> None:
    handle = api.request(EMAIL)["requestId"]
    letter = post.deliver_one()
    wrong = "000000" if letter.code != "000000" else "111111"
    log.clear()
    for _ in range(6):
        api.verify(handle, wrong)
    assert [line["level"] for line in log.verbs] == ["info"] * 4 + ["warning"] * 2
    assert [line["attempts_left"] for line in log.verbs] == [4, 3, 2, 1, 0, 0]


def test_a_question_about_the_status_is_noted_for_those_who_debug(log: Log, api: API) -> None:
    handle = api.request(EMAIL)["requestId"]
    log.clear()
    api.status(handle)
    line = log.verb
    assert (line["verb"], line["level"]) == ("passwordResetStatus", "debug")


def test_a_failure_nobody_expected_is_found_by_the_id_that_the_client_was_given(
    log: Log, api: API, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_verbs, "request", fail)
    query = f'mutation {{ my_alias: requestPasswordReset(input: {{email: "{EMAIL}"}}) {{ __typename }} }}'
    response = api.post({"query": query})
    noted, explained = log.lines
    assert (noted["verb"], noted["outcome"]) == ("requestPasswordReset", "IntegrityError")
    assert explained["error_id"] == response.json()["errors"][0]["extensions"]["errorId"]
    assert explained["request_id"] == noted["request_id"] == response["X-Request-ID"]
    assert explained["exception"][0]["type"] == "django.db.utils.IntegrityError"
    assert "fail" in explained["exception"][0]["frames"][-1]
    assert explained["field"] == "requestPasswordReset"
    assert "my_alias" not in log.text


def test_a_known_and_an_unknown_address_leave_the_same_lines(
    log: Log, api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    seen = []
    for email in ("ada@example.com", "nobody@example.com"):
        log.clear()
        handle = api.request(email, idempotencyKey=KEY)["requestId"]
        api.request(email, idempotencyKey=KEY)
        post.deliver()
        api.status(handle)
        api.verify(handle, "12345")
        api.mutate("resendPasswordResetCode", requestId=handle)
        api.mutate("cancelPasswordReset", requestId=handle)
        api.verify(handle, "123456")
        own = {"time", "request_id", "address", "record"}
        assert {line["record"] for line in log.verbs if "record" in line} == {str(record_of(handle).pk)}
        seen.append([(sorted(line), {k: v for k, v in line.items() if k not in own}) for line in log.lines])
    known, unknown = seen
    assert len(known) == 7
    assert known == unknown


# --- The admin's login -----------------------------------------------------------------------------------------------


def test_logins_and_their_failures_are_noted_without_what_was_typed(
    log: Log, api: API, make_user: Callable[..., Any]
) -> None:
    user = make_user(EMAIL, EMAIL, is_staff=True, is_superuser=True)
    for password in ("hunter2", PASSWORD):
        response = api.http.post("/admin/login/", {"username": EMAIL, "password": password})
    api.http.post("/admin/logout/")
    noted = [line for line in log.lines if line["logger"] == "backend.logins"]
    assert [(line["level"], line["event"], line.get("user")) for line in noted] == [
        ("warning", "login failed", None),
        ("info", "logged in", user.pk),
        ("info", "logged out", user.pk),
    ]
    assert noted[1]["request_id"] == response["X-Request-ID"]
    assert {line["client"] for line in noted} == {"127.0.0.1"}
    assert "hunter2" not in log.text
    assert EMAIL.casefold() not in log.text.casefold()


# --- Refusals of the endpoint ----------------------------------------------------------------------------------------

ONE = 'checkResetToken(input: {resetToken: "hunter2"}) { __typename }'
TWO = f"mutation {{ a: {ONE} b: {ONE} }}"
ENDPOINT: list[tuple[str, int, Callable[[API], Any]]] = [
    ("The body may have", 413, lambda api: api.post("x" * 70_000)),
    ("This is not JSON", 400, lambda api: api.post("hunter2")),
    ("Batches are not served", 400, lambda api: api.post("[]")),
    ("The body must be a JSON object", 400, lambda api: api.post('"hunter2"')),
    ("Send the request as", 415, lambda api: api.http.post(api.path, {"query": "hunter2"})),
    ("At most one field that checks a secret", 400, lambda api: api.post({"query": TWO})),
    ("document not valid", 400, lambda api: api.post({"query": "{ hunter2 }"})),
    ("document not valid", 400, lambda api: api.post({"query": '{ "hunter2'})),
    (
        "variables not valid",
        400,
        lambda api: api.post(
            {
                "query": "mutation M($i: CheckPasswordInput!) { checkPassword(input: $i) { __typename } }",
                "variables": {"i": {"newPassword": ["hunter2"], "hunter2": 1}},
            }
        ),
    ),
    ("operation name not valid", 400, lambda api: api.post({"query": "{ __typename }", "operationName": "hunter2"})),
    ("GraphQL is served by GET and POST", 405, lambda api: api.http.put(api.path, "hunter2")),
    ("A mutation must be sent by POST", 405, lambda api: api.http.get(api.path, {"query": TWO})),
    (
        "A query with a requestId must be sent by POST",
        405,
        lambda api: api.http.get(api.path, {"query": '{ passwordResetStatus(requestId: "hunter2") { status } }'}),
    ),
    ("The answer can be", 406, lambda api: api.post({"query": "{ __typename }"}, Accept="image/png")),
]


@pytest.mark.parametrize(("reason", "status", "send"), ENDPOINT)
def test_a_refusal_of_the_endpoint_is_noted_once_with_its_reason(
    log: Log, api: API, reason: str, status: int, send: Callable[[API], Any]
) -> None:
    response = send(api)
    assert response.status_code == status
    (line,) = log.lines
    assert line["event"].startswith(f"graphql refused: {reason}")
    assert (line["level"], line["status"], line["route"]) == ("warning", status, "^graphql/?$")
    assert line["request_id"] == response["X-Request-ID"]
    assert line["client"] == "127.0.0.1"
    assert "hunter2" not in log.text


# --- What Django says ------------------------------------------------------------------------------------------------


def broken_page(request: HttpRequest) -> HttpResponse:
    password = request.GET["password"]
    raise RuntimeError(f"no such password: {password}")


urlpatterns = [path("broken/", broken_page)]


@pytest.mark.urls(__name__)
def test_a_page_that_fails_is_noted_without_the_text_of_its_exception_or_of_its_url(log: Log, db: None) -> None:
    response = Client(raise_request_exception=False).get("/broken/?password=hunter2")
    assert response.status_code == 500
    (line,) = [line for line in log.lines if line["level"] == "error"]
    assert (line["logger"], line["status"], line["route"]) == ("django.request", 500, "broken/")
    assert line["exception"][0]["type"] == "RuntimeError"
    assert "broken_page" in line["exception"][0]["frames"][-1]
    assert line["request_id"] == response["X-Request-ID"]
    assert "hunter2" not in log.text


SECRET = "hunter2"  # noqa: S105 (what a path might hold)
BENT_ROUTE = "^reset(?:/(?P<brand>[a-z0-9-]+))?/?(?:#|%(?:25)*23)"
BENT = f"/reset/%23token={SECRET}"
TELLING: list[tuple[str, int, str, str | None, Callable[[Client], Any]]] = [
    ("Not Found", 404, "django.request", None, lambda http: http.get(f"/nix/%23token={SECRET}?token={SECRET}")),
    ("Not Found", 404, "django.request", None, lambda http: http.get(f"/static/{SECRET}.css")),
    ("Method Not Allowed", 405, "django.request", "reset/", lambda http: http.put("/reset/", SECRET)),
    (
        "Method Not Allowed",
        405,
        "django.request",
        BENT_ROUTE,
        lambda http: http.post(BENT),
    ),
    (
        "Forbidden (CSRF cookie not set.)",
        403,
        "django.security.csrf",
        BENT_ROUTE,
        lambda _: Client(enforce_csrf_checks=True).post(BENT, {"token": SECRET}),
    ),
    (
        "Forbidden (Origin checking failed)",
        403,
        "django.security.csrf",
        "admin/login/",
        lambda _: Client(enforce_csrf_checks=True).post(
            "/admin/login/", headers={"Origin": f"https://{SECRET}.example"}
        ),
    ),
    (
        "Forbidden (Referer checking failed)",
        403,
        "django.security.csrf",
        "admin/login/",
        lambda _: Client(enforce_csrf_checks=True).post(
            f"/admin/login/?next={SECRET}", secure=True, headers={"Referer": f"https://x.example{BENT}"}
        ),
    ),
    (
        "Bad Request",
        400,
        "django.security.TooManyFieldsSent",
        "admin/login/",
        lambda http: http.post("/admin/login/", {f"{SECRET}{n}": SECRET for n in range(2000)}),
    ),
    (
        "Bad Request",
        400,
        "django.request",
        "admin/login/",
        lambda http: http.post(
            f"/admin/login/?{SECRET}", SECRET, content_type=f"multipart/form-data; boundary=é{SECRET}"
        ),
    ),
]


@pytest.mark.parametrize(("event", "status", "logger", "route", "send"), TELLING)
def test_of_what_was_refused_the_route_is_noted_and_never_the_path(
    log: Log, api: API, event: str, status: int, logger: str, route: str | None, send: Callable[[Client], Any]
) -> None:
    """Neither query string nor Referer, nor a word that Django says about them."""
    assert send(api.http).status_code == status
    (line,) = [line for line in log.lines if line["level"] != "info"]
    assert (line["event"], line["status"], line["logger"], line["route"]) == (event, status, logger, route)
    assert SECRET not in log.text


def test_a_method_that_somebody_has_made_up_is_not_repeated(log: Log, api: API) -> None:
    assert api.http.generic(SECRET.upper(), "/reset/").status_code == 405
    (line,) = log.lines
    assert (line["event"], line["method"]) == ("Method Not Allowed", None)
    assert SECRET not in log.text.casefold()


def test_a_link_that_a_mail_program_has_bent_leaves_no_line(log: Log, api: API) -> None:
    assert api.http.get(BENT).status_code == 200
    assert log.lines == []


@pytest.mark.parametrize(
    ("line", "status", "method", "route"),
    [
        (f"GET {BENT} HTTP/1.1", "200", "GET", BENT_ROUTE),
        (f"GET /graphql/?query={SECRET} HTTP/1.1", "400", "GET", "^graphql/?$"),
        (f"GET http://accounts.example.com/{SECRET} HTTP/1.1", "404", "GET", None),
        (f"{SECRET} //[{SECRET} HTTP/1.1", "404", None, None),
    ],
)
def test_the_development_server_notes_no_path_either(
    log: Log, line: str, status: str, method: str | None, route: str | None
) -> None:
    handler = WSGIRequestHandler.__new__(WSGIRequestHandler)
    handler.request = None  # type: ignore[assignment]
    handler.log_message('"%s" %s %s', line, status, "1234")
    (noted,) = log.lines
    assert (noted["event"], noted["status"]) == ("answered", int(status))
    assert (noted["method"], noted["route"]) == (method, route)
    assert SECRET not in log.text


def test_the_development_server_notes_no_line_that_is_no_request(log: Log) -> None:
    handler = WSGIRequestHandler.__new__(WSGIRequestHandler)
    handler.request = None  # type: ignore[assignment]
    handler.log_message("code %d, message %s", 400, f"Bad request syntax ('GET {BENT} x y')")
    handler.log_message('"%s" %s %s', f"GET {BENT} x y", "400", "-")
    assert [line["event"] for line in log.lines] == ["answered", "answered"]
    assert SECRET not in log.text


def test_an_exception_among_the_words_of_a_line_is_written_by_its_type(log: Log) -> None:
    """As Django quotes it of a receiver that fails, and Celery of a task."""
    logging.getLogger("django.dispatch").error("Error calling %s (%s)", "receiver", KeyError(SECRET))
    words = {"id": "1", "exc": f"KeyError({SECRET!r})"}
    logging.getLogger("celery.app.trace").error("Task[%(id)s] raised: %(exc)s", words, exc_info=KeyError(SECRET))
    assert [line["event"] for line in log.lines] == ["Error calling receiver (KeyError)", "Task[1] raised: KeyError"]
    assert SECRET not in log.text


def test_a_wrong_host_is_noted_with_the_id_and_cannot_forge_a_line(log: Log, api: API) -> None:
    response = api.http.get("/reset/", headers={"Host": 'x\r\n{"level": "info"}\x1b[2K'})
    assert response.status_code == 400
    (line,) = log.lines
    assert line["logger"] == "django.security.DisallowedHost"
    assert line["request_id"] == response["X-Request-ID"]
    assert all(letter.isprintable() for letter in log.text.replace("\n", ""))


def test_a_path_cannot_forge_a_line(log: Log, api: API) -> None:
    api.http.get('/nix%0D%0A{"level":"info"}%1B[2K%E2%80%AE')
    (line,) = log.lines
    assert (line["event"], line["route"]) == ("Not Found", None)
    assert all(letter.isprintable() for letter in log.text.replace("\n", ""))


class BrokenThreads(workers.MailerThreads):
    def _look_and_sweep(self) -> None:
        raise RuntimeError("hunter2")

    _probe = _work = _look_and_sweep


def test_a_thread_of_the_mailer_that_dies_is_noted_like_all_else(
    log: Log, db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    crew = BrokenThreads(senders=1)
    crew.start()
    crew.stop(timeout=30)
    said = [line["event"] for line in log.lines]
    assert len(said) == 3
    assert all(event.startswith("the mailer could not go on: RuntimeError in _look_and_sweep") for event in said)
    assert "hunter2" not in log.text + capsys.readouterr().err


def test_the_database_keeps_its_parameters_to_itself(log: Log, api: API) -> None:
    connection.force_debug_cursor = True
    try:
        api.request(EMAIL)
    finally:
        connection.force_debug_cursor = False
    assert {line["logger"] for line in log.lines} == {"accounts.api.journal"}


# --- No secret -------------------------------------------------------------------------------------------------------


def test_no_secret_is_logged_in_a_whole_reset_and_all_that_can_go_wrong(
    log: Log, api: API, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    settings.THROTTLE_REQUEST_PER_IP = "1000/hour"
    api.http.defaults["HTTP_USER_AGENT"] = AGENT
    api.http.raise_request_exception = False
    old = user.password
    connection.force_debug_cursor = True
    handle = api.request(EMAIL, idempotencyKey=KEY)["requestId"]
    api.request(EMAIL, idempotencyKey=KEY)
    letter = _mail_in_spite_of_everything(post, monkeypatch)
    wrong = "000000" if letter.code != "000000" else "111111"
    stranger = api.request("stranger@example.org")["requestId"]
    post.deliver()

    token = _every_verb(api, handle, letter.code, wrong)
    _every_failure_inside(api, monkeypatch, handle, token, letter.code)
    _everything_malformed(api, handle, token, letter.code)
    api.mutate("resendPasswordResetCode", requestId=stranger)
    with monkeypatch.context() as patch:
        patch.setattr(signals.password_reset_completed, "send_robust", fail)
        assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    changed = post.deliver()
    api.mutate("cancelPasswordReset", requestId=handle)
    connection.force_debug_cursor = False

    record = record_of(handle)
    user.refresh_from_db()
    secrets = [handle, stranger, letter.code, letter.token, token, wrong, PASSWORD, NEW_PASSWORD, "hunter2", KEY, AGENT]
    secrets += [record.seed.hex(), repr(record.seed), record.match_phrase, record.idempotency_digest or KEY]
    secrets += [record.email_digest, old, user.password, "ada@", "stranger@", django_settings.SECRET_KEY]
    secrets += [mac for text in (handle, stranger, token, letter.token) for mac in (text[22:], text[-20:])]
    secrets += [line for each in changed for line in each.text.splitlines() if "#report=" in line]
    secrets += ["mutation M(", "mutation {", "input:", "$input", "__typename", "SELECT ", "INSERT ", "a_" + letter.code]
    logged = log.text.casefold()
    assert len(log.lines) > 40
    assert {"IntegrityError", "OperationalError", "RuntimeError"} <= {line.get("outcome") for line in log.verbs}
    assert [secret for secret in secrets if secret.casefold() in logged] == []


def _mail_in_spite_of_everything(post: PostOffice, monkeypatch: pytest.MonkeyPatch) -> Any:
    def refuse(connection: smtp.Connection, message: Any, **options: Any) -> None:
        raise smtplib.SMTPRecipientsRefused({to: (450, message.body.encode()) for to in message.to})

    def stumble(connection: smtp.Connection, message: Any, **options: Any) -> None:
        raise RuntimeError(message.body)

    for failing in (refuse, stumble):
        with monkeypatch.context() as patch:
            patch.setattr(smtp.Connection, "send", failing)
            assert post.deliver() == []
        ForgetPassword.objects.update(mail_next_at=ForgetPassword.objects.get().created_at)
    with monkeypatch.context() as patch:
        patch.setattr(signals.password_reset_sent, "send_robust", fail)
        return post.deliver_one()


def _every_verb(api: API, handle: str, code: str, wrong: str) -> str:
    api.status(handle)
    api.verify(handle, "12")
    api.verify(handle, wrong)
    token = str(api.verify(handle, code)["resetToken"])
    api.verify(handle, code)
    api.mutate("resendPasswordResetCode", requestId="hunter2")
    api.mutate("checkResetToken", resetToken=token)
    api.mutate("checkResetToken", resetToken=f"{token}hunter2")
    api.mutate("checkPassword", resetToken=token, newPassword=NEW_PASSWORD)
    api.mutate("checkPassword", newPassword="hunter2")
    api.mutate("reportPasswordReset", reportToken=token)
    api.reset(token, "hunter2")
    api.reset(token, "hunter2\0hunter2-hunter2")
    for typed in ("hunter2", f"{EMAIL}\r\nBcc: hunter2", EMAIL * 100):
        api.mutate("requestPasswordReset", email=typed)
    api.mutate("requestPasswordReset", email=EMAIL, idempotencyKey="hunter2")
    api.mutate("requestPasswordReset", email=EMAIL, locale="hunter2 or so")
    return token


def _every_failure_inside(api: API, monkeypatch: pytest.MonkeyPatch, handle: str, token: str, code: str) -> None:
    """Break the use cases from outside and from deep within, and the fields of an answer."""

    def statement_fails(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError(f"near {args} {kwargs} {EMAIL}")

    def stumble(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{args} {kwargs}") from ValueError(EMAIL)

    ask: tuple[str, dict[str, str]] = ("requestPasswordReset", {"email": EMAIL})
    prove = ("verifyPasswordResetCode", {"requestId": handle, "code": code})
    choose = ("resetPassword", {"resetToken": token, "newPassword": NEW_PASSWORD})
    places: list[tuple[Any, str, Any, list[tuple[str, dict[str, str]]]]] = [
        (codes, "address_digest", fail, [ask]),
        (ForgetPassword, "save", statement_fails, [ask]),
        (recovery_verbs, "request", fail, [ask]),
        (recovery_verbs, "verify", stumble, [prove]),
        (recovery_verbs, "_proven", stumble, [prove]),
        (recovery_verbs, "attempts_left", fail, [ask, prove]),
        (policy, "clean", fail, [choose]),
        (recovery_verbs, "hash_password", stumble, [choose]),
        (PasswordResetEvent, "write", statement_fails, [prove, choose]),
    ]
    for owner, name, failing, calls in places:
        for field, values in calls:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing)
                kind = field[0].upper() + field[1:] + "Input"
                query = (
                    f"mutation M($input: {kind}!) {{ a_{code}: {field}(input: $input) {{ __typename "
                    f"... on {kind.removesuffix('Input')}Success {{ reset {{ status }} }} }} }}"
                )
                response = api.post({"query": query, "variables": {"input": values}})
                assert response.status_code in {200, 503}


def _everything_malformed(api: API, handle: str, token: str, code: str) -> None:
    mutation = (
        f'mutation {{ verifyPasswordResetCode(input: {{requestId: "{handle}", code: "{code}"}}) {{ __typename }} }}'
    )
    api.http.get(api.path, {"query": mutation})
    api.http.get(api.path, {"query": f'{{ passwordResetStatus(requestId: "{handle}") {{ status }} }}'})
    api.http.get("/nix/", {"token": token, "email": EMAIL})
    api.http.get("/graphql", {"query": mutation}, headers={"Host": "attacker.example"})
    api.http.get("/admin/login/", {"next": f"/?token={token}"})
    api.http.post("/admin/login/", {"username": EMAIL, "password": PASSWORD})
    api.http.post("/reset/", {"token": token})
    api.http.post(api.path, {"query": mutation})
    api.post(mutation)
    api.post({"query": mutation[:-3]})
    api.post({"query": mutation, "operationName": token})
    api.post({"query": f"{mutation} {mutation}"})
    api.post({"query": mutation.replace("code:", f"code_{code}:")})
    api.post({"query": mutation, "variables": [token]})
    api.post({"query": "mutation ($input: ResetPasswordInput!) { resetPassword(input: $input) { __typename } }"})
    typed = {"resetToken": {"token": token}, "newPassword": PASSWORD, code: EMAIL}
    query = "mutation ($input: ResetPasswordInput!) { resetPassword(input: $input) { __typename } }"
    api.post({"query": query, "variables": {"input": typed}})
    api.post({"query": "{ passwordPolicy { codeLength } }"}, Cookie=f"token={token}", Authorization=f"Bearer {token}")


# --- A deployment ----------------------------------------------------------------------------------------------------


def test_the_settings_choose_level_and_form() -> None:
    chosen = logging_settings("WARNING", "console")
    assert chosen["root"]["level"] == "WARNING"
    assert chosen["formatters"]["line"]["form"] == "console"
    assert django_settings.LOG_FORMAT == "json"
    assert logging_settings("INFO", "json") == django_settings.LOGGING


@pytest.mark.processes
def test_every_line_of_a_production_server_is_an_object(tmp_path: Path, prepared: Path) -> None:
    with site_in(tmp_path, prepared) as site:
        with site.serving() as server:
            reset = ask(server, REQUEST, input={"email": CROWD[0]})["reset"]
            wait_until(lambda: is_sent(server, reset["requestId"]))
            headers = {**PROXIED, "X-Request-ID": TOLD}
            assert requests.get(f"{server.url}/nix", headers=headers, timeout=30).headers["X-Request-ID"] == TOLD
            for bent in ("/reset/%23token=hunter2", "/nix/%23token=hunter2?token=hunter2", "/graphql/?token=hunter2"):
                requests.get(f"{server.url}{bent}", headers={**PROXIED, "Referer": bent}, timeout=30)
            strange = {**PROXIED, "Content-Type": "application/json; charset*=x''%FF"}
            assert requests.post(f"{server.url}/graphql/", "{}", headers=strange, timeout=30).status_code == 415
            server.stop()
        text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"_granian", "accounts.api.journal", "django.request", "accounts.api.view"} <= {
        line["logger"] for line in lines
    }
    assert [line["event"] for line in lines if line.get("request_id") == TOLD] == ["Not Found"]
    assert {line["client"] for line in lines if line.get("verb")} == {"203.0.113.7"}
    assert reset["requestId"] not in text
    assert "hunter2" not in text
    assert CROWD[0] not in text
