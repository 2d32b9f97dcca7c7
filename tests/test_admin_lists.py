"""What staff who may only look can ask of the admin's lists and pages: what is offered there, and no failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db.models import Model
from django.http import QueryDict
from django.test import Client

from accounts.filters import MAX_TEXT, OfferedFilters
from accounts.models import ForgetPassword, WebhookDelivery
from tests.conftest import API, PostOffice

LIST = "/admin/account_recovery/forgetpassword/"
LISTS: dict[type[Model], str] = {
    ForgetPassword: LIST,
    WebhookDelivery: "/admin/account_recovery/webhookdelivery/",
    get_user_model(): "/admin/auth/user/",
    Group: "/admin/auth/group/",
}
ODD = [
    "",
    "x",
    "\0",
    "x\0x",
    "-1",
    "0",
    "9" * 30,
    "9" * 5000,
    "1e400",
    "NaN",
    "SENT,QUEUED",
    "True",
    "None",
    "00000000-0000-0000-0000-00000000000g",
    "2026-99-99",
    "0000-00-00 00:00:00+00:00",
    "99999-01-01",
    "\ud7ff\uffff\U0010ffff",
    "٣",
    "' OR 1=1 --",
    "%",
    "(a+)+$",
    "{}",
    "a=b&c=d",
    "1." * 2000,
    "a " * 2000,
]
OWN = ["p", "o", "q", "all", "e", "_popup", "_facets", "_to_field", "_changelist_filters", "_source_model", "unknown"]
KEYS = ["pk", "id", "id__in", "created_at__gte", "created_at__lt", "state__exact", "status", "trouble"]


@pytest.fixture
def rows(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    post.deliver()
    api.request("nobody@example.com")
    Group.objects.create(name="support").user_set.add(user)


@pytest.fixture
def viewer(make_user: Callable[..., Any], rows: None) -> Client:
    """A member of staff who may look at everything and do nothing."""
    clerk = make_user("clerk@example.com", "clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(clerk)
    return client


def asked(client: Client, path: str, **parameters: Any) -> Any:
    """The answer to a GET, with a page rendered to its end."""
    query = QueryDict(mutable=True)
    for name, value in parameters.items():
        query.setlist(name, value if isinstance(value, list) else [value])
    return client.get(f"{path}?{query.urlencode()}")


def found(response: Any) -> set[Any]:
    return {row.pk for row in response.context["cl"].result_list}


def everything(model: type[Model]) -> set[Any]:
    return set(model._default_manager.values_list("pk", flat=True))


# --- Filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", LISTS)
def test_whatever_is_registered_is_guarded(model: type[Model]) -> None:
    assert set(admin.site._registry) == set(LISTS)
    assert isinstance(admin.site._registry[model], OfferedFilters)


@pytest.mark.parametrize(("model", "path"), LISTS.items())
@pytest.mark.parametrize("facets", [{}, {"_facets": "True"}])
def test_every_filter_that_is_offered_works(viewer: Client, model: type[Model], path: str, facets: Any) -> None:
    page = asked(viewer, path, **facets)
    changelist = page.context["cl"]
    links = [choice["query_string"] for spec in changelist.filter_specs for choice in spec.choices(changelist)]
    assert len(links) >= (0 if model is Group else 8)
    for link in links:
        answer = viewer.get(f"{path}{link}")
        assert answer.status_code == 200, link
        narrowed = {name for name, _ in parse_qsl(link.removeprefix("?"), keep_blank_values=True)} - {"_facets"}
        assert narrowed or found(answer) == everything(model)


def test_a_filter_finds_what_it_says(viewer: Client) -> None:
    sent = ForgetPassword.objects.filter(state="SENT")
    assert found(asked(viewer, LIST, status="SENT")) == set(sent.values_list("pk", flat=True))
    assert 0 < sent.count() < ForgetPassword.objects.count()


LOOK_UPS = ["", "__exact", "__regex", "__iregex", "__startswith", "__contains", "__gt", "__lte", "__in", "__isnull"]
RELATED = {
    ForgetPassword: [
        "user__password",
        "user__email",
        "user__id",
        "events__kind",
        "fresh_link_for__forget_password_otp",
    ],
    get_user_model(): [
        "password_resets__forget_password_otp",
        "groups__name",
        "groups__user__password",
        "user_permissions__codename",
        "logentry__object_repr",
    ],
    WebhookDelivery: ["record__forget_password_otp", "record__user__password"],
    Group: ["user__password", "user__password_resets__forget_password_otp", "permissions__codename"],
}


@pytest.mark.parametrize(("model", "path"), LISTS.items())
def test_no_other_look_up_is_answered(viewer: Client, model: type[Model], path: str) -> None:
    """Not of the seed, nor of a password hash, nor of any column or relation else."""
    offered = {
        name for spec in viewer.get(path).context["cl"].filter_specs for name in spec.expected_parameters()
    }  # fmt: skip
    columns = [field.name for field in model._meta.get_fields()] + RELATED[model]
    names = {f"{column}{look_up}" for column in columns for look_up in LOOK_UPS} - offered
    assert len(names) > 20
    refused = {name: asked(viewer, path, **{name: "."}).status_code for name in sorted(names)}
    assert {name: status for name, status in refused.items() if status != 400} == {}


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "sent"},
        {"status": ["SENT", "QUEUED"]},
        {"trouble": "dead,reported"},
        {"created_at__gte": "2026-01-01 00:00:00+00:00"},
        {"created_at__lt": "2026-01-01 00:00:00+00:00"},
        {"created_at__gte": "yesterday", "created_at__lt": "today"},
    ],
)
def test_another_value_than_those_offered_leads_to_the_whole_list(viewer: Client, odd: dict[str, Any]) -> None:
    answer = asked(viewer, LIST, **odd)
    assert (answer.status_code, answer["Location"]) == (302, f"{LIST}?e=1")
    assert found(viewer.get(answer["Location"])) == everything(ForgetPassword)


@pytest.mark.parametrize(("model", "path"), LISTS.items())
@pytest.mark.parametrize("name", OWN + KEYS)
def test_an_odd_parameter_of_a_list_is_no_failure_and_finds_nothing_else(
    viewer: Client, model: type[Model], path: str, name: str
) -> None:
    for value in ODD:
        answer = asked(viewer, path, **{name: value})
        assert answer.status_code in {200, 302, 400}, value
        if answer.status_code == 200 and name != "q" and "cl" in answer.context:
            assert found(answer) == everything(model), value


def test_several_odd_parameters_at_once_are_no_failure(viewer: Client) -> None:
    for path in LISTS.values():
        for value in ODD:
            everywhere = {name: [value, value] for name in OWN}
            assert asked(viewer, path, **everywhere).status_code in {200, 302, 400}
            assert asked(viewer, path, e="1", status=value).status_code in {200, 302, 400}


def test_a_search_of_very_many_words_is_not_made(viewer: Client) -> None:
    assert asked(viewer, LIST, q="a " * (MAX_TEXT // 2)).status_code == 200
    assert asked(viewer, LIST, q="a " * MAX_TEXT).status_code == 302


# --- Pages -----------------------------------------------------------------------------------------------------------

PAGES = ["{path}{odd}/change/", "{path}{odd}/history/", "{path}{odd}/delete/", "{path}{odd}/", "/admin/r/{odd}/{odd}/"]


@pytest.mark.parametrize("page", PAGES)
def test_an_odd_key_is_no_failure(viewer: Client, page: str) -> None:
    for path in LISTS.values():
        for odd in ODD:
            quoted = "".join(f"%{byte:02X}" for byte in odd.encode())
            assert viewer.get(page.format(path=path, odd=quoted)).status_code in {200, 301, 302, 400, 403, 404}, odd


@pytest.mark.parametrize("name", [*OWN, "state__exact"])
def test_an_odd_parameter_of_a_page_is_no_failure_and_changes_nothing(viewer: Client, user: Any, name: str) -> None:
    record = ForgetPassword.objects.earliest("created_at")
    for page in (f"{LIST}{record.pk}/change/", f"{LIST}{record.pk}/history/", f"/admin/auth/user/{user.pk}/change/"):
        for odd in ODD:
            assert asked(viewer, page, **{name: odd}).status_code in {200, 400}, odd


@pytest.mark.parametrize("field", ["id", "email", "email_digest", "forget_password_otp", "user", "user__password"])
def test_a_reset_is_named_by_its_key_alone(viewer: Client, field: str) -> None:
    record = ForgetPassword.objects.earliest("created_at")
    for page in (LIST, f"{LIST}{record.pk}/change/"):
        assert asked(viewer, page, _to_field=field).status_code == 400


@pytest.mark.parametrize("page", ["/admin/autocomplete/", "/admin/jsi18n/", "/admin/login/", "/admin/nix/"])
def test_odd_parameters_of_what_else_there_is_are_no_failure(viewer: Client, page: str) -> None:
    for odd in ODD:
        parameters = dict.fromkeys(["term", "app_label", "model_name", "field_name", "next", "page"], odd)
        assert asked(viewer, page, **parameters).status_code in {200, 302, 400, 403, 404}


# --- Actions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def chief(viewer: Client, make_user: Callable[..., Any]) -> Client:
    client = Client()
    client.force_login(make_user("chief@example.com", "chief", is_staff=True, is_superuser=True))
    return client


@pytest.mark.parametrize("path", LISTS.values())
def test_odd_keys_of_an_action_are_no_failure(chief: Client, path: str) -> None:
    before = [everything(model) for model in LISTS]
    for odd in ODD:
        for action in ("mail_again", "delete_selected", odd):
            sent = {"action": action, "_selected_action": [odd], "index": odd, "select_across": odd}
            assert chief.post(path, sent).status_code in {200, 302, 400}, odd
    assert [everything(model) for model in LISTS] == before


@pytest.mark.parametrize("allowed", [False, True])
def test_an_action_takes_a_permission_of_its_own(viewer: Client, post: PostOffice, allowed: bool) -> None:
    post.deliver()
    dead = ForgetPassword.objects.earliest("created_at")
    ForgetPassword.objects.filter(pk=dead.pk).update(mail_due="CODE", mail_next_at=None, mail_error="smtp_550")
    if allowed:
        clerk = get_user_model().objects.get(username="clerk")
        clerk.user_permissions.add(Permission.objects.get(codename="mail_again"))
    assert ("mail_again" in viewer.get(LIST).text) is allowed
    viewer.post(LIST, {"action": "mail_again", "_selected_action": [str(dead.pk)]})
    assert len(post.deliver()) == allowed


def test_the_permission_alone_opens_no_list(make_user: Callable[..., Any], rows: None) -> None:
    clerk = make_user("clerk@example.com", "clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename="mail_again"))
    client = Client()
    client.force_login(clerk)
    key = str(ForgetPassword.objects.earliest("created_at").pk)
    assert client.post(LIST, {"action": "mail_again", "_selected_action": [key]}).status_code == 403


def test_whoever_may_look_at_accounts_sees_no_password_hash(viewer: Client, user: Any) -> None:
    for page in ("/admin/auth/user/", f"/admin/auth/user/{user.pk}/change/", f"/admin/auth/user/{user.pk}/history/"):
        answer = viewer.get(page)
        assert answer.status_code == 200
        assert user.password not in answer.text
        assert user.password.rpartition("$")[2] not in answer.text
