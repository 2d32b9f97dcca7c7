"""What the mails say, and what nobody can make them say."""

from __future__ import annotations

import email.policy
import re
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone, translation

from accounts import codes
from accounts.addresses import UnmailableAddress, fold
from accounts.choices import Mail
from accounts.mailing import mails
from accounts.models import ForgetPassword, GuessBudget, utc_day
from tests.conftest import API, Letter, PostOffice, account_of

MakeUser = Callable[..., Any]

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"
HOSTILE = "Chrome/1 Windows https://evil.example/ call +1-555-0100 <b>URGENT</b> Firefox"


def asked(**fields: Any) -> ForgetPassword:
    """A row as Send has it in hand: looked up, claimed, its first code issued."""
    address = "ada@example.com"
    digest = codes.address_digest(fold(address))
    return ForgetPassword(**{"email": address, "email_digest": digest, "generation": 1, **fields})


def reset_mail(*users: Any, with_code: bool = True, **fields: Any) -> EmailMultiAlternatives:
    return mails.reset_mail(asked(**fields), "ada@example.com", users, with_code=with_code)


def on_the_wire(message: EmailMultiAlternatives) -> EmailMessage:
    """The mail as another program reads it."""
    parsed = email.message_from_bytes(message.message().as_bytes(), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def html_of(message: EmailMultiAlternatives) -> str:
    ((content, kind),) = [(str(part[0]), part[1]) for part in message.alternatives]
    assert kind == "text/html"
    return content


def everything_in(message: EmailMultiAlternatives) -> str:
    return f"{message.subject}\n{message.body}\n{html_of(message)}"


# --- The code --------------------------------------------------------------------------------------------------------


def test_the_code_stands_alone_on_its_own_line(user: Any) -> None:
    record = asked()
    code = codes.code(record.pk, record.seed, account_of(user), 1)
    message = mails.reset_mail(record, "ada@example.com", [user], with_code=True)
    assert str(message.body).splitlines().count(code) == 1


def test_the_last_line_binds_the_code_to_the_host_of_the_reset_page(user: Any) -> None:
    message = reset_mail(user)
    lines = str(message.body).splitlines()
    assert lines[-1] == f"@accounts.example.com #{Letter(message).code}"
    assert str(message.body).endswith(lines[-1] + "\n")


def test_the_bound_host_is_the_frontends_without_its_port(settings: Any, user: Any) -> None:
    settings.FRONTEND_RESET_URL = "https://app.example.com:8443/forgot"
    assert str(reset_mail(user).body).splitlines()[-1].startswith("@app.example.com #")


def test_the_mail_says_how_long_code_and_link_work(settings: Any, user: Any) -> None:
    settings.PASSWORD_RESET_CODE_LIFETIME, settings.PASSWORD_RESET_LINK_LIFETIME = 420, 1980
    message = reset_mail(user)
    for content in (str(message.body), html_of(message)):
        assert "7 minutes" in content
        assert "33 minutes" in content


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (60, "1 minute"),
        (420, "7 minutes"),
        (3600, "1 hour"),
        (5400, "90 minutes"),
        (7200, "2 hours"),
        (86_400, "1 day"),
    ],
)
def test_a_lifetime_is_said_as_people_say_it(settings: Any, user: Any, seconds: int, said: str) -> None:
    settings.PASSWORD_RESET_LINK_LIFETIME = seconds
    message = reset_mail(user, with_code=False)
    assert f"The link works once, for {said} after" in message.body
    assert f"The link works once, for {said} after" in html_of(message)


def test_a_mail_says_whose_it_is(settings: Any, user: Any) -> None:
    settings.BRAND_NAME, settings.SUPPORT_EMAIL = "Bücher & Söhne", "help@example.com"
    for message in (reset_mail(user), mails.changed_mail(asked(mail_due=Mail.CHANGED), "ada@example.com")):
        assert message.subject.startswith("Bücher & Söhne: ")
        assert "Bücher &amp; Söhne" in html_of(message)
        assert 'href="mailto:help@example.com"' in html_of(message)


def test_after_a_report_the_subject_says_so(user: Any) -> None:
    message = reset_mail(user, with_code=False, fresh_link_for_id=asked().pk)
    assert message.subject == "accounts.example.com: After your report: your link to choose another password"


