"""Settings out of environment variables: every bad one is named at once, and no secret is repeated while doing so."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from django.core.exceptions import ImproperlyConfigured

from accounts.mailing.headers import Sender, parse_sender
from backend.environment import SILENT_SERVER

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent

PRODUCTION = {
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "PUBLIC_URL": "https://accounts.example.com",
    "EMAIL_HOST": "mail.example.com",
}

BAD = {
    "DEBUG": "maybe",
    "SECRET_KEY": "hunter2-key",
    "PUBLIC_URL": "accounts.example.com",
    "FRONTEND_RESET_URL": "https://app.example.com/reset#here",
    "BRAND_NAME": "<b>Example</b>",
    "SIGN_IN_URL": "example.com/login",
    "SUPPORT_EMAIL": "ask us",
    "BRAND_LOGO": "logo.png",
    "BRAND_COLOR": "#ffcc00",
    "TRUSTED_DOCUMENTS": "/nonexistent/manifest.json",
    "TEST_CODES": '{"e2e@example.com": 424242}',
    "BRANDS": '{"shop": {"nmae": "Shop"}}',
    "PORT": "eighty",
    "WORKERS": "0",
    "LOG_LEVEL": "loud",
    "METRICS_TOKEN": "hunter2",
    "LOG_FORMAT": "xml",
    "TRUSTED_PROXIES": "-1",
    "GRAPHIQL": "perhaps",
    "GRAPHQL_INTROSPECTION": "yes please",
    "SECURE_SSL_REDIRECT": "sometimes",
    "DATABASE_URL": "nonsense://recovery:hunter2-database@db/recovery",
    "PASSWORD_MIN_LENGTH": "3",
    "PASSWORD_CHECK_PWNED": "sometimes",
    "PWNED_PASSWORDS_URL": "file:///etc/passwords",
    "HASH_CONCURRENCY": "0",
    "PASSWORD_RESET_COOLDOWN": "-1",
    "PASSWORD_RESET_CODE_LENGTH": "4",
    "PASSWORD_RESET_CODE_LIFETIME": "0",
    "PASSWORD_RESET_LINK_LIFETIME": "forever",
    "THROTTLE_REQUEST_PER_IP": "often",
    "THROTTLE_REQUEST_PER_EMAIL": "5",
    "THROTTLE_VERIFY_PER_IP": "many/hour",
    "THROTTLE_WRONG_CODES": "a few",
    "THROTTLE_STATUS_PER_HANDLE": "always",
    "THROTTLE_STATUS_PER_IP": "1/blink",
    "EMAIL_PORT": "0",
    "EMAIL_USE_TLS": "starttls",
    "EMAIL_TIMEOUT": "1000",
    "MAIL_HELO": "mailer",
    "LANGUAGES": "de, klingon",
    "LANGUAGE_CODE": "xx",
    "MAIL_WITHOUT_PASSWORD": "loudly",
    "MAIL_UNKNOWN": "perhaps",
    "THROTTLE_MAIL_UNKNOWN": "seldom",
    "MAIL_DISPATCH": "pigeon",
    "MAIL_SENDERS": "0",
    "MAIL_THREADS": "257",
    "MAIL_SWEEP_SECONDS": "0",
    "MAIL_LEASE_SECONDS": "x",
    "MAIL_RETRY_SECONDS": "",
    "MAIL_MAX_ATTEMPTS": "1.5",
    "MAIL_PER_MINUTE": "-1",
}


def load(**variables: str) -> dict[str, Any]:
    """The settings as they come out of these variables and no others."""
    with patch.dict(os.environ, variables, clear=True):
        return runpy.run_path(str(ROOT / "backend" / "settings.py"))


def problems(**variables: str) -> str:
    with pytest.raises(ImproperlyConfigured) as caught:
        load(**variables)
    # What hangs on to the exception is printed with it where nobody catches it.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py under production settings, warnings shown, in a process of its own."""
    command = [sys.executable, "-W", "default", "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


# --- Files -----------------------------------------------------------------------------------------------------------


def without(name: str) -> dict[str, str]:
    return {variable: value for variable, value in PRODUCTION.items() if variable != name}


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    key, database = tmp_path / "key", tmp_path / "database"
    key.write_text(PRODUCTION["SECRET_KEY"] + "\n")
    database.write_text("postgres://u:hunter2@db/recovery\n")
    given = load(**without("SECRET_KEY"), SECRET_KEY_FILE=str(key), DATABASE_URL_FILE=str(database))
    assert given["SECRET_KEY"] == PRODUCTION["SECRET_KEY"]
    assert given["DATABASES"]["default"]["PASSWORD"] == "hunter2"  # noqa: S105 (made up)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named_by_its_variable_and_not_by_its_path(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "hunter2"
    if content:
        path.write_bytes(content)
    said = problems(**without("SECRET_KEY"), SECRET_KEY_FILE=str(path))
    assert "SECRET_KEY_FILE: Not a file that can be read" in said
    assert "hunter2" not in said


def test_a_variable_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hunter2" * 10)
    said = problems(**PRODUCTION, SECRET_KEY_FILE=str(path))
    assert "SECRET_KEY: Given twice: set it or SECRET_KEY_FILE, not both." in said
    assert "hunter2" not in said


def test_the_admin_can_be_switched_off() -> None:
    ask = (
        "from django.test import Client\n"
        "ask = Client(headers={'host': 'accounts.example.com'})\n"
        "print(*(ask.get(path, secure=True).status_code for path in ('/admin/', '/admin/login/', '/livez')))\n"
    )
    for switch, answers in (("0", "404 404 200"), ("1", "302 200 200")):
        result = manage("shell", "--no-imports", "-c", ask, **PRODUCTION, ADMIN_ENABLED=switch)
        assert result.stdout.strip() == answers, result.stderr


# --- Bad values ------------------------------------------------------------------------------------------------------


def test_every_bad_variable_is_named_at_once_without_a_traceback_or_a_secret() -> None:
    result = manage("check", **BAD, EMAIL_HOST_PASSWORD="hunter2-mail", SECRET_KEY_FALLBACKS="hunter2-former")
    assert result.returncode == 1
    assert result.stdout == ""
    heading, *lines = result.stderr.splitlines()
    assert heading == "These environment variables need mending:"
    assert [line.split(":")[0].strip() for line in lines] == sorted({*BAD, "SECRET_KEY_FALLBACKS"})
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize("variable", BAD)
def test_a_single_bad_variable_is_named_alone_and_told_why(variable: str) -> None:
    _, *lines = problems(**{**PRODUCTION, variable: BAD[variable]}).splitlines()
    (line,) = lines
    name, _, why = line.strip().partition(": ")
    assert name == variable
    assert why


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("hunter2-short", "It is too short"),
        ("h2" * 30, "It is too regular"),
        ("{good},hunter2-short", "Number 2 is too short"),
        ("hunter2-short,{good}", "Number 1 is too short"),
        ("{good}," + "h2" * 30, "Number 2 is too regular"),
    ],
)
def test_each_former_key_is_checked_as_the_key_is(keys: str, told: str) -> None:
    good = PRODUCTION["SECRET_KEY"]
    said = problems(**PRODUCTION, SECRET_KEY_FALLBACKS=keys.format(good=good))
    assert f"SECRET_KEY_FALLBACKS: {told}" in said
    assert not any(secret in said for secret in ("hunter2", "h2h2", good))
    given = load(**PRODUCTION, SECRET_KEY_FALLBACKS=f"{good} , {good[::-1]}")
    assert given["SECRET_KEY_FALLBACKS"] == [good, good[::-1]]
    load(DEBUG="1", SECRET_KEY="x", SECRET_KEY_FALLBACKS="y")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com, app.example.com"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com/path"),
        ("REDIS_URL", "nonsense://:hunter2-redis@cache:6379/0"),
        ("REDIS_URL", "cache:6379"),
        ("REDIS_URL", "redis://:hunter2-redis@cache:port/0"),
        ("DEFAULT_FROM_EMAIL", "nobody in particular"),
        *[("MAIL_HELO", name) for name in ("a b.example", "x.example\r\nRSET", "192.0.2.1", "[::1]", "[IPv6:1]", "[]")],
    ],
)
def test_what_would_only_fail_later_is_named_at_the_start_too(variable: str, value: str) -> None:
    found = problems(**{**PRODUCTION, variable: value})
    assert f"  {variable}: " in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "url",
    [
        "nonsense://recovery:hunter2@db/recovery",
        "postgres://recovery:hunter2@db:port/recovery",
        "postgres://recovery:hunter2@db:99999999/recovery",
        "postgres://recovery:hunter2[@db/recovery",
        "hunter2",
    ],
)
def test_a_database_url_that_is_wrong_is_not_repeated(url: str) -> None:
    found = problems(**PRODUCTION, DATABASE_URL=url)
    assert "DATABASE_URL: Not a database URL" in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("pool=true", "pool is not served"),
        ("colour=blue", "colour is an option that is not known: leave it out."),
        ("isolation_level=serializable", "isolation_level is an option that is not known: leave it out."),
        ("sslmode=require&sslmode=disable", "sslmode is given more than once: leave one."),
        ("sslmode=yes", 'invalid sslmode value: "yes": mend it, or leave it out.'),
        ("connect_timeout=soon", "connect_timeout must be a whole number."),
        ("prepare_threshold=never", "prepare_threshold must be a whole number."),
    ],
)
def test_each_odd_option_of_a_database_url_is_named_with_its_mend(options: str, told: str) -> None:
    found = problems(**{**PRODUCTION, "PORT": "0"}, DATABASE_URL=f"postgres://u:hunter2@db/recovery?{options}&odd=1")
    assert told in found
    assert "odd is an option that is not known" in found
    assert "PORT: " in found
    assert "hunter2" not in found


