"""A token is believed before anything is counted or looked up: made-up ones get no further, good ones always do.

Whoever holds a handle can make tokens up for its row, for its id stands in the handle. Whoever shares an address with
many, as behind a carrier's NAT, must not be kept out by what the others send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import codes, lookup
from accounts.exceptions import RateLimited
from accounts.limits import rules
from accounts.models import ForgetPassword
from tests.conftest import API, NEW_PASSWORD, Letter, PostOffice, account_of, record_of

MakeUser = Callable[..., Any]
USERS = get_user_model()._meta.db_table


def verbs(token: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Everything that this token can be sent to."""
    if codes.parse_report_token(token):
        yield "reportPasswordReset", {"reportToken": token}
        return
    yield "checkResetToken", {"resetToken": token}
    yield "checkPassword", {"resetToken": token, "newPassword": NEW_PASSWORD}
    yield "resetPassword", {"resetToken": token, "newPassword": NEW_PASSWORD}


def made_up(record: ForgetPassword) -> list[str]:
    """One token of each kind, well-formed and for this very row."""
    nobody = codes.Account("1", "made up", "")
    return [
        codes.link_token(record.pk, bytes(32), nobody),
        codes.code_token(record.pk, bytes(32), nobody, record.generation),
        codes.report_token(record.pk, bytes(32)),
    ]


@dataclass
class Cost:
    """What an answer took, with the row's own id left out."""

    kind: str
    statements: list[str]
    macs: int


@pytest.fixture
def cost(api: API, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cost]:
    macs: list[str] = []
    mac = codes._mac

    def counted(purpose: str, *rest: str) -> bytes:
        macs.append(purpose)
        return mac(purpose, *rest)

    monkeypatch.setattr(codes, "_mac", counted)

    def measure(record: ForgetPassword, verb: str, values: dict[str, str]) -> Cost:
        macs.clear()
        with CaptureQueriesContext(connection) as asked:
            kind = api.mutate(verb, **values)["__typename"]
        ids = f"{record.pk.hex}|{record.pk}"
        return Cost(kind, [re.sub(ids, "?", query["sql"]) for query in asked], len(macs))

    return measure


@pytest.fixture
def rows_of_all_kinds(
    api: API, post: PostOffice, make_user: MakeUser, settings: Any
) -> Callable[[], dict[str, ForgetPassword]]:
    """A reset of each kind of address and in each state, in a place where many accounts have no address at all."""
    settings.THROTTLE_REQUEST_PER_EMAIL = settings.THROTTLE_VERIFY_PER_IP = "1000/hour"
    settings.PASSWORD_RESET_COOLDOWN = 0
    for number in range(20):
        make_user(["", " "][number % 2], username=f"robot{number}")
    make_user("ada@example.com")
    make_user("inactive@example.com", is_active=False)
    make_user("done@example.com")
    make_user("shared@example.com", username="first")
    make_user("SHARED@example.com", username="second")

    def made() -> dict[str, ForgetPassword]:
        handles = {"queued": ""}
        for name in ("ada", "nobody", "inactive", "shared", "killed"):
            handles[name] = api.request(f"{'done' if name == 'killed' else name}@example.com")["requestId"]
        handles["done"] = api.request("done@example.com")["requestId"]
        letters = post.deliver()
        done = record_of(handles["done"]).pk
        (link,) = [token for letter in letters for token in letter.tokens if _record_id(token) == done]
        assert api.reset(link)["__typename"] == "ResetPasswordSuccess"
        handles["queued"] = api.request("ada@example.com")["requestId"]
        found = {name: record_of(handle) for name, handle in handles.items()}
        assert found["killed"].superseded_at is not None
        return {**found, "never issued": ForgetPassword()}

    return made


def _record_id(token: str) -> Any:
    parsed = codes.parse_token(token)
    return parsed and parsed.record_id


