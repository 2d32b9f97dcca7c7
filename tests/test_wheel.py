"""The wheel: what is in it, and that a project of one's own can install it."""

from __future__ import annotations

import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from harness.deployment import ROOT
from harness.wheel import build, install, run

SETTINGS = """
SECRET_KEY = "k" * 50
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_FROM_EMAIL = "no-reply@example.com"
PUBLIC_URL = "https://example.com"
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "accounts",
    "strawberry_django",
    "account_recovery",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
STATIC_URL = "/static/"
PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": PROCESSORS},
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 15}},
    {"NAME": "account_recovery.passwords.policy.CommonPasswordValidator"},
]
"""
URLS = """
from django.contrib import admin
from django.urls import include, path
from account_recovery.api import (
    EXCEPTION_HANDLERS, EXTENSIONS, GraphQLView, Mutation, Query, Schema
)
schema = Schema(query=Query, mutation=Mutation, extensions=EXTENSIONS, exception_handlers=EXCEPTION_HANDLERS)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("graphql/", GraphQLView.as_view(schema=schema), name="graphql"),
    path("recovery/", include("account_recovery.urls")),
]
"""
USE = """
import django
django.setup()
import importlib
import pkgutil
import account_recovery
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.contrib.staticfiles.finders import find
from django.core import mail
from django.db.backends.signals import connection_created
from django.test import Client
from django.test.utils import override_settings
from django.utils import translation

for module in pkgutil.walk_packages(account_recovery.__path__, "account_recovery."):
    if not module.name.endswith(("tasks", ".redis", ".allauth", ".previews")):  # extras
        importlib.import_module(module.name)

User.objects.create_user("ada", "ada@example.com", "umbrella-cactus-violin-91")
document = 'mutation { requestPasswordReset(input: {email: "ada@example.com"}) { __typename } }'
memory = "django.core.mail.backends.locmem.EmailBackend"
backend = {"MAILERS": {"default": {"BACKEND": memory}}} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": memory}
with override_settings(MAIL_DISPATCH="inline", ALLOWED_HOSTS=["testserver"], **backend):
    mail.outbox = []
    answer = Client().post("/graphql/", {"query": document}, "application/json")
    assert answer.json() == {"data": {"requestPasswordReset": {"__typename": "RequestPasswordResetSuccess"}}}, answer
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]
    page = Client().get("/recovery/reset/")
    assert page.status_code == 200, page
    assert b"account_recovery/reset.js" in page.content
assert find("account_recovery/reset.js")
with translation.override("de"):
    assert translation.gettext("Forgot your password?") == "Passwort vergessen?"

# Nothing else is changed.
assert admin.site.login_form is None
for signal in (user_logged_in, user_login_failed, connection_created):
    assert not any("account_recovery" in getattr(receiver[1](), "__module__", "") for receiver in signal.receivers)
print("recovered")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_app_and_nothing_of_this_project(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"account_recovery", "account_recovery-0.1.0.dist-info"}
    app = ROOT / "accounts"
    ours = {str(path.relative_to(app)) for path in app.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {name.removeprefix("account_recovery/") for name in names if ".dist-info/" not in name} == ours
    assert {"templates/account_recovery/reset.html", "static/account_recovery/reset.js"} < ours


def test_no_file_of_the_wheel_names_a_package_of_this_project(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                text = archive.read(name).decode()
                assert "from accounts" not in text, name
                assert "from backend" not in text, name
                assert '"accounts.' not in text, name


def test_what_only_some_need_is_an_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read("account_recovery-0.1.0.dist-info/METADATA").decode())
    assert metadata.get_all("Provides-Extra") == ["anymail", "celery", "opentelemetry", "postgres", "redis"]
    needed = [each for each in metadata.get_all("Requires-Dist") or () if "extra ==" not in each]
    assert not any(each.startswith(("celery", "redis", "psycopg", "granian", "django-anymail")) for each in needed)


def test_a_project_with_an_accounts_app_of_its_own_installs_the_wheel(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "venv", str(wheel), pins="requirements.txt")
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / "__init__.py").touch()
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "urls.py").write_text(URLS)
    here = {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}

    assert "no issues" in run(python, "-m", "django", "check", cwd=tmp_path, **here)
    run(python, "-m", "django", "makemigrations", "--check", "--dry-run", cwd=tmp_path, **here)
    run(python, "-m", "django", "migrate", "--verbosity", "0", cwd=tmp_path, **here)
    assert "recovered" in run(python, "-W", "error", "-c", USE, cwd=tmp_path, **here)
