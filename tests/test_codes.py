"""The derived secrets: what they are bound to, what they look like, and that none of them is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.utils.crypto import constant_time_compare

from accounts import codes
from accounts.codes import Account, TokenKind
from accounts.words import WORDS
from tests.conftest import API, PostOffice, record_of

RECORD = uuid.UUID("12345678-1234-5678-1234-567812345678")
SEED = bytes(range(32))
ADA = Account(key="1", password="argon2$hash", address="ada@example.com")


def test_a_code_has_the_configured_length_and_keeps_its_zeros(settings: Any) -> None:
    settings.PASSWORD_RESET_CODE_LENGTH = 8
    found = [codes.code(RECORD, SEED, ADA, generation) for generation in range(200)]
    assert all(len(code) == 8 and code.isdigit() for code in found)
    assert any(code.startswith("0") for code in found)


def test_codes_are_spread_evenly() -> None:
    """Ten thousand codes: at each place, each digit within five standard deviations of a tenth."""
    found = [codes.code(uuid.uuid4(), codes.new_seed(), ADA, 1) for _ in range(10_000)]
    for place in zip(*found, strict=True):
        counts = Counter(place)
        assert set(counts) == set("0123456789")
        assert all(abs(count - 1000) < 150 for count in counts.values())
    assert len(set(found)) > 9_900


@pytest.mark.parametrize(
    "other",
    [
        (uuid.uuid4(), SEED, ADA, 1),
        (RECORD, bytes(32), ADA, 1),
        (RECORD, SEED, replace(ADA, key="2"), 1),
        (RECORD, SEED, replace(ADA, password="another hash"), 1),
        (RECORD, SEED, replace(ADA, address="ada@example.org"), 1),
        (RECORD, SEED, ADA, 2),
    ],
)
def test_a_code_is_bound_to_row_seed_account_hash_address_and_generation(other: Any, settings: Any) -> None:
    settings.PASSWORD_RESET_CODE_LENGTH = 8
    assert codes.code(*other) != codes.code(RECORD, SEED, ADA, 1)


def test_parts_cannot_be_moved_from_one_to_the_next() -> None:
    one = codes.link_token(RECORD, SEED, Account(key="1", password="2x", address=""))
    other = codes.link_token(RECORD, SEED, Account(key="12", password="x", address=""))
    assert one != other


@pytest.mark.parametrize("kind", [TokenKind.CODE, TokenKind.LINK])
def test_a_token_is_good_for_its_own_record_account_and_hash_only(kind: TokenKind) -> None:
    text = codes.link_token(RECORD, SEED, ADA) if kind is TokenKind.LINK else codes.code_token(RECORD, SEED, ADA, 3)
    token = codes.parse_token(text)
    assert token is not None
    assert token.kind is kind
    assert codes.token_matches(token, SEED, ADA, 3)
    assert not codes.token_matches(token, bytes(32), ADA, 3)
    assert not codes.token_matches(token, SEED, replace(ADA, key="2"), 3)
    assert not codes.token_matches(token, SEED, replace(ADA, password="other"), 3)
    assert not codes.token_matches(replace(token, record_id=uuid.uuid4()), SEED, ADA, 3)
    assert codes.token_matches(token, SEED, ADA, 4) is (kind is TokenKind.LINK)


@pytest.mark.parametrize("kind", [TokenKind.CODE, TokenKind.LINK])
def test_the_first_half_of_a_token_shows_that_it_was_issued_and_names_no_account(kind: TokenKind) -> None:
    token, other = _token(kind, ADA), _token(kind, replace(ADA, key="2", password="other", address="b@example.com"))
    assert token.mac[:16] == other.mac[:16]
    assert token.mac[16:] != other.mac[16:]
    assert codes.token_was_issued(token, SEED, 3)
    assert codes.token_was_issued(replace(token, mac=token.mac[:16] + bytes(16)), SEED, 3)
    assert not codes.token_was_issued(replace(token, mac=bytes(16) + token.mac[16:]), SEED, 3)
    assert not codes.token_was_issued(token, bytes(32), 3)
    assert not codes.token_was_issued(replace(token, record_id=uuid.uuid4()), SEED, 3)
    assert codes.token_was_issued(token, SEED, 4) is (kind is TokenKind.LINK)


@pytest.mark.parametrize("kind", [TokenKind.CODE, TokenKind.LINK])
def test_a_token_matches_with_both_halves_only(kind: TokenKind) -> None:
    token, forged = _token(kind, ADA), bytes(16)
    assert codes.token_matches(token, SEED, ADA, 3)
    for mac in (token.mac[:16] + forged, forged + token.mac[16:], token.mac[16:] + token.mac[:16], token.mac[:16] * 2):
        assert not codes.token_matches(replace(token, mac=mac), SEED, ADA, 3)


@pytest.mark.parametrize("kind", [TokenKind.CODE, TokenKind.LINK])
def test_halves_that_were_made_under_two_keys_do_not_make_a_token(kind: TokenKind, settings: Any) -> None:
    former = _token(kind, ADA)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key " * 8
    current = _token(kind, ADA)
    for token in (former, current):
        assert codes.token_was_issued(token, SEED, 3)
        assert codes.token_matches(token, SEED, ADA, 3)
    for one, other in ((former, current), (current, former)):
        mixed = replace(one, mac=one.mac[:16] + other.mac[16:])
        assert codes.token_was_issued(mixed, SEED, 3)
        assert not codes.token_matches(mixed, SEED, ADA, 3)


def _token(kind: TokenKind, account: Account) -> codes.Token:
    link, code = codes.link_token(RECORD, SEED, account), codes.code_token(RECORD, SEED, account, 3)
    token = codes.parse_token(link if kind is TokenKind.LINK else code)
    assert token is not None
    return token


def test_a_token_of_one_kind_is_not_one_of_another() -> None:
    link = codes.parse_token(codes.link_token(RECORD, SEED, ADA))
    assert link is not None
    assert not codes.token_matches(replace(link, kind=TokenKind.CODE), SEED, ADA, 0)
    assert not codes.token_was_issued(replace(link, kind=TokenKind.CODE), SEED, 0)
    assert not codes.token_was_issued(replace(link, kind=TokenKind.REPORT), SEED, 0)
    assert not codes.report_matches(replace(link, kind=TokenKind.REPORT), SEED)


def test_a_report_token_is_good_for_its_own_record_and_seed_only() -> None:
    token = codes.parse_report_token(codes.report_token(RECORD, SEED))
    assert token is not None
    assert codes.report_matches(token, SEED)
    assert not codes.report_matches(token, bytes(32))
    assert not codes.report_matches(replace(token, record_id=uuid.uuid4()), SEED)
    assert not codes.report_matches(replace(token, mac=bytes(32)), SEED)


def test_a_report_token_is_never_even_tried_for_a_password_nor_the_other_way_round() -> None:
    report, link = codes.report_token(RECORD, SEED), codes.link_token(RECORD, SEED, ADA)
    assert codes.parse_token(report) is None
    assert codes.parse_report_token(link) is None
    assert codes.parse_report_token(codes.code_token(RECORD, SEED, ADA, 1)) is None


def test_a_report_token_made_under_a_former_key_is_still_good(settings: Any) -> None:
    token = codes.parse_report_token(codes.report_token(RECORD, SEED))
    assert token is not None
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key " * 8
    assert codes.report_matches(token, SEED)
    settings.SECRET_KEY_FALLBACKS = []
    assert not codes.report_matches(token, SEED)


def test_secrets_made_under_a_former_key_are_still_good(settings: Any) -> None:
    handle = codes.parse_handle(codes.handle(RECORD, SEED))
    code, issued_under = codes.code(RECORD, SEED, ADA, 1), codes.code_key()
    token = codes.parse_token(codes.link_token(RECORD, SEED, ADA))
    assert handle is not None
    assert token is not None
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key " * 8
    assert codes.handle_matches(handle[1], RECORD, SEED)
    assert codes.code_matches(code, RECORD, SEED, ADA, 1, issued_under)
    assert codes.token_matches(token, SEED, ADA, 1)
    settings.SECRET_KEY_FALLBACKS = []
    assert not codes.handle_matches(handle[1], RECORD, SEED)
    assert not codes.code_matches(code, RECORD, SEED, ADA, 1, issued_under)
    assert not codes.token_matches(token, SEED, ADA, 1)


@pytest.mark.parametrize("fallbacks", [0, 3])
@pytest.mark.parametrize("issued_under", ["current", "former", "another"])
def test_of_all_codes_that_any_key_makes_one_is_accepted(settings: Any, fallbacks: int, issued_under: str) -> None:
    """With each key that is tried, one more of a million codes would be right."""
    keys = [f"key number {number} " * 5 for number in range(fallbacks + 1)]
    places = {"current": 0, "former": min(1, fallbacks), "another": None}
    made, prints = {}, {}
    for key in [*keys, "one that nobody has any more " * 2]:
        settings.SECRET_KEY = key
        made[key], prints[key] = codes.code(RECORD, SEED, ADA, 1), codes.code_key()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = keys[0], keys[1:]
    place = places[issued_under]
    issuer = "one that nobody has any more " * 2 if place is None else keys[place]
    accepted = [key for key in made if codes.code_matches(made[key], RECORD, SEED, ADA, 1, prints[issuer])]
    assert accepted == ([] if place is None else [issuer])
    assert not any(codes.code_matches(code, RECORD, SEED, ADA, 1, "") for code in made.values())


@pytest.mark.parametrize("issued_under", ["current", "former", "another"])
def test_a_code_costs_the_same_whoever_is_asked_for_and_whatever_key_it_has(
    settings: Any, monkeypatch: pytest.MonkeyPatch, issued_under: str
) -> None:
    settings.SECRET_KEY_FALLBACKS = ["a former key " * 5, "an older key " * 5]
    prints = {"current": codes.code_key(), "former": codes._fingerprint("a former key " * 5), "another": "0" * 16}
    made: list[str] = []
    mac = codes._mac

    def counted(purpose: str, *rest: str) -> bytes:
        made.append(purpose)
        return mac(purpose, *rest)

    monkeypatch.setattr(codes, "_mac", counted)
    for account in (ADA, Account("", "", "")):
        made.clear()
        codes.code_matches("000000", RECORD, SEED, account, 1, prints[issued_under])
        assert made == ["key", "key", "key", "code"]


def test_the_fingerprint_of_a_key_gives_nothing_of_it_away(settings: Any) -> None:
    one = codes.code_key()
    assert len(one) == 16
    assert one == codes.code_key()
    assert one not in settings.SECRET_KEY
    settings.SECRET_KEY = settings.SECRET_KEY[:-1] + "~"
    assert codes.code_key() != one


def test_a_handle_is_spelled_in_one_way_only() -> None:
    handle = codes.handle(RECORD, SEED)
    assert codes.parse_handle(handle) is not None
    for other in (handle + "=", handle + "A", handle[:-1], " " + handle, handle.replace(handle[0], "+", 1)):
        assert codes.parse_handle(other) is None
    # The last letter has bits to spare: another one may decode to the same bytes, and is not a handle all the same.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert sum(codes.parse_handle(handle[:-1] + letter) is not None for letter in letters) == 16


def test_a_match_phrase_is_two_of_256_plain_words() -> None:
    assert len(set(WORDS)) == 256
    assert all(word.isascii() and word.islower() and word.isalpha() for word in WORDS)
    first, second = codes.match_phrase(RECORD, SEED).split()
    assert {first, second} <= set(WORDS)


def test_a_link_names_no_account() -> None:
    """WSTG-ATHN-09: two accounts' links of one record differ in their MAC alone."""
    one, other = (codes.parse_token(codes.link_token(RECORD, SEED, Account(key, "x", ""))) for key in ("1", "2"))
    assert one is not None
    assert other is not None
    assert (one.kind, one.record_id) == (other.kind, other.record_id)
    assert one.mac != other.mac