def test_sqlite_takes_no_options() -> None:
    assert "DATABASE_URL: SQLite takes no options" in problems(**PRODUCTION, DATABASE_URL="sqlite:///x?timeout=5")


@pytest.mark.parametrize("variable", ["SECRET_KEY", "PUBLIC_URL"])
def test_with_debug_off_the_start_is_refused_without(variable: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != variable}
    assert f"  {variable}: Required unless DEBUG is on" in problems(**given)


@pytest.mark.parametrize(("key", "told"), [("hunter2", "short"), ("abcd" * 20, "regular")])
def test_a_secret_key_that_can_be_guessed_is_refused_and_not_repeated(key: str, told: str) -> None:
    found = problems(**{**PRODUCTION, "SECRET_KEY": key})
    assert f"SECRET_KEY: It is too {told}" in found
    assert key not in found


def test_tls_from_the_start_and_tls_later_exclude_each_other() -> None:
    assert "EMAIL_USE_SSL" in problems(**PRODUCTION, EMAIL_USE_TLS="1", EMAIL_USE_SSL="1")


@pytest.mark.parametrize("url", ["https://accounts.example.com/path", "https://accounts.example.com?a=b", "//host"])
def test_the_public_url_is_an_origin_and_nothing_more(url: str) -> None:
    assert "PUBLIC_URL: Not a" in problems(**{**PRODUCTION, "PUBLIC_URL": url})