# --- Made up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("former_keys", [[], ["a former key", "one before that"]])
def test_a_made_up_token_costs_one_statement_and_a_mac_for_each_key_whatever_the_row(
    rows_of_all_kinds: Callable[[], dict[str, ForgetPassword]],
    cost: Callable[..., Cost],
    settings: Any,
    former_keys: list[str],
) -> None:
    rows = rows_of_all_kinds()
    settings.SECRET_KEY_FALLBACKS = former_keys
    for kind in range(3):
        costs = {
            (name, verb): cost(record, verb, values)
            for name, record in rows.items()
            for verb, values in verbs(made_up(record)[kind])
        }
        (first, *_) = costs.values()
        assert len(first.statements) == 1
        assert f'"{USERS}"' not in first.statements[0]
        assert "email" not in first.statements[0]
        assert first.macs == 1 + len(former_keys)
        assert costs == dict.fromkeys(costs, first)


def test_a_made_up_token_looks_no_account_up_even_where_many_have_no_address(
    rows_of_all_kinds: Callable[[], dict[str, ForgetPassword]], api: API, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = rows_of_all_kinds()["nobody"]
    assert record.email == ""
    monkeypatch.setattr(get_user_model()._default_manager, "annotate", lambda **_: pytest.fail("looked up"))
    for token in made_up(record):
        for verb, values in verbs(token):
            assert api.mutate(verb, **values)["__typename"] == "InvalidResetTokenError"


def test_a_token_that_was_issued_is_still_asked_for_its_account(api: API, post: PostOffice, user: Any) -> None:
    """The first half is the key's and the row's own; the second is another account's."""
    record = record_of(api.request()["requestId"])
    post.deliver()
    record.refresh_from_db()
    account = account_of(user)
    other = codes.link_token(record.pk, record.seed, codes.Account("0", account.password, account.address))
    assert api.reset(other)["__typename"] == "InvalidResetTokenError"
    good = codes.link_token(record.pk, record.seed, account)
    assert good[:44] == other[:44]
    assert api.reset(good)["__typename"] == "ResetPasswordSuccess"


def test_a_wiped_address_is_never_looked_up_even_with_a_token_that_was_issued(
    api: API, post: PostOffice, make_user: MakeUser
) -> None:
    robot = make_user("", username="robot")
    record = record_of(api.request("nobody@example.com")["requestId"])
    post.deliver()
    ForgetPassword.objects.filter(pk=record.pk).update(link_issued_at=record.created_at)
    with CaptureQueriesContext(connection) as asked:
        answer = api.reset(codes.link_token(record.pk, record.seed, account_of(robot)))
    assert answer["__typename"] == "InvalidResetTokenError"
    assert f'UPPER("{USERS}"' not in " ".join(query["sql"] for query in asked)
    assert lookup.find_mailbox(record_of_any(record).email).users == ()


def record_of_any(record: ForgetPassword) -> ForgetPassword:
    record.refresh_from_db()
    return record


# --- Shared addresses ------------------------------------------------------------------------------------------------


@pytest.fixture
def letter(api: API, post: PostOffice, user: Any) -> Letter:
    api.request()
    return post.deliver_one()


def spoil(api: API, times: int = 60) -> None:
    """Send as many nonsense tokens as a client has, from the address that all share."""
    for _ in range(times):
        assert api.mutate("checkResetToken", resetToken="x")["__typename"] == "InvalidResetTokenError"


def test_nonsense_of_others_keeps_no_good_link_out(api: API, letter: Letter, user: Any) -> None:
    spoil(api)
    for verb, values in verbs(letter.token):
        assert api.mutate(verb, **values)["__typename"] != "RateLimitedError", verb
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_nonsense_of_others_keeps_no_good_code_out(api: API, post: PostOffice, user: Any) -> None:
    handle = api.request()["requestId"]
    code = post.deliver_one().code
    spoil(api)
    token = api.verify(handle, code)["resetToken"]
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"


def test_nonsense_of_others_keeps_no_good_report_out(api: API, letter: Letter) -> None:
    spoil(api)
    assert api.report("x")["__typename"] == "RateLimitedError"
    assert api.report(letter.report)["__typename"] == "ReportPasswordResetSuccess"


def test_nonsense_beyond_the_limit_is_told_so_and_what_helps(api: API, letter: Letter) -> None:
    spoil(api)
    for token in ("x", codes.report_token(_record_id(letter.token), bytes(32))):
        for verb, values in verbs(token):
            answer = api.mutate(verb, **values)
            assert answer["__typename"] == "RateLimitedError", verb
            assert "A good one works all the same" in answer["message"]
            assert 3590 <= answer["retryAfter"] <= 3600


def test_the_clients_of_other_addresses_have_a_limit_of_their_own(api: API) -> None:
    spoil(api)
    elsewhere = API(Client(REMOTE_ADDR="203.0.113.7"))
    assert elsewhere.report("x")["__typename"] == "InvalidResetTokenError"


def test_good_tokens_count_for_nothing_but_their_own_record(api: API, letter: Letter, settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "2/hour"
    for _ in range(5):
        assert api.mutate("checkResetToken", resetToken=letter.token)["__typename"] == "CheckResetTokenSuccess"
    spoil(api, 2)


def test_a_good_token_can_be_used_sixty_times_an_hour_wherever_it_is_sent_from(
    letter: Letter, user: Any, later: Callable[..., None]
) -> None:
    """Each use may score a password or hash one."""
    clients = [API(Client(REMOTE_ADDR=f"203.0.113.{number}")) for number in range(1, 62)]
    for client in clients[:-1]:
        checked = client.mutate("checkResetToken", resetToken=letter.token)
        assert checked["__typename"] == "CheckResetTokenSuccess"
    for verb, values in verbs(letter.token):
        answer = clients[-1].mutate(verb, **values)
        assert (answer["__typename"], answer["retryAfter"]) == ("RateLimitedError", 3600), verb
        assert "start a new reset" in answer["message"]
    later(hours=1)
    assert clients[-1].mutate("checkResetToken", resetToken="x")["__typename"] == "InvalidResetTokenError"


def test_a_spent_report_hashes_no_more_passwords_than_a_record_has_uses(
    api: API, letter: Letter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "USES_OF_A_RECORD", "3/hour")
    hash_password = Mock(return_value="a hash")
    monkeypatch.setattr("accounts.recovery.reporting.hash_password", hash_password)
    assert api.report(letter.report)["__typename"] == "ReportPasswordResetSuccess"
    kinds = [api.report(letter.report)["__typename"] for _ in range(4)]
    assert kinds == ["InvalidResetTokenError"] * 2 + ["RateLimitedError"] * 2
    assert hash_password.call_count == 3


# --- Codes, passwords and logins -------------------------------------------------------------------------------------


def test_codes_are_counted_before_they_are_compared_and_apart_from_tokens(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "2/hour"
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    for _ in range(2):
        assert api.verify(handle, "000000")["__typename"] == "InvalidCodeError"
    refused = api.verify(handle, letter.code)
    assert refused["__typename"] == "RateLimitedError"
    assert "The link in the newest email works all the same" in refused["message"]
    assert record_of(handle).attempts == 2
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_the_count_of_a_right_code_is_given_back(
    counting: str, api: API, post: PostOffice, make_user: MakeUser, settings: Any
) -> None:
    """Or an office of people who have all typed the right code would keep the next one out."""
    settings.THROTTLE_VERIFY_PER_IP = "2/hour"
    for name in ("ada", "grace", "joan", "mary"):
        make_user(f"{name}@example.com")
        handle = api.request(f"{name}@example.com")["requestId"]
        right = post.deliver_one().code
        assert api.verify(handle, right)["__typename"] == "VerifyPasswordResetCodeSuccess"
    kinds = [api.verify(handle, "000000")["__typename"] for _ in range(3)]
    assert kinds == ["InvalidCodeError", "InvalidCodeError", "RateLimitedError"]


def test_passwords_scored_without_a_token_have_a_limit_of_their_own(api: API, letter: Letter, settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "2/hour"
    for _ in range(2):
        assert api.mutate("checkPassword", newPassword=NEW_PASSWORD)["__typename"] == "CheckPasswordSuccess"
    assert api.mutate("checkPassword", newPassword=NEW_PASSWORD)["__typename"] == "RateLimitedError"
    scored = api.mutate("checkPassword", newPassword=NEW_PASSWORD, resetToken=letter.token)
    assert scored["__typename"] == "CheckPasswordSuccess"
    spoil(api, 2)


def test_each_kind_of_secret_is_counted_apart(settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "1/hour"
    for check in (
        rules.check_client_may_verify,
        rules.count_refused_token,
        rules.check_client_may_try_passwords,
        rules.check_client_may_log_in,
    ):
        check("198.51.100.1")
        with pytest.raises(RateLimited):
            check("198.51.100.1")
