"""System checks: what a deployment should hear about before its users do. docs/checks.md lists them.

An error stops `make serve`: somebody would be harmed, or no mail would ever arrive. A warning names what is weaker than
it should be and may be meant; there are few, so that they are read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.contrib.auth import hashers, password_validation
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.mail.backends import smtp
from django.db import DatabaseError
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from . import brands
from .conf import conf, own_page, parse_route
from .directory import Directory, directory
from .hooks.endpoints import parse as parse_webhooks
from .hooks.revokers import REVOKERS
from .limits import rules
from .lookup import is_indexed
from .mailing.headers import BadSender, parse_sender
from .retention import LEAST_DAYS

Found = Iterator[CheckMessage]
LEAST_ITERATIONS = 600_000
"""Of PBKDF2 with SHA-256: OWASP ASVS 5.0 section 11.4.2."""
LEAST_ROUNDS = 10
"""Of bcrypt: OWASP Password Storage Cheat Sheet."""
LEAST_SCRYPT = 2**14 * 8
"""Of scrypt, work factor times block size: the least of the same page, with five threads, which Django has as well."""
LEAST_PASSWORD_LENGTH = 8
"""Code points. NIST SP 800-63B-4 section 3.1.1.2 allows no less, whatever else is asked for."""
LONGEST_CODE_LIFETIME = 600
"""Seconds. OWASP ASVS 5.0 section 6.5.5."""
LONGEST_LINK_LIFETIME = 3600
"""Seconds. OWASP WSTG-ATHN-09."""
MANY_USERS = 10_000
"""From so many users on, a look-up that reads them all is worth a warning."""
MAIL_FOR_NOBODY = ("console", "filebased", "locmem", "dummy")


def register() -> None:
    """Register every check of this app."""
    for check in (
        check_mail_dispatch,
        check_mail_lease,
        check_debug,
        check_link_outlives_limits,
        check_sender,
        check_route,
        check_brands,
        check_test_codes,
        check_retention,
        check_public_url,
        check_page,
        check_directory,
        check_revokers,
        check_webhooks,
    ):
        checks.register(_listed(check), Tags.compatibility)
    for check in (check_address_index, check_blanks_around_addresses):
        checks.register(_listed(check), Tags.database)
    for check in DEPLOYMENT:
        checks.register(_listed(_unless_debug(check)), Tags.security, deploy=True)


def check_mail_dispatch() -> Found:
    """E001: mail sent inside the request tells by its duration who has an account."""
    if conf.MAIL_DISPATCH == "inline" and not settings.DEBUG:
        hint = "Set MAIL_DISPATCH to thread, or to none where another process mails."
        yield Error(
            "MAIL_DISPATCH=inline mails inside the request and is for tests only.",
            hint=hint,
            id="account_recovery.E001",
        )


def check_debug() -> Found:
    """E003: with DEBUG the inbox shows every mail, and so every code, to whoever finds it."""
    if settings.DEBUG and not _is_private(urlsplit(conf.PUBLIC_URL).hostname or ""):
        hint = "Switch DEBUG off, or give PUBLIC_URL a host of this machine or of a private network."
        yield Error(
            "DEBUG is on, and PUBLIC_URL is an address that anybody can reach.", hint=hint, id="account_recovery.E003"
        )


def check_mail_backend() -> Found:
    """E004: these backends take every mail and deliver none."""
    backend, _ = _mail_backend()
    if backend.split(".")[-2] in MAIL_FOR_NOBODY or backend.startswith("django_mail_preview"):
        hint = "Use Django's SMTP backend, or that of your mail provider."
        yield Error(f"The mail backend {backend} delivers to nobody.", hint=hint, id="account_recovery.E004")


def check_urls() -> Found:
    """E005: over plain HTTP, everybody on the way can read the token of a mailed link or of a verified code."""
    urls = {name: getattr(conf, name) for name in ("PUBLIC_URL", "FRONTEND_RESET_URL")}
    urls |= {f"The reset_url of {key} in BRANDS": brand.get("reset_url", "") for key, brand in _brands().items()}
    for name, url in urls.items():
        parts = urlsplit(url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            yield Error(f"{name} is plain HTTP.", hint="Give it an https:// address.", id="account_recovery.E005")


def check_cors() -> Found:
    """E006: any page that a visitor opens could ask for resets and guess, each visitor with limits of their own."""
    patterns = [getattr(each, "pattern", each) for each in getattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", ())]
    if getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False) or any(pattern in {".*", "^.*$"} for pattern in patterns):
        hint = "List your frontends in CORS_ALLOWED_ORIGINS."
        yield Error("CORS lets in the pages of every site.", hint=hint, id="account_recovery.E006")


def check_password_hasher() -> Found:
    """E007: a fast hash turns a stolen table of users into a list of passwords."""
    if (made := _directory()) is None or type(made).hash is not Directory.hash:
        return  # the project hashes in a way of its own
    hasher: Any = hashers.get_hasher()
    if isinstance(hasher, hashers.PBKDF2PasswordHasher):
        slow = hasher.iterations >= LEAST_ITERATIONS
    elif isinstance(hasher, hashers.BCryptSHA256PasswordHasher):
        slow = hasher.rounds >= LEAST_ROUNDS
    elif isinstance(hasher, hashers.ScryptPasswordHasher):
        slow = hasher.work_factor * hasher.block_size >= LEAST_SCRYPT
    else:
        slow = isinstance(hasher, hashers.Argon2PasswordHasher)
    if not slow:
        hint = "Put Argon2PasswordHasher first in PASSWORD_HASHERS, or another one of Django's as it comes."
        yield Error("New passwords are not hashed slowly enough.", hint=hint, id="account_recovery.E007")


def check_password_validators() -> Found:
    """E008: without these two, a reset would accept the password 123456."""
    validators = password_validation.get_default_password_validators()
    hint = "Restore AUTH_PASSWORD_VALIDATORS as backend/settings.py has it."
    if max((getattr(each, "min_length", 0) for each in validators), default=0) < LEAST_PASSWORD_LENGTH:
        yield Error("No validator asks for a password's length.", hint=hint, id="account_recovery.E008")
    if not any(_refuses(each, "password") for each in validators if not hasattr(each, "min_length")):
        yield Error("No validator refuses common passwords.", hint=hint, id="account_recovery.E008")


def check_broker() -> Found:
    """E009: a broker in memory is one process's own; no worker ever hears of a mail."""
    if conf.MAIL_DISPATCH == "celery" and str(getattr(settings, "CELERY_BROKER_URL", "")).startswith("memory:"):
        hint = "Set CELERY_BROKER_URL to RabbitMQ or Redis."
        yield Error("The Celery broker is this process's memory.", hint=hint, id="account_recovery.E009")


