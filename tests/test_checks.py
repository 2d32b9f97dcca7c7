"""System checks: each deployment that would be unsafe is told which, and one that is not is told nothing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core import checks

from accounts.checks import check_link_outlives_limits, check_sender
from tests.test_environment import PRODUCTION, ROOT, manage

PROPER = {
    **PRODUCTION,
    "DATABASE_URL": "postgres://recovery:secret@database.invalid:5432/recovery",
    "REDIS_URL": "redis://cache.invalid:6379/0",
    "TRUSTED_PROXIES": "1",
}
"""What the README asks of a deployment. Neither server needs to answer for it to be checked."""
HASHER = "django.contrib.auth.hashers."


@pytest.fixture
def proper(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings that no check has anything to say about."""
    settings.SECURE_SSL_REDIRECT, settings.TRUSTED_PROXIES = True, 1
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.GRAPHIQL = settings.GRAPHQL_INTROSPECTION = False
    settings.PASSWORD_HASHERS = [name for name in settings.PASSWORD_HASHERS if "MD5" not in name]
    settings.REDIS_URL = "redis://cache.invalid:6379/0"
    settings.MAIL_DISPATCH, settings.WORKERS = "thread", 2
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    mail_by(settings, "django.core.mail.backends.smtp.EmailBackend", timeout=10)
    return settings


def mail_by(settings: Any, backend: str, timeout: float | None) -> None:
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": {"timeout": timeout} if timeout else {}}}
    else:
        settings.EMAIL_BACKEND, settings.EMAIL_TIMEOUT = backend, timeout


def found(*, deploy: bool = True) -> list[str]:
    """The ids of what our checks say, each of them with a hint."""
    messages = [
        message
        for check in checks.registry.registry.get_checks(include_deployment_checks=deploy)
        if "accounts" in check.__module__
        for message in check(app_configs=None, databases=["default"])
    ]
    assert all(message.hint for message in messages)
    return sorted({str(message.id).removeprefix("account_recovery.") for message in messages})


