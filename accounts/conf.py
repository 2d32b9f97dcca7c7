"""This app's settings, typed and with their defaults; `settings.py` overrides them by the same names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import get_script_prefix, reverse

_RATE = re.compile(r"(\d{1,9})/([1-9]\d{0,3})? ?(second|minute|hour|day)s?", re.ASCII)
_ROUTE = re.compile(r"!?/[A-Za-z0-9._~/-]*")
"""What routers of single-page apps take behind the number sign, `#!/` included."""
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class Rate(NamedTuple):
    """At most so many within any so many seconds."""

    most: int
    seconds: int


@lru_cache(64)
def parse_rate(text: str) -> Rate:
    """Read a rate such as `20/hour` or `5/10 minutes`, in seconds, minutes, hours or days. Raises ValueError."""
    found = _RATE.fullmatch(text)
    if not found:
        raise ValueError("Not a rate, such as 20/hour or 5/10 minutes; there are seconds, minutes, hours and days.")
    return Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])


def parse_web_url(text: str) -> str:
    """An http(s) URL without a user, and without a fragment, for that will carry a token. Raises ValueError."""
    parts = urlsplit(text)
    odd = any(letter.isspace() or not letter.isprintable() or letter in "\"'<>\\" for letter in text)
    try:
        port_is_odd = parts.port == 0
    except ValueError:
        port_is_odd = True
    if (
        odd
        or port_is_odd
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.username
        or "#" in text
    ):
        raise ValueError("Not a web address, such as https://app.example.com/reset (without a # part).")
    return text


def parse_route(text: str) -> str:
    """A page without the route in its fragment, such as `#/reset`. Raises ValueError if no token fits behind that."""
    page, number_sign, route = text.partition("#")
    if number_sign and not _ROUTE.fullmatch(route):
        raise ValueError(
            "Behind the # stands a route, such as https://app.example.com/#/reset: a slash, then letters, digits and "
            "-._~/ alone; the token is put behind it as ?token=…."
        )
    return page


def parse_documents(given: Any) -> dict[str, str]:
    """The documents of a manifest by their ids: an object of texts, or Apollo's with a list of `operations`.

    Raises ValueError.
    """
    operations = given.get("operations") if isinstance(given, dict) else None
    if isinstance(operations, list) and all(isinstance(each, dict) for each in operations):
        given = {each.get("id"): each.get("body") for each in operations}
    if not isinstance(given, dict) or not given or not all(isinstance(text, str) and text for text in given.values()):
        raise ValueError("A manifest is an object of texts by their ids, or what Apollo's generator writes.")
    return {str(key): text for key, text in given.items()}


class RecoverySettings:
    """Reads a name from Django's settings, or else takes the default written here."""

    PUBLIC_URL: str = "http://127.0.0.1:8000"
    """Where people reach this site. The default is for development; without DEBUG it must be set."""
    FRONTEND_RESET_URL: str = ""
    """The page that the mailed links open, with its route if that is in the fragment (`#/reset`); empty: this site's
    own page below PUBLIC_URL."""

    PASSWORD_RESET_COOLDOWN: int = 60
    """Seconds between two mails asked for one address."""
    PASSWORD_RESET_CODE_LENGTH: int = 6
    """Digits. NIST SP 800-63B-4 section 4.2.1.2 asks for six at least."""
    PASSWORD_RESET_CODE_LIFETIME: int = 600
    """Seconds from the claim that issues a code. OWASP ASVS 5.0 section 6.5.5 allows ten minutes at most."""
    PASSWORD_RESET_LINK_LIFETIME: int = 3600
    """Seconds from the last claim of a mail with it, which may be a retry. OWASP WSTG-ATHN-09 finds more than an hour
    rarely justified; docs/states.md has the longest that comes of it."""
    PASSWORD_MIN_LENGTH: int = 15
    """Code points. NIST SP 800-63B-4 section 3.1.1.2, where the password is the only factor."""
    PASSWORD_CONTEXT_WORDS: Sequence[str] = ()
    """Names of the organisation and its products, besides the hosts of the URLs: OWASP ASVS 5.0 section 6.1.2."""
    PWNED_PASSWORDS_URL: str = "https://api.pwnedpasswords.com/range/"
    """The service's own range search, or a mirror of it; a prefix of five hexadecimal digits is appended."""
    HASH_CONCURRENCY: int = 2
    """Passwords that a process hashes at once; each takes 64 MiB and a core."""

    GRAPHQL_INTROSPECTION: bool = False
    """Whether clients may ask for the schema, and are told what they may have meant."""

    RECOVERY_USER_MODEL: str = ""
    """The model of the accounts, such as `people.Person`; empty: AUTH_USER_MODEL. Like that, it is chosen before the
    first migration."""
    RECOVERY_DIRECTORY: str = ""
    """The dotted path of the class that knows the accounts; empty: `account_recovery.directory.Directory`."""

    TRUSTED_DOCUMENTS: Mapping[str, str] = {}
    """The only operations that are run, by their ids, and those of this app's own page; empty: any is run."""

    REVOKE_TOKENS: Sequence[str] = ()
    """Packages whose tokens end when a password changes: simplejwt, knox, drf, oauth_toolkit, allauth."""

    WEBHOOKS: Sequence[dict[str, Any]] = ()
    """Who is told of events by HTTP: see docs/webhooks.md."""

    REDIS_URL: str = ""
    WORKERS: int = 2
    """Processes that serve; only the system checks ask."""
    TRUSTED_PROXIES: int = 0
    THROTTLE_REQUEST_PER_IP: str = "20/hour"
    THROTTLE_REQUEST_PER_EMAIL: str = "5/hour"
    THROTTLE_VERIFY_PER_IP: str = "60/hour"
    """Codes of a client, and each by itself: tokens that are refused, passwords scored without one, admin logins."""
    THROTTLE_WRONG_CODES: str = "500/hour"
    """Wrong codes of the whole site: with a million codes, 12,000 a day are one account taken in 83 days."""
    THROTTLE_STATUS_PER_HANDLE: str = "60/minute"
    """Questions about a reset, resends and cancels. A page that asks each second is within it."""
    THROTTLE_STATUS_PER_IP: str = "300/minute"

    MAIL_DISPATCH: str = "thread"
    MAIL_SENDERS: int = 32
    """Mails that a process sends at once at the most, each by a thread and a connection of its own."""
    MAIL_SWEEP_SECONDS: int = 10
    MAIL_LEASE_SECONDS: int = 120
    """How long a claimed mail is left to its claimant; longer than one whole SMTP session. A mail server has most of
    it to answer a mail that it has been sent."""
    MAIL_RETRY_SECONDS: int = 10
    """The first pause after a failure; it doubles with every further one."""
    MAIL_MAX_ATTEMPTS: int = 10
    MAIL_MAX_AGE: int = 86_400
    """Seconds that a code or link may be due, and nobody send it, until it is given up: it would only puzzle."""
    MAIL_PER_MINUTE: int = 0
    """Mails that may be sent within any minute; 0: as many as the server takes."""
    MAIL_HELO: str = ""
    """The name by which mail servers are greeted; empty: the machine's own."""
    MAIL_OVERDUE_SECONDS: int = 30
    """With Celery: what has been due for this long has been lost by the broker, or was never published; it is published
    again. Where the broker has failed for as long, the process that sweeps mails it."""

    MAIL_WITHOUT_PASSWORD: str = "silent"  # nosec B105 # noqa: S105 (a mode)
    """Whether somebody who signs in another way is told so by a mail (`explain`), or waits for one (`silent`)."""
    MAIL_UNKNOWN: str = "off"
    """Whether a typed address that has no account is told so by a mail (`on`)."""
    THROTTLE_MAIL_UNKNOWN: str = "100/hour"
    """Such mails of the whole site; an address gets one a day."""

    BRAND_NAME: str = ""
    """What people call the service; empty: the host of PUBLIC_URL."""
    SIGN_IN_URL: str = ""
    """Where people sign in once their password is changed; empty: nobody is led there."""
    SUPPORT_EMAIL: str = ""
    """Whom to ask for help; empty: nobody is named."""
    BRAND_LOGO: str = ""
    """The address of a picture, 40 pixels high; empty: the name is written."""
    BRAND_COLOR: str = ""
    """Of links and buttons, such as `#0b57a4`; empty: this blue."""
    TEST_CODES: Mapping[str, str] = {}
    """Fixed codes by address, in lower case, for tests of frontends. With DEBUG alone; E019 refuses them elsewhere."""
    BRANDS: Mapping[str, dict[str, str]] = {}
    """Further brands by the keys that frontends name them by: docs/brands.md."""

    DIGEST_KEY: str = ""
    """The key of address digests, so that counts and searches survive a new SECRET_KEY; empty: that key."""

    METRICS_TOKEN: str = ""
    """The secret that `/metrics` is read with; empty: there is no such page."""

    RETENTION_DAYS: int = 90
    """How long a reset is kept once it is over; 0: for ever."""
    RETENTION_PERSONAL_DAYS: int = 30
    """How long it keeps its address, IP address and browser; support has asked by then."""

    def __getattribute__(self, name: str) -> Any:
        default = object.__getattribute__(self, name)
        return getattr(settings, name, default) if name.isupper() else default

    @property
    def user_model(self) -> str:
        return self.RECOVERY_USER_MODEL or settings.AUTH_USER_MODEL

    @property
    def cooldown(self) -> timedelta:
        return timedelta(seconds=self.PASSWORD_RESET_COOLDOWN)

    @property
    def code_lifetime(self) -> timedelta:
        return timedelta(seconds=self.PASSWORD_RESET_CODE_LIFETIME)

    @property
    def code_reuse(self) -> timedelta:
        """A younger code is mailed again as it is; an older one is replaced, for it would soon be dead."""
        return self.code_lifetime / 2

    @property
    def link_lifetime(self) -> timedelta:
        return timedelta(seconds=self.PASSWORD_RESET_LINK_LIFETIME)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.MAIL_LEASE_SECONDS)