def test_what_nobody_may_guess_has_128_bits_or_more_of_the_systems_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """OWASP ASVS 5.0 section 11.5.1. That a row's id is a UUID besides counts for nothing."""
    drawn = os.urandom(32)
    monkeypatch.setattr("secrets.token_bytes", lambda size: drawn[:size])
    seed = codes.new_seed()
    assert seed == drawn
    handle = codes.parse_handle(codes.handle(RECORD, seed))
    tokens = [
        codes.parse_token(codes.link_token(RECORD, seed, ADA)),
        codes.parse_token(codes.code_token(RECORD, seed, ADA, 1)),
        codes.parse_report_token(codes.report_token(RECORD, seed)),
    ]
    assert handle is not None
    halves = [half for token in tokens if token for half in (token.mac[:16], token.mac[16:])]
    secret_parts = [seed, handle[1], *halves]
    assert len(set(secret_parts)) == 8
    assert all(len(part) * 8 >= 128 for part in secret_parts)


def test_every_comparison_of_a_secret_takes_constant_time_and_tries_every_key(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OWASP ASVS 5.0 section 11.2.4: neither where a wrong one differs nor which key a right one has shows in time."""
    settings.SECRET_KEY_FALLBACKS = ["a former key"]
    compared: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(constant_time_compare(one, other))
        return compared[-1]

    monkeypatch.setattr(codes, "constant_time_compare", compare)
    handle = codes.parse_handle(codes.handle(RECORD, SEED))
    link = codes.parse_token(codes.link_token(RECORD, SEED, ADA))
    report = codes.parse_report_token(codes.report_token(RECORD, SEED))
    assert handle is not None
    assert link is not None
    assert report is not None
    assert codes.handle_matches(handle[1], RECORD, SEED)
    assert codes.token_was_issued(link, SEED, 1)
    assert codes.token_matches(link, SEED, ADA, 1)
    assert codes.report_matches(report, SEED)
    assert compared == [True, False] * 4
    compared.clear()
    assert codes.code_matches(codes.code(RECORD, SEED, ADA, 1), RECORD, SEED, ADA, 1, codes.code_key())
    assert compared == [True, False, True], "the keys' fingerprints, and then the code under the one that fits"


def dump() -> str:
    """Every row of every table, as a thief of the database has them."""
    stolen = ""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 (every table of the test)
            stolen += repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in cursor.fetchall()])
    return stolen


def test_nothing_in_the_database_is_a_hash_of_the_code_to_be_tried_a_million_times(
    api: API, post: PostOffice, user: Any
) -> None:
    """OWASP ASVS 5.0 section 6.5.2. A salt would not help: it lies beside the hash."""
    record = record_of(api.request()["requestId"])
    code = post.deliver_one().code.encode()
    salts = [b"", bytes(record.seed), record.pk.bytes, str(record.pk).encode(), record.email_digest.encode()]
    stored = dump().encode()
    for name in ("md5", "sha1", "sha256", "sha512"):
        for salt in salts:
            tries = (salt + code, code + salt)
            digests = [hashlib.new(name, each).digest() for each in tries] + [hmac.digest(salt, code, name)]
            for digest in digests:
                assert digest.hex().encode() not in stored
                assert base64.b64encode(digest) not in stored
                assert repr(digest)[2:-1].encode() not in stored


def test_no_secret_is_in_the_database(api: API, post: PostOffice, user: Any) -> None:
    reset = api.request()
    letter = post.deliver_one()
    token = api.verify(reset["requestId"], letter.code)["resetToken"]
    stored = dump()
    record = record_of(reset["requestId"])
    assert str(record.pk).replace("-", "") in stored.replace("-", "")
    for secret in (reset["requestId"], letter.token, token):
        assert secret not in stored
        raw = codes._decode(secret, len(secret) * 3 // 4)
        assert raw is not None
        assert raw[-16:].hex() not in stored
        assert repr(raw[-16:])[2:-1] not in stored
    assert f"'{letter.code}'" not in stored


def test_the_database_alone_does_not_give_the_code_away(settings: Any) -> None:
    """With every column in hand and the key unknown, the code is as good as random: keys differ, codes differ."""
    settings.PASSWORD_RESET_CODE_LENGTH = 8
    one = codes.code(RECORD, SEED, ADA, 1)
    settings.SECRET_KEY = "the thief's own guess at the key " * 2
    assert codes.code(RECORD, SEED, ADA, 1) != one