def check_link_outlives_limits() -> Found:
    """E010: a stranger who uses an address's mails up would keep its owner out: the links are dead by then."""
    lives = conf.PASSWORD_RESET_LINK_LIFETIME
    for name, seconds in (
        ("THROTTLE_REQUEST_PER_EMAIL", rules.window_of_address()),
        ("PASSWORD_RESET_COOLDOWN", conf.PASSWORD_RESET_COOLDOWN),
    ):
        if lives < seconds:
            message = f"A link dies before its address may be mailed another: {name} holds it back for longer."
            hint = (
                f"Give PASSWORD_RESET_LINK_LIFETIME, which is {lives} seconds, {seconds} at least, "
                f"or {name} ({getattr(conf, name)}) {lives} seconds at most."
            )
            yield Error(message, hint=hint, id="account_recovery.E010")


def check_sender() -> Found:
    """E011: a mail from nobody is never sent, and the page says all the same that it is on its way."""
    try:
        parse_sender(settings.DEFAULT_FROM_EMAIL)
    except BadSender as error:
        yield Error("No mail can come from DEFAULT_FROM_EMAIL.", hint=str(error), id="account_recovery.E011")


def check_route() -> Found:
    """E012: behind such a fragment no frontend would find the token."""
    try:
        parse_route(conf.FRONTEND_RESET_URL)
    except ValueError as error:
        yield Error("No token can stand behind FRONTEND_RESET_URL.", hint=str(error), id="account_recovery.E012")


