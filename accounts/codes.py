"""Every secret of a reset, derived from its seed and the server's key when it is needed, and stored nowhere.

A record keeps 256 random bits, its seed. Handle, code and tokens are HMACs over that seed, one salt for each purpose,
so that none can be computed from another, from the database alone, or from the key alone. Codes and reset tokens are
bound to the account's password hash and address as well: however either of them changes, all of them die with it.

A token that sets a password is believed in two stages, so its MAC has two halves. The first proves that this server has
issued it for this record, and asks nothing of any account: who makes a token up gets no further, whatever the record.
The second binds it to the account.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.utils.crypto import constant_time_compare

from .conf import conf
from .words import WORDS

SEED_BYTES = 32
HANDLE_MAC_BYTES = 16
"""128 bits: OWASP ASVS 5.0 section 11.5.1 for values nobody may guess."""
TOKEN_HALF_BYTES = 16
"""Of either half of a token's MAC, and 128 bits again: nobody guesses the first, nor moves the second."""
TOKEN_MAC_BYTES = 2 * TOKEN_HALF_BYTES


@dataclass(frozen=True, slots=True)
class Account:
    """What a code is bound to: one account, and the password hash and the address it has now."""

    key: str
    password: str
    address: str

    @property
    def parts(self) -> tuple[str, str, str]:
        return self.key, self.password, self.address


class TokenKind(enum.Enum):
    """The first byte of a token, so that a token for one purpose is never even tried for another."""

    CODE = 1
    LINK = 2
    REPORT = 3


@dataclass(frozen=True, slots=True)
class Token:
    """A token as presented: well-formed, and not yet believed."""

    kind: TokenKind
    record_id: uuid.UUID
    mac: bytes


def new_seed() -> bytes:
    """256 bits from the operating system's generator."""
    return secrets.token_bytes(SEED_BYTES)


def address_digest(folded: str) -> str:
    """A keyed digest of a folded address: counts per address without keeping the address."""
    return _mac("address", _digest_key(), folded).hex()


def address_digests(folded: str) -> list[str]:
    """That digest under each key that it may have been made with: the present one and former ones."""
    return [_mac("address", key, folded).hex() for key in dict.fromkeys((_digest_key(), *_keys()))]


def idempotency_digest(key: str, folded: str) -> str:
    """A keyed digest of a client's idempotency key, for this one address only."""
    return _mac("idempotency", _digest_key(), key, folded).hex()


def handle(record_id: uuid.UUID, seed: bytes) -> str:
    """The public requestId: the record's id and a 128-bit MAC."""
    return _encode(record_id.bytes + _handle_mac(settings.SECRET_KEY, record_id, seed))


def parse_handle(text: str) -> tuple[uuid.UUID, bytes] | None:
    """Take a handle apart, or None where it could not have been issued by anyone."""
    raw = _decode(text, 16 + HANDLE_MAC_BYTES)
    return (uuid.UUID(bytes=raw[:16]), raw[16:]) if raw else None


def handle_matches(mac: bytes, record_id: uuid.UUID, seed: bytes) -> bool:
    """Whether the MAC is this record's, under the current key or a former one; in constant time."""
    return _any_equal(mac, (_handle_mac(key, record_id, seed) for key in _keys()))


def code(record_id: uuid.UUID, seed: bytes, account: Account, generation: int) -> str:
    """The code to mail, such as `048213`."""
    return _code(settings.SECRET_KEY, record_id, seed, account, generation)


def code_key() -> str:
    """What tells the current key from others and gives nothing of it away: the one a code is issued under."""
    return _fingerprint(settings.SECRET_KEY)


def code_matches(
    digits: str, record_id: uuid.UUID, seed: bytes, account: Account, generation: int, issued_under: str
) -> bool:
    """Whether these digits are the code; in constant time.

    They are tried under the one key that the code was issued under, be it current or former: each further key would be
    one more code that is accepted. Where no key fits any more, one is tried all the same, and nothing is accepted.
    """
    fitting = [key for key in _keys() if constant_time_compare(_fingerprint(key), issued_under)]
    key = fitting[0] if fitting else settings.SECRET_KEY
    equal = _any_equal(digits.encode(), iter([_code(key, record_id, seed, account, generation).encode()]))
    return equal and bool(fitting)


def link_token(record_id: uuid.UUID, seed: bytes, account: Account) -> str:
    """The token in a mailed link. The account is in the MAC alone, so that a link names nobody (WSTG-ATHN-09)."""
    return _token(TokenKind.LINK, record_id, _token_mac(settings.SECRET_KEY, TokenKind.LINK, record_id, seed, account))


def code_token(record_id: uuid.UUID, seed: bytes, account: Account, generation: int) -> str:
    """The token that a proven code buys, good for one generation only."""
    bound = _bound_to(TokenKind.CODE, generation)
    mac = _token_mac(settings.SECRET_KEY, TokenKind.CODE, record_id, seed, account, *bound)
    return _token(TokenKind.CODE, record_id, mac)


def report_token(record_id: uuid.UUID, seed: bytes) -> str:
    """The token of a mail's "this was not me". It is good for no password, and it names no account.

    Unlike the others it outlives a change of the password: that is when it is needed.
    """
    return _token(TokenKind.REPORT, record_id, _report_mac(settings.SECRET_KEY, record_id, seed))