def test_several_links_are_explained(make_user: MakeUser) -> None:
    users = [make_user("ada@example.com", username=name) for name in ("ada", "countess")]
    message = reset_mail(*users)
    for content in (str(message.body), html_of(message)):
        assert "Several accounts have this address." in content
    assert "Several" not in everything_in(reset_mail(users[0]))


def test_the_html_says_its_language_and_direction(settings: Any, user: Any) -> None:
    settings.LANGUAGES = [("en", "English"), ("ar", "Arabic")]
    assert '<html lang="en" dir="ltr">' in html_of(reset_mail(user))
    assert '<html lang="ar" dir="rtl">' in html_of(reset_mail(user, locale="ar"))


def test_the_code_is_not_in_the_subject(user: Any) -> None:
    message = reset_mail(user)
    assert Letter(message).code not in message.subject


def test_the_html_says_what_the_text_says(user: Any) -> None:
    record = asked(user_agent=FIREFOX)
    message = mails.reset_mail(record, "ada@example.com", [user], with_code=True)
    letter = Letter(message)
    for said in (letter.code, letter.token, record.match_phrase, "Firefox, Linux"):
        assert said in html_of(message)


def test_no_mail_of_a_link_alone_has_a_code_or_binds_one(user: Any) -> None:
    message = reset_mail(user, with_code=False)
    assert Letter(message).token
    assert not re.search(r"^@\S+ #", str(message.body), re.MULTILINE)
    assert not re.search(r"(?<![\w-])\d{6}(?![\w-])", everything_in(message))


def test_an_address_whose_guesses_are_gone_is_mailed_the_link_alone(
    api: API, post: PostOffice, user: Any, clock: Any
) -> None:
    api.request()
    record = ForgetPassword.objects.get()
    today = utc_day(record.created_at)
    GuessBudget.objects.create(email_digest=record.email_digest, day=today, used_today=10, in_a_row=10)
    letter = post.deliver_one()
    assert letter.code == ""
    assert letter.token