@pytest.mark.parametrize(
    ("sender", "told"),
    [
        ("a@example.com <a@example.com>", 'quote the name, as in "a@example.com" <a@example.com>'),
        ("Foo: bar <a@example.com>", 'quote the name, as in "Foo: bar" <a@example.com>'),
        ("a@example.com, b@example.com", "several addresses"),
        ("Support", "no address"),
        ("josé@example.com", "not ASCII"),
    ],
)
def test_a_sender_that_could_never_mail_stops_the_start_and_is_told_the_mend(sender: str, told: str) -> None:
    said = problems(**{**PRODUCTION, "DEFAULT_FROM_EMAIL": sender, "PORT": "eighty"})
    (line,) = [line for line in said.splitlines() if line.startswith("  DEFAULT_FROM_EMAIL: ")]
    assert told in line
    assert "  PORT: " in said


def test_a_sender_in_another_encoding_than_utf_8_is_told_so_without_a_traceback() -> None:
    result = manage("check", **PRODUCTION, DEFAULT_FROM_EMAIL="Caf\udce9 <a@example.com>")
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == ["  DEFAULT_FROM_EMAIL: It is not in UTF-8."]


# --- Good values -----------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    given = load(**PRODUCTION)
    expected = {
        "DEBUG": False,
        "GRAPHIQL": False,
        "GRAPHQL_INTROSPECTION": False,
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        "SECURE_SSL_REDIRECT": True,
        "ALLOWED_HOSTS": ["accounts.example.com"],
        "CORS_ALLOWED_ORIGINS": [],
        "TRUSTED_PROXIES": 0,
        "REDIS_URL": "",
        "FRONTEND_RESET_URL": "",
        "DEFAULT_FROM_EMAIL": "no-reply@accounts.example.com",
        "MAIL_DISPATCH": "thread",
        "MAIL_LEASE_SECONDS": 120,
        "MAIL_HELO": "",
        "MAIL_PER_MINUTE": 0,
        "WORKERS": 2,
        "THROTTLE_REQUEST_PER_IP": "20/hour",
        "THROTTLE_REQUEST_PER_EMAIL": "5/hour",
        "THROTTLE_VERIFY_PER_IP": "60/hour",
        "THROTTLE_WRONG_CODES": "500/hour",
        "THROTTLE_STATUS_PER_HANDLE": "60/minute",
        "THROTTLE_STATUS_PER_IP": "300/minute",
        "PASSWORD_RESET_COOLDOWN": 60,
        "PASSWORD_RESET_CODE_LENGTH": 6,
        "PASSWORD_RESET_CODE_LIFETIME": 600,
        "PASSWORD_RESET_LINK_LIFETIME": 3600,
        "PASSWORD_MIN_LENGTH": 15,
        "PASSWORD_CONTEXT_WORDS": [],
        "HASH_CONCURRENCY": 2,
        "PWNED_PASSWORDS_URL": "https://api.pwnedpasswords.com/range/",
    }
    assert {name: given[name] for name in expected} == expected
    assert given["SMTP"]["timeout"] == 10


