"""Reads settings from environment variables and reports every bad one at once.

An operator who mends one variable, restarts, and meets the next one is an operator who stops trusting the error. So
nothing here raises on its own: problems are collected, and `Environment.seal()` raises them together.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import DomainNameValidator
from environs import EnvValidationError, FileAwareEnv
from environs import validate as checks
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo, PGconn

from accounts import brands
from accounts.conf import parse_documents, parse_rate, parse_web_url
from accounts.hooks.endpoints import parse as parse_webhooks
from accounts.mailing.headers import BadSender, parse_sender

LEAST_KEY_LENGTH, LEAST_KEY_LETTERS = 50, 5
"""Characters of a key, and different ones among them: what Django's security.W009 asks for."""
DJANGO_OPTIONS = {"assume_role", "prepare_threshold"}
"""Options of a PostgreSQL URL that are Django's and not libpq's."""
NUMBERS = {"connect_timeout", "prepare_threshold", "tcp_user_timeout"} | {
    f"keepalives{suffix}" for suffix in ("", "_idle", "_interval", "_count")
}
NOWHERE = "/nonexistent"

TOKEN = re.compile(r"[A-Za-z0-9_-]{22,200}")
"""22 characters of base64 hold 128 random bits."""
SILENT_SERVER = {"connect_timeout": 5, "tcp_user_timeout": 15_000}
"""libpq's options: seconds for a connection, and milliseconds until one that acknowledges nothing is given up."""