def parse_token(text: str) -> Token | None:
    """Take a token that sets a password apart, or None where it could not have been issued by anyone."""
    return _parse(text, (TokenKind.CODE, TokenKind.LINK))


def parse_report_token(text: str) -> Token | None:
    """Take a report token apart, or None where it could not have been issued by anyone."""
    return _parse(text, (TokenKind.REPORT,))


def token_was_issued(token: Token, seed: bytes, generation: int) -> bool:
    """Whether this server has issued the token for this record, to whichever account; in constant time.

    Under the current key or a former one. Good for nothing yet: `token_matches` is what a token must pass, too.
    """
    bound = _bound_to(token.kind, generation)
    halves = (_issued_half(key, token.kind, token.record_id, seed, *bound) for key in _keys())
    return _any_equal(token.mac[:TOKEN_HALF_BYTES], halves)


def token_matches(token: Token, seed: bytes, account: Account, generation: int) -> bool:
    """Whether the token is this record's for this account, under the current key or a former one; in constant time.

    Both halves must be of the same key.
    """
    bound = _bound_to(token.kind, generation)
    macs = (_token_mac(key, token.kind, token.record_id, seed, account, *bound) for key in _keys())
    return _any_equal(token.mac, macs)


def report_matches(token: Token, seed: bytes) -> bool:
    """Whether a report token is this record's, under the current key or a former one; in constant time."""
    return _any_equal(token.mac, (_report_mac(key, token.record_id, seed) for key in _keys()))


def match_phrase(record_id: uuid.UUID, seed: bytes) -> str:
    """Two words that tell one's own mail from one that somebody else asked for. No secret: it is not keyed."""
    digest = hashlib.sha256(b"match phrase" + record_id.bytes + seed).digest()
    return f"{WORDS[digest[0]]} {WORDS[digest[1]]}"


def _digest_key() -> str:
    """A key that stays when SECRET_KEY is rotated, or what an address has counted would begin anew."""
    return conf.DIGEST_KEY or settings.SECRET_KEY


def _keys() -> Iterator[str]:
    yield settings.SECRET_KEY
    yield from settings.SECRET_KEY_FALLBACKS


def _mac(purpose: str, key: str, *parts: str) -> bytes:
    # Each part is preceded by its length, so that no two lists of parts are ever the same message.
    message = "".join(f"{len(part)}:{part}" for part in parts)
    return hmac.digest(_key_for(purpose, key), message.encode(), "sha256")


@lru_cache(64)
def _key_for(purpose: str, key: str) -> bytes:
    """The key of one purpose, as `django.utils.crypto.salted_hmac` derives it."""
    return hashlib.sha256(f"account_recovery.codes.{purpose}{key}".encode()).digest()


def _fingerprint(key: str) -> str:
    return _mac("key", key)[:8].hex()


def _handle_mac(key: str, record_id: uuid.UUID, seed: bytes) -> bytes:
    return _mac("handle", key, record_id.hex, seed.hex())[:HANDLE_MAC_BYTES]


def _code(key: str, record_id: uuid.UUID, seed: bytes, account: Account, generation: int) -> str:
    if settings.DEBUG and (fixed := conf.TEST_CODES.get(account.address.lower())):
        return fixed
    mac = _mac("code", key, record_id.hex, seed.hex(), *account.parts, str(generation))
    length = conf.PASSWORD_RESET_CODE_LENGTH
    return str(int.from_bytes(mac[:8], "big") % 10**length).zfill(length)


def _token_mac(
    key: str, kind: TokenKind, record_id: uuid.UUID, seed: bytes, account: Account, *generation: str
) -> bytes:
    account_half = _mac(f"token.{kind.name}.account", key, record_id.hex, seed.hex(), *account.parts, *generation)
    return _issued_half(key, kind, record_id, seed, *generation) + account_half[:TOKEN_HALF_BYTES]


def _issued_half(key: str, kind: TokenKind, record_id: uuid.UUID, seed: bytes, *generation: str) -> bytes:
    return _mac(f"token.{kind.name}.issued", key, record_id.hex, seed.hex(), *generation)[:TOKEN_HALF_BYTES]


def _bound_to(kind: TokenKind, generation: int) -> tuple[str, ...]:
    return (str(generation),) if kind is TokenKind.CODE else ()


def _report_mac(key: str, record_id: uuid.UUID, seed: bytes) -> bytes:
    return _mac("token.REPORT", key, record_id.hex, seed.hex())


def _parse(text: str, kinds: Collection[TokenKind]) -> Token | None:
    raw = _decode(text, 1 + 16 + TOKEN_MAC_BYTES)
    if raw is None or raw[0] not in {kind.value for kind in kinds}:
        return None
    return Token(TokenKind(raw[0]), uuid.UUID(bytes=raw[1:17]), raw[17:])


def _token(kind: TokenKind, record_id: uuid.UUID, mac: bytes) -> str:
    return _encode(bytes([kind.value]) + record_id.bytes + mac)


def _any_equal(given: bytes, expected: Iterator[bytes]) -> bool:
    # All are compared: stopping at the first match would tell which key it was.
    results = [constant_time_compare(given, candidate) for candidate in expected]
    return any(results)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str, length: int) -> bytes | None:
    """The bytes of exactly this many, spelled in the one way `_encode` spells them; otherwise None."""
    if len(text) > 2 * length or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    return raw if len(raw) == length and _encode(raw) == text else None