def check_brands() -> Found:
    """E018: a mail of a brand that cannot be used is never sent, or nobody can read it."""
    try:
        brands.parse_color(conf.BRAND_COLOR or brands.Palette().accent)
    except ValueError as error:
        yield Error("BRAND_COLOR cannot be used.", hint=str(error), id="account_recovery.E018")
    try:
        brands.parse(conf.BRANDS, parse_sender)
    except ValueError as error:
        for problem in str(error).splitlines():
            yield Error(f"BRANDS cannot be used: {problem}", hint="See docs/brands.md.", id="account_recovery.E018")


def check_test_codes() -> Found:
    """E019: whoever reads the configuration of a test could take these accounts."""
    if conf.TEST_CODES and not settings.DEBUG:
        hint = "Take TEST_CODES out; they do not work here."
        yield Error("TEST_CODES are for development.", hint=hint, id="account_recovery.E019")


def check_retention() -> Found:
    """E017: the age at which a handle is forgotten would tell whether somebody has used its link."""
    days = conf.RETENTION_DAYS
    if days and days < LEAST_DAYS:
        message = f"RETENTION_DAYS is {days}, and a reset can be heard of for longer than that."
        hint = f"Set it to {LEAST_DAYS} at least, or to 0, to keep resets for ever."
        yield Error(message, hint=hint, id="account_recovery.E017")


def check_public_url() -> Found:
    """E002: the links in the mails would lead to the reader's own machine."""
    if not settings.DEBUG and not hasattr(settings, "PUBLIC_URL"):
        hint = "Set it to where people reach this site, such as https://accounts.example.com."
        yield Error("PUBLIC_URL is not set.", hint=hint, id="account_recovery.E002")


def check_page() -> Found:
    """E013: a mailed link needs a page to lead to, and that page the endpoint."""
    if conf.FRONTEND_RESET_URL and all("reset_url" in brand for brand in _brands().values()):
        return
    includes = 'path("recovery/", include("account_recovery.urls"))'
    names = 'path("graphql/", GraphQLView.as_view(schema=schema), name="graphql")'
    for missing, find, hint in (
        (
            "FRONTEND_RESET_URL, or the reset_url of a brand, is not set, and no other page is there.",
            own_page,
            f"Set it, or write {includes}.",
        ),
        ("No URL is called `graphql`, which the app's own page asks.", partial(reverse, "graphql"), f"Write {names}."),
    ):
        try:
            find()
        except NoReverseMatch:
            yield Error(missing, hint=hint, id="account_recovery.E013")


def check_directory() -> Found:
    """E014: without it nobody is found."""
    try:
        _use_directory()
    except UNUSABLE as error:
        hint = "RECOVERY_DIRECTORY is the dotted path of a class, RECOVERY_USER_MODEL a model such as people.Person."
        yield Error(f"The accounts cannot be reached: {error}", hint=hint, id="account_recovery.E014")


def check_revokers() -> Found:
    """E015: tokens that were to end with the password would go on working."""
    for name in conf.REVOKE_TOKENS:
        revoker = REVOKERS.get(name)
        if revoker is None:
            hint = f"Choose from {', '.join(REVOKERS)}."
            yield Error(f"REVOKE_TOKENS knows no {name!r}.", hint=hint, id="account_recovery.E015")
        elif not revoker.is_installed:
            hint = f"Put {revoker.app} into INSTALLED_APPS, or take {name} out of REVOKE_TOKENS."
            yield Error(f"The tokens of {name} cannot be revoked.", hint=hint, id="account_recovery.E015")
    if conf.REVOKE_TOKENS and conf.user_model != settings.AUTH_USER_MODEL:
        hint = "Take REVOKE_TOKENS out, and end what that system has given out in a receiver: see docs/signals.md."
        yield Error("REVOKE_TOKENS are of AUTH_USER_MODEL's users.", hint=hint, id="account_recovery.E015")


def check_webhooks() -> Found:
    """E016: nobody would be told of anything."""
    try:
        parse_webhooks(conf.WEBHOOKS)
    except ValueError as error:
        for problem in str(error).splitlines():
            yield Error(f"WEBHOOKS cannot be used: {problem}", hint="See docs/webhooks.md.", id="account_recovery.E016")