def own_page(brand: str = "") -> str:
    """The path of this app's own page, wherever the project has included it. Raises NoReverseMatch if it has not."""
    page = reverse("account_recovery:reset", kwargs={"brand": brand} if brand else None)
    return page.removeprefix(get_script_prefix().rstrip("/"))


conf = RecoverySettings()

TOKEN_LIFETIME = timedelta(minutes=10)
"""How long a proven code may wait for the new password."""
OPEN_LIFETIME = timedelta(hours=1)
"""How long, from the first look, a reset can still be resent and its late code still proven."""
IDEMPOTENCY_LIFETIME = timedelta(hours=1)
TURN = timedelta(minutes=1)
"""How far a client's mail stands behind the one before it: docs/limits.md, "The order of mails"."""
TURNS = 20
"""No mail stands further behind than a client's twentieth; so none waits for ever."""
REPORT_LIFETIME = timedelta(days=7)
"""How long "this was not me" is heard: from the completed reset, or else from the last mail that could complete it."""

MAX_ATTEMPTS = 5
"""Wrong codes a single reset bears; a resend does not restore them."""
MAX_RESENDS = 3
GUESSES_PER_DAY = 10
"""Wrong codes an address bears in a day, over all its resets."""
GUESSES_IN_A_ROW = 100
"""Consecutive failures an address bears: NIST SP 800-63B-4 section 3.2.2."""
MAX_PASSWORD_LENGTH = 1024
"""Code points. Far above the 64 that NIST SP 800-63B-4 wants accepted; it only bounds the work."""

AWAY_SECONDS = 2
"""When a client is asked to come again while the database is away."""
MAX_BODY = 64 * 1024
"""Bytes; the longest honest request is a few kilobytes."""
STREAMS = "recovery.streams"
"""What a server puts into the environ that sends asynchronous answers, though it speaks WSGI to Django."""