class Environment(FileAwareEnv):
    """environs' reader with the kinds of value this project needs.

    Each variable may come from a file, as secrets of containers do: SECRET_KEY_FILE names the one with SECRET_KEY.
    """

    def __init__(self) -> None:
        super().__init__(eager=False, strip_whitespace=True)
        self._problems: dict[str, list[str]] = {}

    def _get_value(self, env_key: str, default: Any) -> Any:
        if os.environ.get(f"{env_key}_FILE") and env_key in os.environ:
            self._problems[env_key] = [f"Given twice: set it or {env_key}_FILE, not both."]
        try:
            return super()._get_value(env_key, default)
        except (OSError, ValueError):
            # The path is not repeated: somebody may have put the secret itself there.
            self._problems[f"{env_key}_FILE"] = ["Not a file that can be read, as UTF-8."]
            return default

    def problem(self, variable: str, message: str) -> None:
        """Note what is wrong with a variable; `seal()` reports it with the others."""
        self._problems.setdefault(variable, []).append(message)

    def words(self, variable: str, default: list[str] | None = None) -> list[str]:
        """A comma-separated list; blanks around and between the commas mean nothing."""
        return [word.strip() for word in self.str(variable, ",".join(default or [])).split(",") if word.strip()]

    def number(self, variable: str, default: int, *, least: int, most: int) -> int:
        """A whole number within bounds, both included."""
        value: int | None = self.int(variable, default, validate=checks.Range(min=least, max=most))
        return default if value is None else value

    def flag(self, variable: str, *, default: bool) -> bool:
        """A switch: true/false, yes/no, on/off or 1/0; anything else is a problem, not a quiet no."""
        value: bool | None = self.bool(variable, default)
        return default if value is None else value

    def check_keys(self, variable: str, keys: list[str]) -> None:
        """Note each key that could be guessed, by its place and by what is wrong with it; a key is never repeated."""
        for place, key in enumerate(keys, start=1):
            which = f"Number {place} is" if len(keys) > 1 else "It is"
            if len(key) < LEAST_KEY_LENGTH:
                self.problem(variable, f"{which} too short: give it {LEAST_KEY_LENGTH} random characters or more.")
            if len(set(key)) < LEAST_KEY_LETTERS:
                self.problem(variable, f"{which} too regular: give it {LEAST_KEY_LENGTH} random characters or more.")

    def check_token(self, variable: str, token: str) -> None:
        """Note a token that could be guessed, or that no header can carry."""
        if not TOKEN.fullmatch(token):
            self.problem(variable, "Give it 22 to 200 random letters, digits, hyphens and underscores.")

    def choice(self, variable: str, default: str, allowed: tuple[str, ...]) -> str:
        value: str | None = self.str(variable, default, validate=checks.OneOf(allowed))
        return default if value is None else value

    def some_of(self, variable: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        """Some of the allowed words, in the order given; all of them where there is nothing else to choose."""
        words = [word.lower() for word in self.words(variable)]
        if odd := [word for word in words if word not in allowed]:
            self.problem(variable, f"{', '.join(odd)}: not one of {', '.join(allowed)}.")
            return allowed
        return tuple(words) or allowed

    def rate(self, variable: str, default: str) -> str:
        """A rate such as `20/hour`."""
        return self._parsed(variable, default, lambda text: (parse_rate(text), text)[1])

    def json_of(self, variable: str, kind: type[Any]) -> Any:
        """JSON of a list or of an object; empty where there is none. It may hold secrets, so it is not repeated."""
        text = self.str(variable, "") or ""
        try:
            found = json.loads(text) if text else kind()
        except ValueError:
            found = None
        if isinstance(found, kind):
            return found
        self.problem(variable, f"Not a JSON {'list' if kind is list else 'object'}.")
        return kind()

    def webhooks(self, variable: str) -> list[Any]:
        """Receivers of events: docs/webhooks.md."""
        found: list[Any] = self.json_of(variable, list)
        try:
            parse_webhooks(found)
        except ValueError as error:
            for problem in str(error).splitlines():
                self.problem(variable, problem)
            return []
        return found

    def importable(self, variable: str) -> str:
        """The dotted path of a class whose module is there; or empty."""
        text = self.str(variable, "") or ""
        try:
            found = not text or find_spec(text.rpartition(".")[0]) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            self.problem(variable, f"There is no {text}: is its package installed?")
        return text

    def origin(self, variable: str, default: str = "") -> str:
        """A scheme and a host, such as https://accounts.example.com; returned without a slash at the end."""
        return self._parsed(variable, default, _origin)

    def origins(self, variable: str) -> list[str]:
        """Several origins, separated by commas."""
        return [self._check(variable, word, _origin) for word in self.words(variable)]

    def redis(self, variable: str) -> str:
        """A Redis URL, or empty. It may hold a password, so a bad one is not repeated."""
        text = self.str(variable, "") or ""
        try:
            parts = urlsplit(text)
            odd = parts.scheme not in {"redis", "rediss", "redis+unix", "unix"} or parts.port == 0
        except ValueError:
            odd = True
        if text and odd:
            self.problem(variable, "Not a Redis URL, such as redis://host:6379/0.")
        return text

    def host(self, variable: str) -> str:
        """A full host name, or an address in brackets, as HELO takes them (RFC 5321 section 4.1.1.1); or empty."""
        return self._parsed(variable, "", _host)

    def sender(self, variable: str, default: str) -> str:
        """An address to send from, with a name if it likes: Support <support@example.com>."""
        text = self.str(variable, default) or default
        try:
            parse_sender(text)
        except BadSender as error:
            self.problem(variable, str(error))
        return text

    def web_url(self, variable: str, default: str = "") -> str:
        """An http(s) URL, with a path if it likes but without a fragment, for the fragment will carry a token."""
        return self._parsed(variable, default, parse_web_url)

    def page(self, variable: str) -> str:
        """A web_url, or one with a route in its fragment, such as https://app.example.com/#/reset; or empty."""
        return self._parsed(variable, "", brands.parse_page)

    def name(self, variable: str) -> str:
        """A name such as Example & Sons, for pages, subjects and senders; or empty."""
        return self._parsed(variable, "", brands.parse_name)

    def address(self, variable: str) -> str:
        """An email address, such as help@example.com; or empty."""
        return self._parsed(variable, "", brands.parse_address)

    def color(self, variable: str) -> str:
        """A color that can be read on a light ground, such as #0b57a4; or empty."""
        return self._parsed(variable, "", brands.parse_color)

    def codes(self, variable: str, length: int) -> dict[str, str]:
        """Codes of so many digits by address, for tests of frontends."""
        found = self.json_of(variable, dict)
        good = all(isinstance(code, str) and re.fullmatch(rf"[0-9]{{{length}}}", code) for code in found.values())
        if not good or not all("@" in address for address in found):
            self.problem(variable, f"An object of addresses and codes of {length} digits, both in quotes.")
            return {}
        return {address.lower(): code for address, code in found.items()}

    def documents(self, variable: str) -> dict[str, str]:
        """The manifest of trusted documents in a file."""
        path = self.str(variable, "") or ""
        try:
            return parse_documents(json.loads(Path(path).read_text(encoding="utf-8"))) if path else {}
        except OSError:
            self.problem(variable, f"{path} cannot be read.")
        except ValueError as error:
            self.problem(variable, f"{path}: {error}")
        return {}

    def brands(self, variable: str) -> dict[str, dict[str, str]]:
        """Brands by their keys: docs/brands.md."""
        found: dict[str, dict[str, str]] = self.json_of(variable, dict)
        try:
            brands.parse(found, parse_sender)
        except ValueError as error:
            for problem in str(error).splitlines():
                self.problem(variable, problem)
            return {}
        return found

    def database(self, variable: str, default: str) -> dict[str, Any]:
        """A database URL such as postgres://user:password@host:5432/name?sslmode=require.

        Nothing in it depends on a session, so that a pooler may hand each transaction to another connection.
        """
        text = self.str(variable, default) or default
        try:
            # A cursor of the server would outlive its transaction. Only Django's own forms iterate over a table.
            found = dj_database_url.parse(
                text, conn_max_age=60, conn_health_checks=True, disable_server_side_cursors=True
            )
        except (ValueError, KeyError):
            # The URL may hold a password, so the library's own message, which repeats it, is not passed on.
            self.problem(variable, "Not a database URL, such as postgres://user:password@host:5432/name.")
            return dict(dj_database_url.parse(default))
        if "postgresql" in found.get("ENGINE", ""):
            # A server that is frozen, or cut off, refuses nothing: it is silent.
            found["OPTIONS"] = {**SILENT_SERVER, **found.get("OPTIONS", {})}
        for message in _odd_options(found.get("ENGINE", ""), found.get("OPTIONS", {})):
            self.problem(variable, message)
        return dict(found)

    def seal(self) -> None:
        """Raise one ImproperlyConfigured that lists every bad variable; say nothing when there is none."""
        try:
            super().seal()
        except EnvValidationError as error:
            by_variable = cast("dict[str, list[str]]", error.error_messages)
            for variable, messages in by_variable.items():
                for message in messages:
                    self.problem(variable, message)
        if self._problems:
            lines = [f"  {name}: {' '.join(messages)}" for name, messages in sorted(self._problems.items())]
            raise ImproperlyConfigured("\n".join(["These environment variables need mending:", *lines]))

    def _parsed(self, variable: str, default: str, parse: Callable[[str], str]) -> str:
        text = (self.str(variable, default) or "").strip() or default
        return self._check(variable, text, parse) if text else ""

    def _check(self, variable: str, text: str, parse: Callable[[str], str]) -> str:
        try:
            return parse(text)
        except ValueError as error:
            self.problem(variable, str(error))
            return ""


def _host(text: str) -> str:
    inner = text[1:-1] if text[:1] + text[-1:] == "[]" else ""
    try:
        if inner.startswith("IPv6:"):
            ipaddress.IPv6Address(inner.removeprefix("IPv6:"))
        elif inner:
            ipaddress.IPv4Address(inner)
        else:
            DomainNameValidator(accept_idna=False)(text)
    except (ValueError, ValidationError):
        raise ValueError("Not a full host name, such as mail.example.com, nor one such as [192.0.2.1].") from None
    return text


def mail_domain(host: str) -> str:
    """A host as an address names it: an IP address stands in brackets there (RFC 5321 section 4.1.3)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def _odd_options(engine: str, options: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the options of a database URL. Without this it would show at the first connection."""
    if engine == "django.db.backends.sqlite3" and options:
        yield "SQLite takes no options here: leave out the question mark and what follows it."
    if engine != "django.db.backends.postgresql":
        return
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for name, value in options.items():
        if name == "pool":
            yield "pool is not served, for each thread keeps its connection: leave it out, or let PgBouncer pool."
        elif name not in known | DJANGO_OPTIONS:
            yield f"{name} is an option that is not known: leave it out."
        elif isinstance(value, list):
            yield f"{name} is given more than once: leave one."
        elif name in NUMBERS and type(value) is not int:
            yield f"{name} must be a whole number."
        elif name in known - {"host", "hostaddr"} and (complaint := _complaint(name, value)):
            yield f"{complaint}: mend it, or leave it out."


def _complaint(name: str, value: Any) -> str:
    """What libpq says of a value that it refuses, as it does before it connects to anything."""
    trial = PGconn.connect_start(make_conninfo(**{name: value, "host": NOWHERE}).encode())
    said = trial.error_message.decode(errors="replace").strip()
    trial.finish()
    return "" if NOWHERE in said else said


def _origin(text: str) -> str:
    parts = urlsplit(parse_web_url(text))
    if parts.path.strip("/") or parts.query:
        raise ValueError("Not an origin: a scheme and a host, such as https://accounts.example.com, and nothing more.")
    return text.rstrip("/")
