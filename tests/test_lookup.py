"""Which account a typed address belongs to, and where its mail goes: to the stored address, and to one only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import idna
import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts import lookup
from accounts.addresses import fold, mailbox_of
from accounts.directory import Directory, directory
from accounts.lookup import Mailbox, find_mailbox, find_mailboxes

MakeUser = Callable[..., Any]

DOTLESS = "m\u0131ke@example.com"
FULL_WIDTH = "\uff41\uff44\uff41\uff20\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0e\uff43\uff4f\uff4d"
KELVIN = "mi\u212ae@example.com"
LIGATURE = "o\ufb03ce@example.com"
DECOMPOSED = "jose\u0301@example.com"
COMPOSED = "jos\u00e9@example.com"

pytestmark = pytest.mark.django_db


@pytest.fixture
def fresh_directory() -> Iterator[None]:
    """One that has written no statement yet, for what a test changes about the model."""
    directory.cache_clear()
    yield
    directory.cache_clear()


@pytest.fixture
def generous_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases differ in what they call equal; that of CVE-2019-19844 was generous, this one proposes everybody."""

    def everybody(self: Directory, **_: Any) -> Any:
        return [(user, user.email) for user in self.accounts().order_by(*self._by_age())]

    monkeypatch.setattr(Directory, "candidates", everybody)


# --- Equal, or not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ADA@EXAMPLE.COM", "ada@example.com"),
        (FULL_WIDTH, "ada@example.com"),
        (KELVIN, "mike@example.com"),
        (LIGATURE, "office@example.com"),
        (DECOMPOSED, COMPOSED),
        ("STRASSE@example.com", "stra\u00dfe@example.com"),
        ("anna@fa\u00df.example", "anna@xn--fa-hia.example"),
        ("anna@B\u00dcCHER.example", "anna@XN--bcher-kva.example"),
        ("anna@b\u00fccher\u3002example", "anna@b\u00fccher.example"),
        (
            "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3@example.com",
            "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2@example.com",
        ),
    ],
)
def test_two_spellings_of_one_address_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DOTLESS, "mike@example.com"),
        ("\u0430da@example.com", "ada@example.com"),
        (COMPOSED, "jose@example.com"),
        ("anna@fa\u00df.example", "anna@fass.example"),
        ("anna@\u03b2\u03cc\u03bb\u03bf\u03c2.example", "anna@\u03b2\u03cc\u03bb\u03bf\u03c3.example"),
        ("anna@a\u200db.example", "anna@ab.example"),
    ],
)
def test_two_addresses_that_only_look_alike_do_not(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@pytest.mark.parametrize("letter", ["\u212a", "\u00df", "\u0130", "\ufb01", "\uff21", "\u0390", "\u1e9e", "\u03c2"])
def test_folding_twice_changes_nothing_more(letter: str) -> None:
    assert fold(fold(letter)) == fold(letter)


def test_only_the_case_of_ascii_letters_is_the_mail_servers_own_business() -> None:
    assert mailbox_of("ADA@Example.com") == "ada@example.com"
    assert mailbox_of("JOS\u00c9@example.com") == "jos\u00c9@example.com"


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ada@fa\u00df.example", "ada@XN--FA-HIA.example"), ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example")],
)
def test_a_domain_in_letters_and_the_same_in_ascii_are_one_mailbox(one: str, other: str) -> None:
    assert mailbox_of(one) == mailbox_of(other)


# --- Found -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "typed"), [("JOS\u00c9@example.com", COMPOSED), (COMPOSED, "JOS\u00c9@example.com")]
)
def test_capitals_beyond_ascii_are_found_in_every_database(make_user: MakeUser, stored: str, typed: str) -> None:
    account = make_user(stored)
    assert find_mailbox(typed) == Mailbox(stored, (account,))