def test_graphiql_and_introspection_follow_debug() -> None:
    given = load(DEBUG="1", SECRET_KEY="x")
    assert given["GRAPHIQL"] is given["GRAPHQL_INTROSPECTION"] is True
    told = load(DEBUG="1", SECRET_KEY="x", GRAPHIQL="no", GRAPHQL_INTROSPECTION="off")
    assert told["GRAPHIQL"] is told["GRAPHQL_INTROSPECTION"] is False


def test_the_form_of_the_log_follows_debug() -> None:
    assert load(DEBUG="1", SECRET_KEY="x")["LOG_FORMAT"] == "console"
    given = load(DEBUG="1", SECRET_KEY="x", LOG_FORMAT="json", LOG_LEVEL="WARNING")["LOGGING"]
    assert (given["formatters"]["line"]["form"], given["root"]["level"]) == ("json", "WARNING")


def test_development_needs_no_variable_but_debug() -> None:
    given = load(DEBUG="true", PORT="8123")
    assert given["PUBLIC_URL"] == "http://127.0.0.1:8123"
    assert len(given["SECRET_KEY"]) >= 50
    assert given["SECRET_KEY"] == load(DEBUG="true")["SECRET_KEY"]


def test_blanks_in_a_list_mean_nothing() -> None:
    origins = " https://a.example.com , https://b.example.com,, "
    assert load(**PRODUCTION, CORS_ALLOWED_ORIGINS=origins)["CORS_ALLOWED_ORIGINS"] == [
        "https://a.example.com",
        "https://b.example.com",
    ]


def test_the_mail_server_is_as_it_was_given() -> None:
    variables = {"EMAIL_PORT": "587", "EMAIL_HOST_USER": "u", "EMAIL_HOST_PASSWORD": "p", "EMAIL_USE_TLS": "on"}
    smtp = load(**PRODUCTION, **variables)["SMTP"]
    assert smtp == {
        "host": "mail.example.com",
        "port": 587,
        "username": "u",
        "password": "p",
        "use_tls": True,
        "use_ssl": False,
        "timeout": 10,
    }


@pytest.mark.parametrize("route", ["", "#/reset", "#!/reset", "#/", "#/account/forgot-password"])
def test_the_page_may_have_a_route_behind_the_number_sign(route: str) -> None:
    url = f"https://app.example.com/{route}"
    assert load(**PRODUCTION, FRONTEND_RESET_URL=url)["FRONTEND_RESET_URL"] == url