def check_mail_lease() -> Found:
    """W001: a lease that ends before an SMTP session can, sends mails twice."""
    if 6 * (_mail_backend()[1] or 0) >= conf.MAIL_LEASE_SECONDS:
        hint = "Give it more than six times EMAIL_TIMEOUT: greeting, HELO, MAIL, RCPT, DATA and the end of it."
        yield checks.Warning(
            "MAIL_LEASE_SECONDS is shorter than one slow SMTP session.", hint=hint, id="account_recovery.W001"
        )


def check_where_limits_are_counted() -> Found:
    """W002: each process that counts for itself allows the whole limit once more."""
    if conf.WORKERS > 1 and not conf.REDIS_URL:
        hint = "Set REDIS_URL, or WORKERS to 1 if one process serves."
        message = (
            f"{conf.WORKERS} processes each count their own limits: clients may ask {conf.WORKERS} times as often."
        )
        yield checks.Warning(message, hint=hint, id="account_recovery.W002")


def check_database() -> Found:
    """W003: SQLite has one writer at a time, and processes that wait for it give up in the end."""
    several = conf.WORKERS > 1 or conf.MAIL_DISPATCH in {"none", "celery"}
    if several and settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
        hint = "Set DATABASE_URL to PostgreSQL, or WORKERS to 1 and MAIL_DISPATCH to thread."
        yield checks.Warning("Several processes write to one SQLite file.", hint=hint, id="account_recovery.W003")


def check_proxies() -> Found:
    """W004: without a proxy to believe, a server that speaks plain HTTP redirects every request, for ever.

    The other way round, a header of a proxy that nobody has placed is any client's to write.
    """
    header = getattr(settings, "SECURE_PROXY_SSL_HEADER", None)
    if settings.SECURE_SSL_REDIRECT and not header:
        hint = "Set TRUSTED_PROXIES, or SECURE_SSL_REDIRECT=0 if the proxy redirects; silence it where TLS ends here."
        yield checks.Warning(
            "No proxy is trusted to say that a request came by HTTPS.", hint=hint, id="account_recovery.W004"
        )
    if header and not conf.TRUSTED_PROXIES:
        hint = "Set TRUSTED_PROXIES, or take SECURE_PROXY_SSL_HEADER out."
        yield checks.Warning(
            "SECURE_PROXY_SSL_HEADER believes a proxy that is not there.", hint=hint, id="account_recovery.W004"
        )


def check_hosts() -> Found:
    """W005: mailed links never hold the Host header, but redirects and caches may."""
    if any(host in {"*", "."} for host in settings.ALLOWED_HOSTS):
        hint = "Name the hosts; a load balancer can be told which to send."
        yield checks.Warning("ALLOWED_HOSTS lets in every host.", hint=hint, id="account_recovery.W005")


def check_mail_timeout() -> Found:
    """W006: a mail server that falls silent would keep a thread for good."""
    backend, timeout = _mail_backend()
    if _speaks_smtp(backend) and not timeout:
        yield checks.Warning(
            "The mail connection has no timeout.", hint="Set EMAIL_TIMEOUT.", id="account_recovery.W006"
        )


def check_lifetimes() -> Found:
    """W007: what is good for longer can be stolen, or guessed, for longer."""
    for name, longest, source in (
        ("PASSWORD_RESET_CODE_LIFETIME", LONGEST_CODE_LIFETIME, "OWASP ASVS 5.0 section 6.5.5"),
        ("PASSWORD_RESET_LINK_LIFETIME", LONGEST_LINK_LIFETIME, "OWASP WSTG-ATHN-09"),
    ):
        if getattr(conf, name) > longest:
            hint = f"{source} allows {longest} seconds."
            yield checks.Warning(f"{name} is {getattr(conf, name)} seconds.", hint=hint, id="account_recovery.W007")


def check_introspection() -> Found:
    """W008: the schema is for the frontend's developers, and the playground for one's own machine."""
    for name in ("GRAPHQL_INTROSPECTION", "GRAPHIQL"):
        if getattr(settings, name, False):
            hint = "Switch it off, unless this is a public API on purpose (OWASP ASVS 5.0 section 4.3.2)."
            yield checks.Warning(f"{name} is on.", hint=hint, id="account_recovery.W008")