@pytest.mark.parametrize("letters", ["fa\u00df", "b\u00fccher", "\u03b2\u03cc\u03bb\u03bf\u03c2", "\u4f8b\u5b50"])
@pytest.mark.parametrize("stored_in_ascii", [True, False])
def test_an_account_is_found_by_either_form_of_its_domain(
    make_user: MakeUser, letters: str, stored_in_ascii: bool
) -> None:
    """Browsers hand over `xn--…` for what a person has typed in letters."""
    forms = (f"ada@{idna.encode(letters).decode()}.example", f"ada@{letters}.example")
    stored, typed = forms if stored_in_ascii else reversed(forms)
    ada = make_user(stored)
    assert find_mailbox(typed) == find_mailbox(stored) == Mailbox(stored, (ada,))


def test_the_owner_of_one_domain_is_not_found_by_another_that_was_once_taken_for_it(make_user: MakeUser) -> None:
    make_user("anna@fass.example")
    assert find_mailbox("anna@fa\u00df.example").reason == "unknown"


@pytest.mark.parametrize("typed", ["ada@example.com", "ADA@Example.COM", FULL_WIDTH])
def test_an_account_is_found_however_its_address_is_typed(make_user: MakeUser, typed: str) -> None:
    ada = make_user("ada@example.com")
    assert find_mailbox(typed) == Mailbox("ada@example.com", (ada,))


@pytest.mark.parametrize(
    ("stored", "typed"), [("mike@example.com", KELVIN), ("office@example.com", LIGATURE), (COMPOSED, COMPOSED)]
)
def test_a_look_alike_that_folds_to_the_stored_address_is_mailed_at_the_stored_one(
    make_user: MakeUser, stored: str, typed: str
) -> None:
    make_user(stored)
    assert find_mailbox(typed).address == stored


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("mike@example.com", DOTLESS),
        (DOTLESS, "mike@example.com"),
        ("MIKE@example.com", DOTLESS),
        ("mike@example.com", "mike@exampl\u0435.com"),
        (COMPOSED, "jose@example.com"),
    ],
)
def test_a_look_alike_that_only_the_database_may_call_equal_is_nobody(
    make_user: MakeUser, stored: str, typed: str
) -> None:
    make_user(stored)
    assert find_mailbox(typed) == Mailbox(reason="unknown")


@pytest.mark.usefixtures("generous_database")
def test_a_candidate_of_the_database_is_believed_only_after_python_has_compared_it(make_user: MakeUser) -> None:
    mike = make_user("mike@example.com")
    assert find_mailbox(DOTLESS) == Mailbox(reason="unknown")
    assert find_mailbox("MIKE@example.com").users == (mike,)


def test_mail_goes_to_the_stored_address_and_never_to_the_typed_one(make_user: MakeUser) -> None:
    make_user("Ada.Lovelace@example.com")
    assert find_mailbox("ADA.LOVELACE@EXAMPLE.COM").address == "Ada.Lovelace@example.com"


def test_nobody_is_unknown(make_user: MakeUser) -> None:
    make_user("ada@example.com")
    assert find_mailbox("bob@example.com") == Mailbox(reason="unknown")


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0", "\u3000 "])
def test_accounts_without_an_address_are_nobodys_and_a_blank_is_not_even_asked_for(
    make_user: MakeUser, django_assert_num_queries: DjangoAssertNumQueries, blank: str
) -> None:
    make_user("", username="robot")
    make_user(blank, username="android")
    with django_assert_num_queries(0):
        assert find_mailbox(blank) == Mailbox(reason="unknown")
        assert find_mailboxes([blank, ""]) == {blank: Mailbox(reason="unknown"), "": Mailbox(reason="unknown")}


