"""The translations: complete, in step with the code, and used wherever a person reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo
from django.conf import settings as project
from django.core.management import call_command
from django.utils import translation
from django.utils.translation import to_locale
from django_mail_preview import get_previews

from accounts.mailing import mails
from accounts.mailing.samples import SAMPLES
from harness import messages
from harness.deployment import ROOT
from tests.conftest import API, PostOffice

LANGUAGES = [code for code, _ in project.LANGUAGES]
TRANSLATED = [code for code in LANGUAGES if code != "en"]
PLACEHOLDER = re.compile(r"%\(\w+\)[ds]|%d|\{\w+\}|%")
TEXTS = messages.texts()
CATALOGUES = messages.catalogues()

each_language = pytest.mark.parametrize("language", LANGUAGES)
each_translation = pytest.mark.parametrize("language", TRANSLATED)


@pytest.fixture
def catalogue(language: str) -> Catalog:
    return CATALOGUES[to_locale(language)]


def of(catalogue: Catalog) -> Iterator[Message]:
    return (message for message in catalogue if message.id)


# --- The catalogues --------------------------------------------------------------------------------------------------


def test_there_is_a_translation_for_each_language_and_no_other() -> None:
    assert len(LANGUAGES) == 28
    assert set(CATALOGUES) == {to_locale(code) for code in TRANSLATED}


def test_the_extraction_reads_code_and_templates() -> None:
    found = {message.id for message in of(TEXTS)}
    assert {"Forgot your password?", "Your code to reset the password", "There is nothing here"} <= found
    assert ("%(n)d hour", "%(n)d hours") in found
    assert len(found) > 140


def test_no_text_hides_where_the_extraction_does_not_look() -> None:
    """Neither Babel nor gettext reads what stands inside an f-string."""
    hidden = [
        str(path)
        for source in messages.SOURCES
        for path in (ROOT / source).rglob("*.py")
        if re.search(r"\{(_|n?gettext(_lazy)?)\(", path.read_text())
    ]
    assert hidden == []


@each_translation
def test_a_translation_has_each_text_and_no_other(catalogue: Catalog) -> None:
    assert {message.id for message in of(catalogue)} == {message.id for message in of(TEXTS)}
    assert [message.id for message in of(catalogue) if message.fuzzy or not all(messages.forms(message))] == []
    assert list(catalogue.obsolete) == []


@each_translation
def test_a_translation_has_each_plural_form(catalogue: Catalog) -> None:
    several = [message for message in of(catalogue) if message.pluralizable]
    assert len(several) > 5
    assert {len(messages.forms(message)) for message in several} == {catalogue.num_plurals}


@each_translation
def test_no_translation_loses_a_placeholder(language: str, catalogue: Catalog) -> None:
    for message in of(catalogue):
        wanted = Counter(PLACEHOLDER.findall(str(message.id[-1] if message.pluralizable else message.id)))
        # Arabic and Hebrew have words for one hour and for two.
        may_be_words = message.pluralizable and language in {"ar", "he"}
        for form in messages.forms(message)[: -1 if may_be_words else None]:
            found = Counter(PLACEHOLDER.findall(form))
            assert found <= wanted if may_be_words else found == wanted, form
        assert Counter(PLACEHOLDER.findall(messages.forms(message)[-1])) == wanted


def test_each_form_of_a_number_can_be_written() -> None:
    for catalogue in CATALOGUES.values():
        for message in of(catalogue):
            if message.pluralizable:
                names = re.findall(r"%\((\w+)\)", message.id[-1])
                written = [form % dict.fromkeys(names, 7) for form in messages.forms(message)]
                assert not any("%" in text for text in written)


@each_translation
def test_no_translation_brings_markup_or_odd_blanks(catalogue: Catalog) -> None:
    for message in of(catalogue):
        for form in messages.forms(message):
            assert form == form.strip()
            assert not set("<>\n\t\ue000\u200b") & set(form), form


@each_translation
def test_what_is_compiled_is_what_is_written(language: str, catalogue: Catalog) -> None:
    """`make setup` compiles; a translation that was corrected since would not be seen."""
    with messages.path_of(to_locale(language)).with_suffix(".mo").open("rb") as file:
        compiled = read_mo(file)
    both = [[(list(each.id), messages.forms(each)) for each in of(one)] for one in (compiled, catalogue)]
    assert sorted(both[0]) == sorted(both[1])


def test_updating_changes_nothing_that_is_up_to_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = {name: messages.path_of(name).read_bytes() for name in CATALOGUES}
    monkeypatch.setattr(messages, "catalogues", messages.catalogues().copy)
    monkeypatch.setattr(messages, "LOCALE", tmp_path)
    messages.main()
    assert {name: messages.path_of(name).read_bytes() for name in CATALOGUES} == before


# --- Where they are read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAMPLES)
@each_language
def test_a_mail_is_whole_in_each_language(language: str, kind: str) -> None:
    letter = SAMPLES[kind](language)
    text, html = str(letter.body), str(letter.alternatives[0][0])
    is_rtl = language in {"ar", "he"}
    with translation.override(language):
        direction = "rtl" if translation.get_language_bidi() else "ltr"
    assert direction == ("rtl" if is_rtl else "ltr")
    assert f'<html lang="{language}" dir="{direction}">' in html
    assert not {"\ue000", "\ue001"} & set(text + html + str(letter.subject))
    assert not re.search(r"%\(|\{\w+\}|&lt;", text + html)
    if language != "en":
        assert str(letter.subject) != str(SAMPLES[kind]("en").subject)
    if kind == "code":
        assert re.fullmatch(r"@accounts\.example\.com #\d{6}", text.splitlines()[-1])
        assert "UTC (Firefox, Linux)" in text
    # Filters take hidden text for a trick.
    assert "display: none" not in html
    assert letter.message().as_bytes()


@each_language
def test_the_page_is_in_the_language_of_the_browser(language: str, api: API) -> None:
    page = api.http.get("/reset/", headers={"Accept-Language": f"{language},en;q=0.1"})
    html = page.content.decode()
    assert f'<html lang="{language}" dir="{"rtl" if language in {"ar", "he"} else "ltr"}">' in html
    assert ("Forgot your password?" in html) == (language == "en")
    assert "Accept-Language" in page["Vary"]
    assert html.count("{time}") == 2


@each_translation
def test_an_answer_is_in_the_language_of_the_client(language: str, api: API) -> None:
    document = 'mutation { requestPasswordReset(input: {email: "nonsense"}) { ... on Error { message } } }'
    answers = [
        api.post({"query": document}, **{"Accept-Language": spoken}).json()["data"]["requestPasswordReset"]["message"]
        for spoken in ("en", language)
    ]
    assert answers[0] == "That is not a valid email address."
    with translation.override(language):
        assert answers[1] == translation.gettext(answers[0]) != answers[0]


@each_translation
def test_the_rules_of_passwords_are_in_the_language_of_the_client(language: str, api: API) -> None:
    document = "{ passwordPolicy { checklist { text } } }"
    texts = [
        [rule["text"] for rule in answer["data"]["passwordPolicy"]["checklist"]]
        for answer in (api.post({"query": document}, **{"Accept-Language": each}).json() for each in ("en", language))
    ]
    assert len(texts[0]) == len(texts[1])
    # Django has no Hindi for two of its own.
    djangos = {text for text in texts[0] if "too similar" in text or "at least 15" in text}
    assert set(texts[0]) & set(texts[1]) == (djangos if language == "hi" else set())


@pytest.mark.parametrize(
    ("locale", "accepted", "subject"),
    [
        ("de-AT", "fr", "Ihr Code zum Zurücksetzen des Passworts"),
        (None, "fr-CA, en;q=0.5", "Votre code pour réinitialiser le mot de passe"),
        ("tlh", "fr", "Your code to reset the password"),
        (None, "", "Your code to reset the password"),
    ],
)
def test_a_mail_is_in_the_language_that_was_asked_in(
    api: API, post: PostOffice, user: Any, locale: str | None, accepted: str, subject: str
) -> None:
    document = "mutation M($in: RequestPasswordResetInput!) { requestPasswordReset(input: $in) { __typename } }"
    variables = {"in": {"email": "ada@example.com", "locale": locale}}
    api.post({"query": document, "variables": variables}, **{"Accept-Language": accepted})
    assert post.deliver_one().message.subject == f"accounts.example.com: {subject}"


def test_times_are_written_as_people_of_the_language_write_them() -> None:
    at = datetime(2026, 3, 1, 13, 5, tzinfo=UTC)
    assert mails._moment(at, "en") == "March 1, 2026, 1:05 PM UTC"
    assert mails._moment(at, "de") == "1. März 2026, 13:05 UTC"
    assert mails._moment(at, "zh-hans") == "2026年3月1日 13:05 UTC"
    assert mails._moment(at, "tlh") == mails._moment(at, "en")


def test_every_mail_can_be_written_to_files(tmp_path: Path) -> None:
    call_command("preview_mails", out=tmp_path, language=["de", "ar"])
    assert {folder.name for folder in tmp_path.iterdir()} == {"de", "ar"}
    assert len(list(tmp_path.rglob("*.eml"))) == 2 * len(SAMPLES)
    assert (tmp_path / "de" / "changed.txt").read_text().startswith("accounts.example.com: Ihr Passwort wurde geändert")


def test_the_inbox_lists_every_mail() -> None:
    found = {preview.method: preview for preview in get_previews() if preview.group == "account_recovery"}
    assert set(found) == set(SAMPLES)
    assert "Your password was changed" in found["changed"].render().subject