def test_settings_as_they_should_be_are_told_nothing(proper: Any) -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"MAIL_DISPATCH": "inline"}, ["E001"]),
        ({"DEBUG": True}, ["E003"]),
        ({"DEBUG": True, "PUBLIC_URL": "http://8.8.8.8:8000"}, ["E003"]),
        ({"DEBUG": True, "PUBLIC_URL": "http://127.0.0.1:8000"}, []),
        ({"DEBUG": True, "PUBLIC_URL": "http://192.168.1.5:8000"}, []),
        ({"DEBUG": True, "PUBLIC_URL": "http://laptop.local:8000"}, []),
        ({"PUBLIC_URL": "http://accounts.example.com"}, ["E005"]),
        ({"PUBLIC_URL": "http://192.168.1.5"}, ["E005"]),
        ({"PUBLIC_URL": "http://127.0.0.1:8000"}, []),
        ({"PUBLIC_URL": "http://[::1]:8000"}, []),
        ({"FRONTEND_RESET_URL": "http://app.example.com/reset"}, ["E005"]),
        ({"FRONTEND_RESET_URL": "https://app.example.com/reset"}, []),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, ["E006"]),
        ({"CORS_ALLOWED_ORIGIN_REGEXES": [r".*"]}, ["E006"]),
        ({"CORS_ALLOWED_ORIGIN_REGEXES": [re.compile(r"^https://\w+\.example\.com$")]}, []),
        ({"PASSWORD_HASHERS": [f"{HASHER}MD5PasswordHasher"]}, ["E007"]),
        ({"PASSWORD_HASHERS": ["tests.test_checks.QuickHasher"]}, ["E007"]),
        ({"PASSWORD_HASHERS": [f"{HASHER}PBKDF2PasswordHasher"]}, []),
        ({"PASSWORD_HASHERS": [f"{HASHER}Argon2PasswordHasher", f"{HASHER}MD5PasswordHasher"]}, []),
        ({"AUTH_PASSWORD_VALIDATORS": []}, ["E008"]),
        ({"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": "memory://"}, ["E009"]),
        ({"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": "redis://cache.invalid"}, []),
        ({"PASSWORD_RESET_LINK_LIFETIME": 3599}, ["E010"]),
        ({"PASSWORD_RESET_LINK_LIFETIME": 600}, ["E010"]),
        ({"PASSWORD_RESET_LINK_LIFETIME": 600, "THROTTLE_REQUEST_PER_EMAIL": "1/10minute"}, []),
        ({"PASSWORD_RESET_LINK_LIFETIME": 599, "THROTTLE_REQUEST_PER_EMAIL": "1/10minute"}, ["E010"]),
        ({"THROTTLE_REQUEST_PER_EMAIL": "10/2 hours"}, ["E010"]),
        (
            {
                "PASSWORD_RESET_LINK_LIFETIME": 60,
                "THROTTLE_REQUEST_PER_EMAIL": "5/minute",
                "PASSWORD_RESET_COOLDOWN": 61,
            },
            ["E010"],
        ),
        ({"DEFAULT_FROM_EMAIL": "Foo: bar <a@example.com>"}, ["E011"]),
        ({"DEFAULT_FROM_EMAIL": '"Foo: bar" <a@example.com>'}, []),
        ({"DEFAULT_FROM_EMAIL": "webmaster@localhost"}, []),
        ({"FRONTEND_RESET_URL": "https://app.example.com/#/reset"}, []),
        ({"FRONTEND_RESET_URL": "https://app.example.com/?tab=2#!/reset"}, []),
        ({"FRONTEND_RESET_URL": "https://app.example.com/#"}, ["E012"]),
        ({"FRONTEND_RESET_URL": "https://app.example.com/#reset"}, ["E012"]),
        ({"FRONTEND_RESET_URL": "https://app.example.com/#/reset?tab=2"}, ["E012"]),
        ({"FRONTEND_RESET_URL": "https://app.example.com/#/a#/b"}, ["E012"]),
        ({"RETENTION_DAYS": 13}, ["E017"]),
        ({"TEST_CODES": {"e2e@example.com": "424242"}}, ["E019"]),
        ({"RETENTION_DAYS": 14}, []),
        ({"RETENTION_DAYS": 0}, []),
        ({"MAIL_LEASE_SECONDS": 60}, ["W001"]),
        ({"MAIL_LEASE_SECONDS": 61}, []),
        ({"REDIS_URL": ""}, ["W002"]),
        ({"REDIS_URL": "", "WORKERS": 1}, []),
        ({"SECURE_PROXY_SSL_HEADER": None, "TRUSTED_PROXIES": 0}, ["W004"]),
        ({"TRUSTED_PROXIES": 0}, ["W004"]),
        ({"SECURE_PROXY_SSL_HEADER": None, "TRUSTED_PROXIES": 0, "SECURE_SSL_REDIRECT": False}, []),
        ({"ALLOWED_HOSTS": ["*"]}, ["W005"]),
        ({"ALLOWED_HOSTS": [".example.com"]}, []),
        ({"PASSWORD_RESET_CODE_LIFETIME": 601}, ["W007"]),
        ({"PASSWORD_RESET_LINK_LIFETIME": 3601}, ["W007"]),
        ({"PASSWORD_RESET_CODE_LIFETIME": 600, "PASSWORD_RESET_LINK_LIFETIME": 3600}, []),
        ({"GRAPHIQL": True}, ["W008"]),
        ({"GRAPHQL_INTROSPECTION": True}, ["W008"]),
    ],
)
def test_what_is_unsafe_is_told(proper: Any, changes: dict[str, Any], expected: list[str]) -> None:
    for name, value in changes.items():
        setattr(proper, name, value)
    assert found() == expected


def test_a_link_that_dies_too_soon_is_told_at_every_start_with_the_numbers(proper: Any) -> None:
    proper.PASSWORD_RESET_LINK_LIFETIME = 600
    (error,) = check_link_outlives_limits()
    assert error.hint == (
        "Give PASSWORD_RESET_LINK_LIFETIME, which is 600 seconds, 3600 at least, "
        "or THROTTLE_REQUEST_PER_EMAIL (5/hour) 600 seconds at most."
    )
    assert found(deploy=False) == ["E010"]
    proper.DEBUG, proper.PUBLIC_URL = True, "http://127.0.0.1:8000"
    assert found(deploy=False) == ["E010"]