def test_blanks_among_addresses_bring_no_account(
    make_user: MakeUser, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(3):
        make_user("", username=f"robot{number}")
    ada = make_user("ada@example.com")
    with django_assert_num_queries(1) as asked:
        found = find_mailboxes(["", "ada@example.com", " "])
    assert {address: mailbox.users for address, mailbox in found.items()} == {
        "": (),
        " ": (),
        "ada@example.com": (ada,),
    }
    assert "UPPER('')" not in asked.captured_queries[0]["sql"]


@pytest.mark.parametrize("blank", ["", " ", "\u00a0"])
def test_an_account_without_an_address_is_not_mailable(make_user: MakeUser, blank: str) -> None:
    assert directory().why_not(make_user(blank, username="robot"), blank) == "no_address"


# --- Several accounts ------------------------------------------------------------------------------------------------


def test_addresses_that_differ_only_in_ascii_case_are_one_mailbox_with_all_its_accounts(make_user: MakeUser) -> None:
    ada = make_user("ada@example.com", "ada")
    root = make_user("Ada@example.com", "root")
    assert find_mailbox("ada@example.com") == Mailbox("ada@example.com", (ada, root))


def test_the_one_mailbox_of_several_accounts_is_mailed_as_typed_where_it_is_stored_so(make_user: MakeUser) -> None:
    make_user("ada@example.com", "ada")
    make_user("Ada@example.com", "root")
    assert find_mailbox("Ada@example.com").address == "Ada@example.com"
    assert find_mailbox("ADA@example.com").address == "ada@example.com"


def test_of_stored_addresses_that_differ_in_more_the_one_equal_to_what_was_typed_wins(make_user: MakeUser) -> None:
    narrow = make_user("office@example.com", "narrow")
    ligature = make_user(LIGATURE, "ligature")
    assert find_mailboxes([LIGATURE, "office@example.com", "Office@example.com"]) == {
        LIGATURE: Mailbox(LIGATURE, (ligature,)),
        "office@example.com": Mailbox("office@example.com", (narrow,)),
        "Office@example.com": Mailbox("office@example.com", (narrow,)),
    }


@pytest.mark.usefixtures("generous_database")
def test_where_none_of_several_stored_addresses_equals_what_was_typed_nobody_is_mailed(make_user: MakeUser) -> None:
    make_user("office@example.com", "narrow")
    make_user(LIGATURE, "ligature")
    assert find_mailbox("o\uff46fice@example.com") == Mailbox(reason="ambiguous")


@pytest.mark.usefixtures("generous_database")
def test_one_mailbox_never_gets_the_links_of_another(make_user: MakeUser) -> None:
    make_user("office@example.com", "narrow")
    make_user(LIGATURE, "ligature")
    assert [user.username for user in find_mailbox(LIGATURE).users] == ["ligature"]


def crowd(address: str, number: int, **fields: Any) -> list[Any]:
    """So many accounts at one address, the oldest first."""
    model = get_user_model()
    born = timezone.now() - timedelta(days=1000)
    return model._default_manager.bulk_create(
        model(
            username=f"{fields.get('username', 'crowd')} {number}",
            email=address,
            password=fields.get("password", "md5$x"),
            is_active=fields.get("is_active", True),
            date_joined=born + timedelta(days=number if fields.get("in_order", True) else -number),
        )
        for number in range(number)
    )


def test_of_many_accounts_of_one_address_the_ten_oldest_are_found(make_user: MakeUser) -> None:
    newest_first = crowd("Ada@example.com", 30, in_order=False)
    found = find_mailbox("ada@example.com")
    assert [user.username for user in found.users] == [user.username for user in newest_first[:-11:-1]]
    assert found.address == "Ada@example.com"


def test_the_oldest_are_told_by_their_key_where_the_model_knows_no_date(
    fresh_directory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd("ada@example.com", 12, in_order=False)
    monkeypatch.setattr(Directory, "_by_age", lambda _: ("pk",))
    assert [user.username for user in find_mailbox("ada@example.com").users] == [f"crowd {n}" for n in range(10)]


def test_no_more_accounts_are_read_than_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd("ada@example.com", 300)
    crowd("bob@example.com", 3, username="bob")
    read: list[str] = []

    def noted(address: str) -> str:
        read.append(address)
        return fold(address)

    monkeypatch.setattr(lookup, "fold", noted)
    found = find_mailboxes(["ada@example.com", "bob@example.com", "nobody@example.com"])
    assert [len(mailbox.users) for mailbox in found.values()] == [10, 3, 0]
    assert len(read) == 3 + 13, "what was typed, and each account that was read"


@pytest.mark.parametrize("barrier", [{"is_active": False}, {"password": "!"}])
def test_accounts_that_cannot_be_recovered_take_nobodys_place(make_user: MakeUser, barrier: dict[str, Any]) -> None:
    """Somebody may sign up with another's address as often as he likes, and never confirm it."""
    crowd("ada@example.com", 30, **barrier)
    ada = make_user("ada@example.com", "ada")
    assert find_mailbox("ada@example.com") == Mailbox("ada@example.com", (ada,))


def test_accounts_of_a_look_alike_take_nobodys_place(make_user: MakeUser) -> None:
    crowd(DOTLESS, 30)
    mike = make_user("mike@example.com")
    with capitals_beyond_ascii():
        assert find_mailbox("mike@example.com") == Mailbox("mike@example.com", (mike,))


@contextmanager
def capitals_beyond_ascii() -> Iterator[None]:
    """SQLite tells a dotless i from an i by their capitals; in here it does not, as other databases do not."""

    def ascii_upper(text: str) -> str:
        return "".join(letter.upper() if letter.isascii() else letter for letter in text)

    teach_sqlite(str.upper)
    yield
    teach_sqlite(ascii_upper)


def teach_sqlite(upper: Callable[[str], str]) -> None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        connection.connection.create_function("UPPER", 1, lambda text: text and upper(text), deterministic=True)


# --- Accounts that cannot be recovered -------------------------------------------------------------------------------


def test_an_inactive_account_is_not_mailed(make_user: MakeUser) -> None:
    user = make_user(is_active=False)
    found = find_mailbox("ada@example.com")
    assert found == Mailbox("ada@example.com", (user,), "inactive")
    assert found.recoverable == ()


def test_an_account_that_has_no_password_of_its_own_is_not_mailed(make_user: MakeUser) -> None:
    user = make_user()
    user.set_unusable_password()
    user.save()
    found = find_mailbox("ada@example.com")
    assert found == Mailbox("ada@example.com", (user,), "unusable_password")
    assert found.recoverable == ()


def test_an_inactive_twin_neither_gets_a_link_nor_hinders_the_active_one(make_user: MakeUser) -> None:
    make_user("Ada@example.com", "gone", is_active=False)
    ada = make_user("ada@example.com", "ada")
    assert find_mailbox("ada@example.com") == Mailbox("ada@example.com", (ada,))


# --- Many at once ----------------------------------------------------------------------------------------------------


def test_many_addresses_cost_one_query(make_user: MakeUser, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    users = {f"user{number}@example.com": make_user(f"user{number}@example.com") for number in range(5)}
    strangers = [f"stranger{number}@example.com" for number in range(95)]
    with django_assert_num_queries(1):
        found = find_mailboxes([*users, *strangers])
    assert {address: found[address].users for address in users} == {address: (u,) for address, u in users.items()}
    assert {found[stranger].reason for stranger in strangers} == {"unknown"}


def test_no_address_costs_no_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert find_mailboxes([]) == {}


def test_the_account_model_may_call_its_address_otherwise(
    fresh_directory: None, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user("elsewhere@example.com", username="ada@example.com")
    monkeypatch.setattr(get_user_model(), "get_email_field_name", classmethod(lambda _: "username"))
    assert find_mailbox("ADA@example.com") == Mailbox("ada@example.com", (user,))
    assert find_mailbox("elsewhere@example.com") == Mailbox(reason="unknown")