def test_a_reset_whose_attempts_are_gone_is_mailed_the_link_alone(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    ForgetPassword.objects.update(attempts=5)
    letter = post.deliver_one()
    assert letter.code == ""
    assert letter.token


# --- The name --------------------------------------------------------------------------------------------------------


def test_the_mail_says_the_username(make_user: Any) -> None:
    message = reset_mail(make_user("ada@example.com", username="Ada L"))
    assert "Your username: Ada L" in str(message.body).splitlines()
    assert ">Your username: Ada L</p>" in html_of(message)


@pytest.mark.parametrize("name", ["ada@example.com", "ada.lovelace", "call 0800 1234", "evil。example", " "])
def test_a_username_that_is_the_address_or_might_lead_somewhere_is_not_said(make_user: Any, name: str) -> None:
    message = reset_mail(make_user("ada@example.com", username=name))
    assert "username" not in everything_in(message)


@pytest.mark.parametrize("name", ["x" * 41, "ada\x00", "ada\u202eL"])
def test_a_username_that_cannot_be_shown_whole_is_not_said(make_user: Any, name: str) -> None:
    """Who types what the mail says must get in with it."""
    account = make_user("ada@example.com", username="ada")
    account.username = name
    assert "username" not in everything_in(reset_mail(account))


def test_a_username_cannot_bring_markup(make_user: Any) -> None:
    message = reset_mail(make_user("ada@example.com", username="<b>&"))
    assert "Your username: &lt;b&gt;&amp;" in html_of(message)


def test_the_mail_of_a_decoy_is_written_with_a_name_as_well(user: Any) -> None:
    message = mails.reset_mail(asked(), "nobody@example.com", (mails.NOBODY,), with_code=True)
    assert "Your username: nobody" in str(message.body)


# --- The link --------------------------------------------------------------------------------------------------------


def test_the_link_opens_this_sites_own_page_where_there_is_no_frontend(settings: Any, user: Any) -> None:
    settings.PUBLIC_URL, settings.FRONTEND_RESET_URL = "https://id.example.com", ""
    assert "https://id.example.com/reset/#token=" in str(reset_mail(user).body)


def test_the_link_opens_the_frontends_page_where_there_is_one(settings: Any, user: Any) -> None:
    settings.FRONTEND_RESET_URL = "https://app.example.com/forgot?tab=2"
    message = reset_mail(user)
    assert "https://app.example.com/forgot?tab=2#token=" in str(message.body)
    assert 'href="https://app.example.com/forgot?tab=2#token=' in html_of(message)


def test_the_link_opens_the_route_of_a_single_page_app(settings: Any, user: Any) -> None:
    settings.FRONTEND_RESET_URL = "https://app.example.com/#/reset"
    message = reset_mail(user)
    for kind in ("token", "report"):
        assert f"https://app.example.com/#/reset?{kind}=" in str(message.body)
        assert f'href="https://app.example.com/#/reset?{kind}=' in html_of(message)
    assert str(message.body).splitlines()[-1].startswith("@app.example.com #")
    assert "https://app.example.com/#/reset\n" in str(mails.changed_mail(asked(), "ada@example.com").body)


def test_the_link_never_goes_where_a_host_header_says(api: API, post: PostOffice, settings: Any, user: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    query = 'mutation { requestPasswordReset(input: {email: "ada@example.com"}) { __typename } }'
    assert api.post({"query": query}, host="evil.example", **{"x-forwarded-host": "evil.example"}).status_code == 200
    message = post.deliver_one().message
    assert isinstance(message, EmailMultiAlternatives)
    assert "https://accounts.example.com/reset/#token=" in message.body
    assert "evil" not in message.message().as_string() + html_of(message)


def test_the_secret_of_a_link_stands_behind_the_number_sign_that_no_server_sees(user: Any) -> None:
    message = reset_mail(user)
    token = Letter(message).token
    assert all(f"#token={token}" in line for line in str(message.body).splitlines() if token in line)


# --- Form ------------------------------------------------------------------------------------------------------------


def test_a_mail_is_text_with_html_as_its_alternative(user: Any) -> None:
    mail = on_the_wire(reset_mail(user))
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_a_mail_has_the_fields_that_every_mail_must_have(user: Any, clock: Any) -> None:
    """RFC 5322 section 3.6: when it was written, and by whom."""
    for message in (reset_mail(user), mails.changed_mail(asked(mail_due=Mail.CHANGED), "ada@example.com")):
        mail = on_the_wire(message)
        assert [len(mail.get_all(name, [])) for name in ("Date", "From", "To", "Subject", "Message-ID")] == [1] * 5
        assert mail["Date"].datetime == timezone.now()
        assert [address.addr_spec for address in mail["From"].addresses] == ["no-reply@accounts.example.com"]


def test_a_mail_says_that_a_machine_has_sent_it(user: Any) -> None:
    assert on_the_wire(reset_mail(user))["Auto-Submitted"] == "auto-generated"


def test_a_message_id_is_of_the_senders_domain_and_fixed_for_record_kind_generation_and_resend(
    settings: Any, user: Any
) -> None:
    settings.DEFAULT_FROM_EMAIL = "Recovery <no-reply@mail.example.org>"
    record = asked()

    def message_id(mail_due: Mail, generation: int) -> str:
        record.mail_due, record.generation = mail_due, generation
        return str(on_the_wire(mails.reset_mail(record, "ada@example.com", [user], with_code=True))["Message-ID"])

    first = message_id(Mail.CODE, 1)
    assert re.fullmatch(r"<[\w.-]+@mail\.example\.org>", first)
    assert message_id(Mail.CODE, 1) == first
    assert len({first, message_id(Mail.CODE, 2), message_id(Mail.LINK, 1), message_id(Mail.CHANGED, 1)}) == 4
    record.resends = 1
    assert message_id(Mail.CODE, 1) != first


def test_a_message_id_gives_no_secret_away(user: Any) -> None:
    message = reset_mail(user)
    record_secrets = (Letter(message).code, Letter(message).token)
    assert not any(secret in on_the_wire(message)["Message-ID"] for secret in record_secrets)


def test_no_line_is_longer_than_smtp_allows(settings: Any, user: Any) -> None:
    settings.FRONTEND_RESET_URL = "https://app.example.com/" + "a" * 1500
    for message in (reset_mail(user), mails.changed_mail(asked(mail_due=Mail.CHANGED), "ada@example.com")):
        assert max(len(line) for line in message.message().as_bytes().splitlines()) <= 998


@pytest.mark.parametrize("mail_due", [Mail.CODE, Mail.CHANGED])
def test_a_mail_goes_to_one_address_and_comes_from_ours(user: Any, mail_due: Mail) -> None:
    record = asked(mail_due=mail_due)
    if mail_due is Mail.CHANGED:
        message = mails.changed_mail(record, "ada@example.com")
    else:
        message = mails.reset_mail(record, "ada@example.com", [user], with_code=True)
    assert message.recipients() == ["ada@example.com"]
    assert message.from_email == "no-reply@accounts.example.com"


@pytest.mark.parametrize("locale", ["", "xx", "zz-ZZ", "a-b-c-d"])
def test_a_language_that_nobody_has_translated_becomes_the_sites_own(user: Any, locale: str) -> None:
    with translation.override("fr"):
        assert "Your code:" in str(reset_mail(user, locale=locale).body)


# --- Who asked -------------------------------------------------------------------------------------------------------


def test_the_phrase_is_the_one_that_the_asking_page_shows(user: Any) -> None:
    record = asked()
    message = mails.reset_mail(record, "ada@example.com", [user], with_code=True)
    assert record.match_phrase in str(message.body)


def test_the_mail_says_when_it_was_asked_for(user: Any, clock: Any) -> None:
    assert "March 1, 2026, 12:00 PM UTC" in str(reset_mail(user).body)


@pytest.mark.parametrize(
    ("user_agent", "described"),
    [
        (FIREFOX, "Firefox, Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/139.0.0.0 Safari/537.36 Edg/139.0.0.0", "Edge, Windows"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/139.0.0.0 Safari/537.36", "Chrome, Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1", "Safari, iOS"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.5 Safari/605.1.15", "Safari, macOS"),
        ("Mozilla/5.0 (Linux; Android 10; K) Chrome/139.0.0.0 Mobile Safari/537.36", "Chrome, Android"),
        ("curl/8.5.0", ""),
        ("", ""),
    ],
)
def test_browser_and_system_are_named(user_agent: str, described: str) -> None:
    assert mails.describe_client(user_agent) == described


def test_nothing_that_the_asker_wrote_as_its_browser_is_repeated(user: Any) -> None:
    said = everything_in(reset_mail(user, user_agent=HOSTILE))
    assert "(Firefox, Windows)" in said
    for word in ("evil", "555-0100", "URGENT", "<b>"):
        assert word not in said


def test_an_unknown_browser_leaves_no_empty_brackets(user: Any) -> None:
    assert "()" not in everything_in(reset_mail(user, user_agent="curl/8.5.0"))


# --- Several accounts ------------------------------------------------------------------------------------------------


def test_several_accounts_of_one_address_get_one_mail_with_a_named_link_each_and_no_code(
    api: API, post: PostOffice, make_user: MakeUser
) -> None:
    make_user("ada@example.com", "ada")
    make_user("Ada@example.com", "root")
    api.request("ada@example.com")
    letter = post.deliver_one()
    assert letter.code == ""
    named = dict(re.findall(r"^(\w+)\n\S+#token=(\S+)$", letter.text, re.MULTILINE))
    assert set(named) == {"ada", "root"}
    assert len(set(named.values())) == 2


def test_each_links_token_is_that_accounts_and_no_code_is_anybodys(make_user: MakeUser) -> None:
    users = [make_user("ada@example.com", "ada"), make_user("Ada@example.com", "root")]
    record = asked()
    message = mails.reset_mail(record, "ada@example.com", users, with_code=True)
    expected = [codes.link_token(record.pk, record.seed, account_of(user)) for user in users]
    assert Letter(message).tokens == expected
    assert Letter(message).code == ""


@pytest.mark.parametrize(
    ("username", "shown"),
    [
        ("ada", "ada"),
        ("x" * 150, "x" * 40),
        ("ada\r\nBcc: eve", "adaBcc: eve"),
        ("Ada Lovelace-Byron (1815)", "Ada Lovelace-Byron (1815)"),
        ("\uff21\uff44\uff41 42", "Ada 42"),
        ("ada\x00\x1b[31m\u202egnp", "ada[31mgnp"),
        ("ada\u2028\u2029\x85line", "adaline"),
    ],
)
def test_an_accounts_name_is_40_characters_at_most_without_controls(
    make_user: MakeUser, username: str, shown: str
) -> None:
    other = make_user("Ada@example.com", "other")
    account = make_user("ada@example.com", "ada")
    account.username = username
    assert named_in(reset_mail(account, other)) == [shown, "other"]


def named_in(message: EmailMultiAlternatives) -> list[str]:
    """What stands above each link."""
    return re.findall(r"^(.*)\n\S+#token=", str(message.body), re.MULTILINE)


@pytest.mark.parametrize(
    "username",
    [
        "evil.example/login",
        "call evil.example now",
        "evil\uff0eexample",
        "evil\u3002example",
        "//evil",
        "call 1-800-GET-HELP",
        "\\\\evil\\share",
        "evil/reset",
        "mailto:eve",
        "ada https://evil.example/login now",
        "ada ht\u200btps://evil.example",
        "see ht\x07tp://evil.example",
        "ada@example.com",
        "ada\uff20example",
        "ada \ufe6b home",
        "0800-12345",
        "call 12345",
        "1 2 3 4 5",
        "(01) 2-34",
        "+49 [30] 1/2",
        "1\u20112\u20113\u20114\u20115",
        "\uff11\uff12\uff13\uff14\uff15",
        "\u0661\u0662\u0663\u0664\u0665",
        "1\u200b2\u200b3\u200b4\u200b5",
        "\u2460\u2461\u2462\u2463\u2464",
        "x" * 60 + "12345",
        " ",
    ],
)
def test_a_name_that_might_lead_the_reader_somewhere_gives_way_to_a_number(make_user: MakeUser, username: str) -> None:
    """Whoever signs up with somebody's address writes into that person's mail, and it is we who sign it."""
    account, other = make_user("ada@example.com", "first"), make_user("Ada@example.com", "second")
    account.username = other.username = username
    message = reset_mail(account, other)
    assert named_in(message) == ["#1", "#2"]
    assert username.strip() == "" or username not in everything_in(message)


@pytest.mark.parametrize("username", ["ada1815", "ada 18 15", "4 digits: 1234", "agent_007", "a1b2c3d4e5f6"])
def test_a_name_with_a_few_digits_is_shown(make_user: MakeUser, username: str) -> None:
    account, other = make_user("ada@example.com", username), make_user("Ada@example.com", "other")
    assert named_in(reset_mail(account, other)) == [username, "other"]


def test_an_accounts_name_is_escaped_in_html_and_not_in_text(make_user: MakeUser) -> None:
    account, other = make_user("ada@example.com", "<b>ada & co"), make_user("Ada@example.com", "other")
    message = reset_mail(account, other)
    assert "<b>ada & co" in str(message.body)
    assert "&lt;b&gt;ada &amp; co" in html_of(message)
    assert "<b>ada" not in html_of(message)


def test_no_field_of_an_account_or_a_request_adds_a_header(make_user: MakeUser) -> None:
    account, other = make_user("ada@example.com", "ada"), make_user("Ada@example.com", "other")
    account.username = "ada\r\nBcc: eve@evil.example\r\n\r\nhello"
    message = reset_mail(account, other, user_agent="Firefox\r\nBcc: eve@evil.example", locale="en\r\nBcc: eve")
    mail = on_the_wire(message)
    assert mail["Bcc"] is None
    assert {name.lower() for name in mail} == {
        "content-type",
        "mime-version",
        "subject",
        "from",
        "to",
        "date",
        "message-id",
        "auto-submitted",
    }


def test_an_address_of_two_lines_cannot_be_mailed(user: Any) -> None:
    with pytest.raises(UnmailableAddress):
        mails.reset_mail(asked(), "ada@example.com\r\nBcc: eve@evil.example", [user], with_code=True)


# --- Changed ---------------------------------------------------------------------------------------------------------


def test_the_news_of_a_change_carries_no_code_and_no_token(user: Any) -> None:
    record = asked(mail_due=Mail.CHANGED, user=user)
    said = everything_in(mails.changed_mail(record, "ada@example.com"))
    assert "#token=" not in said
    assert codes.code(record.pk, record.seed, account_of(user), 1) not in said
    assert codes.link_token(record.pk, record.seed, account_of(user)) not in said
    assert not re.search(r"^@\S+ #", said, re.MULTILINE)


def test_the_news_of_a_change_says_the_same_time_in_every_try(
    api: API, post: PostOffice, user: Any, later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = api.request()
    verified = api.verify(reset["requestId"], post.deliver_one().code)
    api.reset(verified["resetToken"])

    def breaks(*args: Any, **options: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as broken:
        broken.setattr("accounts.mailing.smtp.Connection.send", breaks)
        later(minutes=1)
        assert post.deliver() == []
    later(hours=2)
    assert "was changed at March 1, 2026, 12:00 PM UTC" in post.deliver_one().text