def test_a_host_that_sets_a_bad_sender_is_told_the_mend_at_every_start(proper: Any) -> None:
    proper.DEFAULT_FROM_EMAIL = "a@example.com <a@example.com>"
    (error,) = check_sender()
    assert 'quote the name, as in "a@example.com" <a@example.com>' in str(error.hint)
    assert found(deploy=False) == ["E011"]
    proper.DEBUG, proper.PUBLIC_URL = True, "http://127.0.0.1:8000"
    assert found(deploy=False) == ["E011"]


class QuickHasher(PBKDF2PasswordHasher):
    """One round short of enough."""

    iterations = 599_999


@pytest.mark.parametrize("left_out", ["MinimumLengthValidator", "CommonPasswordValidator"])
def test_a_policy_without_length_or_without_a_list_of_common_passwords_is_told(proper: Any, left_out: str) -> None:
    weaker = [each for each in proper.AUTH_PASSWORD_VALIDATORS if left_out not in each["NAME"]]
    proper.AUTH_PASSWORD_VALIDATORS = [each for each in weaker if "Strength" not in each["NAME"]]
    assert found() == ["E008"]


@pytest.mark.parametrize("name", ["console", "filebased", "locmem", "dummy"])
def test_a_mail_backend_that_delivers_to_nobody_is_told(proper: Any, name: str) -> None:
    mail_by(proper, f"django.core.mail.backends.{name}.EmailBackend", timeout=10)
    assert found() == ["E004"]
    mail_by(proper, "django_mail_preview.backends.EmailBackend", timeout=10)
    assert found() == ["E004"]


def test_mail_without_a_timeout_is_told_unless_it_goes_by_another_way_than_smtp(proper: Any) -> None:
    mail_by(proper, "django.core.mail.backends.smtp.EmailBackend", timeout=None)
    assert found() == ["W006"]
    mail_by(proper, "anymail.backends.EmailBackend", timeout=None)
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["W003"]),
        ({"WORKERS": 1}, []),
        ({"WORKERS": 1, "MAIL_DISPATCH": "none"}, ["W003"]),
        ({"WORKERS": 1, "MAIL_DISPATCH": "celery"}, ["W003"]),
    ],
)
def test_sqlite_shared_by_processes_is_told(
    proper: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: list[str]
) -> None:
    monkeypatch.setitem(proper.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    for name, value in changes.items():
        setattr(proper, name, value)
    assert found() == expected


def test_a_host_without_public_url_is_told_at_every_start(proper: Any) -> None:
    del proper.PUBLIC_URL
    assert found(deploy=False) == ["E002"]
    proper.DEBUG = True
    assert found(deploy=False) == []


def test_links_that_have_no_page_are_told(proper: Any) -> None:
    proper.ROOT_URLCONF = "django.contrib.auth.urls"
    assert found(deploy=False) == ["E013"]
    proper.FRONTEND_RESET_URL = "https://app.example.com/reset"
    assert found(deploy=False) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECOVERY_DIRECTORY", "nowhere.Directory"),
        ("RECOVERY_DIRECTORY", "no dotted path"),
        ("RECOVERY_DIRECTORY", "accounts.directory.stored_in"),
        ("RECOVERY_USER_MODEL", "nowhere.Person"),
        ("RECOVERY_USER_MODEL", "Person"),
    ],
)
def test_accounts_that_cannot_be_reached_are_told(proper: Any, name: str, value: str) -> None:
    setattr(proper, name, value)
    assert found(deploy=False) == ["E014"]


def test_tokens_that_could_not_be_revoked_are_told(proper: Any) -> None:
    proper.REVOKE_TOKENS = ["knox"]  # which is not installed
    assert found(deploy=False) == ["E015"]
    proper.REVOKE_TOKENS = ["jwt"]
    assert found(deploy=False) == ["E015"]