def check_address_index() -> Found:
    """W050: on a large table of users, a look-up without an index takes as long as the table is long."""
    if (made := _directory()) is None:
        return
    model, _ = made.address_column()
    try:
        few = not model._default_manager.all()[MANY_USERS : MANY_USERS + 1].exists()
    except DatabaseError:  # before the first migration there is no table, and nobody to look for
        return
    if not few and not is_indexed():
        hint = "Make it with `manage.py index_addresses`; on PostgreSQL, signing in goes on meanwhile."
        message = "The table of accounts has no index on the capitalised address, by which accounts are looked up."
        yield checks.Warning(message, hint=hint, id="account_recovery.W050")


def check_blanks_around_addresses() -> Found:
    """W051: nobody types the blank that a form or an import has stored, so the owner is never found."""
    if (made := _directory()) is None:
        return
    model, field = made.address_column()
    try:
        found = model._default_manager.filter(**{f"{field}__regex": r"^\s+\S|\S\s+$"}).count()
    except DatabaseError:
        return
    if found:
        hint = "Trim them, after a look at whether two accounts would then share an address."
        message = f"Accounts with blanks around their address, which no request ever finds: {found}."
        yield checks.Warning(message, hint=hint, id="account_recovery.W051")


DEPLOYMENT: tuple[Callable[[], Found], ...] = (
    check_mail_backend,
    check_urls,
    check_cors,
    check_password_hasher,
    check_password_validators,
    check_broker,
    check_where_limits_are_counted,
    check_database,
    check_proxies,
    check_hosts,
    check_mail_timeout,
    check_lifetimes,
    check_introspection,
)
"""What `check --deploy` asks, and `make serve` with it. With DEBUG on, Django's own warning of that is enough."""


def _listed(check: Callable[[], Found]) -> Callable[..., list[CheckMessage]]:
    """A check as Django calls it."""

    def run(**kwargs: Any) -> list[CheckMessage]:
        return list(check())

    run.__name__ = run.__qualname__ = check.__name__
    return run


def _unless_debug(check: Callable[[], Found]) -> Callable[[], Found]:
    def run() -> Found:
        if not settings.DEBUG:
            yield from check()

    run.__name__ = check.__name__
    return run


UNUSABLE = (ImportError, LookupError, TypeError, ValueError, AttributeError, FieldDoesNotExist)


def _use_directory() -> Directory:
    made = directory()
    made.model._meta.get_field(made.password_field)
    return made


def _directory() -> Directory | None:
    """The directory, or None where E014 has more to say."""
    try:
        return _use_directory()
    except UNUSABLE:
        return None


def _brands() -> Mapping[str, dict[str, str]]:
    """BRANDS; none where E018 has more to say."""
    try:
        brands.parse(conf.BRANDS, parse_sender)
    except ValueError:
        return {}
    return conf.BRANDS


def _refuses(validator: Any, password: str) -> bool:
    try:
        validator.validate(password)
    except ValidationError:
        return True
    return False


def _mail_backend() -> tuple[str, float | None]:
    """The mail backend's dotted name, and its timeout in seconds, by the settings of the Django at hand."""
    if django.VERSION >= (6, 1) and hasattr(settings, "MAILERS"):
        mailer: Any = settings.MAILERS["default"]
        return mailer["BACKEND"], mailer.get("OPTIONS", {}).get("timeout")
    return settings.EMAIL_BACKEND, settings.EMAIL_TIMEOUT


def _speaks_smtp(backend: str) -> bool:
    try:
        return issubclass(import_string(backend), smtp.EmailBackend)
    except ImportError:
        return False


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def _is_private(host: str) -> bool:
    """Whether a host is this machine, or one that the internet does not reach by this name."""
    address = _ip(host)
    if address:
        return address.is_loopback or address.is_private or address.is_link_local
    return "." not in host or host.rpartition(".")[2] in {"localhost", "local", "internal", "test", "lan"}


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