@pytest.mark.parametrize("route", ["#", "#reset", "#/reset?tab=2", "#/a#/b", "#/%72", "#/a b", "#/ä", "#//a&b"])
def test_a_route_that_no_token_can_stand_behind_is_told_what_to_write(route: str) -> None:
    found = problems(**PRODUCTION, FRONTEND_RESET_URL=f"https://app.example.com/{route}")
    assert "  FRONTEND_RESET_URL: Behind the # stands a route, such as https://app.example.com/#/reset" in found


@pytest.mark.parametrize("name", ["mail.example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]", "xn--bcher-kva.example"])
def test_mail_servers_are_greeted_by_the_name_that_is_given(name: str) -> None:
    assert load(**PRODUCTION, MAIL_HELO=f" {name} ")["MAIL_HELO"] == name


def test_without_a_proxy_no_header_of_one_is_believed() -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in load(**PRODUCTION)
    assert load(**PRODUCTION, TRUSTED_PROXIES="1")["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")


# --- The database ----------------------------------------------------------------------------------------------------


def test_sqlite_lets_readers_pass_and_a_second_writer_wait(tmp_path: Path) -> None:
    ask = (
        "from django.db import connection\n"
        "cursor = connection.cursor()\n"
        "for pragma in ('journal_mode', 'busy_timeout'):\n"
        "    print(cursor.execute(f'PRAGMA {pragma}').fetchone()[0])\n"
        "print(connection.transaction_mode)\n"
    )
    database = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    result = manage("shell", "--no-imports", "-c", ask, **PRODUCTION, DATABASE_URL=database)
    assert result.stdout.split() == ["wal", "20000", "IMMEDIATE"], result.stderr


def test_another_database_gets_none_of_the_options_of_sqlite() -> None:
    given = load(**PRODUCTION, DATABASE_URL="postgres://u:p%40ss@db:5432/recovery")["DATABASES"]["default"]
    assert given["ENGINE"] == "backend.postgresql"
    assert (given["USER"], given["PASSWORD"], given["HOST"], given["NAME"]) == ("u", "p@ss", "db", "recovery")
    assert given["OPTIONS"] == SILENT_SERVER
    assert given["CONN_HEALTH_CHECKS"] is True
    # A pooler such as PgBouncer may hand each transaction to another connection.
    assert given["DISABLE_SERVER_SIDE_CURSORS"] is True


def test_options_that_libpq_or_django_know_are_passed_on() -> None:
    options = {
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
        "connect_timeout": 3,
        "host": "/var/run/postgresql",
        "target_session_attrs": "read-write",
        "application_name": "recovery",
        "prepare_threshold": 5,
    }
    url = f"postgres://u:p@/recovery?{urlencode(options)}"
    assert load(**PRODUCTION, DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"] == {**SILENT_SERVER, **options}


def test_senders_go_by_their_former_name_too_and_the_present_one_counts() -> None:
    assert load(**PRODUCTION)["MAIL_SENDERS"] == 32
    assert load(**PRODUCTION, MAIL_THREADS="3")["MAIL_SENDERS"] == 3
    assert load(**PRODUCTION, MAIL_THREADS="3", MAIL_SENDERS="5")["MAIL_SENDERS"] == 5


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("http://127.0.0.1:8000", "no-reply@[127.0.0.1]"),
        ("http://[::1]:8000", "no-reply@[IPv6:::1]"),
        ("http://localhost:8000", "no-reply@localhost"),
    ],
)
def test_without_a_sender_mails_come_from_the_public_urls_host(url: str, sender: str) -> None:
    assert load(DEBUG="1", PUBLIC_URL=url)["DEFAULT_FROM_EMAIL"] == sender


def test_the_sender_has_the_name_of_the_brand_unless_it_has_one_of_its_own() -> None:
    sender = load(**PRODUCTION, BRAND_NAME="Bücher, Söhne & Co.")["DEFAULT_FROM_EMAIL"]
    assert parse_sender(sender) == Sender("Bücher, Söhne & Co.", "no-reply@accounts.example.com")
    given = load(**PRODUCTION, BRAND_NAME="Example", DEFAULT_FROM_EMAIL="help@example.com")
    assert given["DEFAULT_FROM_EMAIL"] == "help@example.com"