def test_webhooks_with_mistakes_are_told_each(proper: Any) -> None:
    proper.WEBHOOKS = [{"name": "crm", "url": "http://crm.example.com/", "secrets": []}]
    assert found(deploy=False) == ["E016"]


@pytest.mark.parametrize(
    "hasher", ["PBKDF2", "PBKDF2SHA1", "Argon2", "BCryptSHA256", "BCrypt", "Scrypt", "MD5"], ids=lambda name: str(name)
)
def test_djangos_own_hashers_are_slow_enough_but_for_the_one_for_tests(proper: Any, hasher: str) -> None:
    proper.PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{hasher}PasswordHasher"]
    assert found() == (["E007"] if hasher == "MD5" else [])


def test_a_developer_is_told_none_of_what_is_for_deployments(proper: Any) -> None:
    proper.DEBUG, proper.PUBLIC_URL, proper.REDIS_URL = True, "http://127.0.0.1:8000", ""
    proper.ALLOWED_HOSTS, proper.GRAPHIQL = ["*"], True
    assert found() == []
    assert found(deploy=False) == []


def test_every_check_is_in_the_document_and_has_a_test() -> None:
    ids = set(re.findall(r"account_recovery\.([EW]\d{3})", (ROOT / "accounts" / "checks.py").read_text()))
    assert set(re.findall(r"`account_recovery\.([EW]\d{3})`", (ROOT / "docs" / "checks.md").read_text())) == ids
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = set(re.findall(r'"(?:account_recovery\.)?([EW]\d{3})"', tests))
    assert tested == ids


# --- In processes of their own ---------------------------------------------------------------------------------------


def check(level: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return manage("check", "--deploy", "--fail-level", level, **variables)


@pytest.mark.processes
def test_a_deployment_as_the_readme_asks_for_is_clean() -> None:
    result = check("WARNING", **PROPER)
    assert (result.returncode, result.stderr) == (0, "")
    assert "no issues (0 silenced)" in result.stdout


@pytest.mark.processes
def test_the_readmes_shortest_deployment_may_start_and_is_told_what_is_weak(tmp_path: Path) -> None:
    result = check("ERROR", **PRODUCTION, DATABASE_URL=f"sqlite:///{tmp_path / 'db.sqlite3'}")
    assert result.returncode == 0
    assert set(re.findall(r"account_recovery\.\w+", result.stderr)) == {
        "account_recovery.W002",
        "account_recovery.W003",
        "account_recovery.W004",
    }


@pytest.mark.processes
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MAIL_DISPATCH": "inline"}, "account_recovery.E001"),
        ({"PUBLIC_URL": "http://accounts.example.com"}, "account_recovery.E005"),
        ({"DEBUG": "1"}, "account_recovery.E003"),
        ({"PASSWORD_RESET_LINK_LIFETIME": "600"}, "account_recovery.E010"),
        ({"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": "memory://"}, "account_recovery.E009"),
    ],
)
def test_an_error_stops_make_serve(variables: dict[str, str], expected: str) -> None:
    result = check("ERROR", **{**PROPER, **variables})
    assert result.returncode == 1
    assert expected in result.stderr


@pytest.mark.processes
def test_the_workers_that_make_serve_starts_are_those_that_are_checked(tmp_path: Path) -> None:
    for name in ("python", "granian"):
        stand_in = tmp_path / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f'#!/bin/sh\necho "{name} told $WORKERS, asked $*"\n')
        stand_in.chmod(0o755)
    (tmp_path / "texts.stamp").touch()
    make = ["make", "--no-print-directory", "--old-file=setup", "serve", f"VENV={tmp_path}"]
    done = subprocess.run(make, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert "python told 2, asked manage.py check --deploy --fail-level ERROR" in done.stdout
    assert re.search(r"granian told 2, asked .*--workers 2 ", done.stdout)
    result = check("ERROR", **{**PROPER, "REDIS_URL": "", "WORKERS": "7"})
    assert "7 processes each count their own limits" in result.stderr
