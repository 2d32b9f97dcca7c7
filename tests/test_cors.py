"""Frontends of other origins: those named in CORS_ALLOWED_ORIGINS are let in, without cookies; nobody else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import API

ALLOWED = "https://app.example.com"
OTHERS = [
    "https://evil.example.org",
    "https://app.example.com.evil.example.org",
    "https://evilapp.example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "null",
]


def preflight(api: API, origin: str, method: str = "POST") -> Any:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "content-type",
    }
    return api.http.options(api.path, headers=headers)


def cors_headers(response: Any) -> set[str]:
    return {name.lower() for name in response.headers if name.lower().startswith("access-control-")}


def test_an_allowed_frontend_may_read_the_answer(api: API) -> None:
    response = api.post({"query": "{ __typename }"}, origin=ALLOWED)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == ALLOWED
    assert response["Access-Control-Expose-Headers"] == "X-Request-ID, Retry-After"


def test_an_allowed_frontend_may_read_a_refusal_too(api: API) -> None:
    response = api.post({"query": "{"}, origin=ALLOWED)
    assert response.status_code == 400
    assert response["Access-Control-Allow-Origin"] == ALLOWED


def test_the_preflight_of_an_allowed_frontend_is_answered(api: API) -> None:
    response = preflight(api, ALLOWED)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == ALLOWED
    assert "POST" in response["Access-Control-Allow-Methods"]
    assert "content-type" in response["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize(
    "header",
    [
        *("apollographql-client-name", "apollographql-client-version", "apollo-require-preflight"),
        *("traceparent", "tracestate", "baggage", "sentry-trace", "accept", "content-type"),
    ],
)
def test_an_allowed_frontend_may_send_what_clients_and_tracers_add(api: API, header: str) -> None:
    allowed = preflight(api, ALLOWED)["Access-Control-Allow-Headers"].lower().split(", ")
    assert header in allowed


@pytest.mark.parametrize("origin", OTHERS)
def test_another_origin_is_told_nothing(api: API, origin: str) -> None:
    assert cors_headers(api.post({"query": "{ __typename }"}, origin=origin)) == set()


@pytest.mark.parametrize("origin", OTHERS)
def test_the_preflight_of_another_origin_allows_nothing(api: API, origin: str) -> None:
    assert cors_headers(preflight(api, origin)) == set()


def test_not_even_an_allowed_frontend_may_send_cookies(api: API) -> None:
    answers = [preflight(api, ALLOWED), api.post({"query": "{ __typename }"}, origin=ALLOWED)]
    assert all("access-control-allow-credentials" not in cors_headers(answer) for answer in answers)


def test_an_answer_for_one_origin_is_not_cached_for_another(api: API) -> None:
    vary = api.post({"query": "{ __typename }"}, origin=ALLOWED)["Vary"]
    assert "origin" in vary.lower().split(", ")


def test_an_answer_sets_no_cookie_at_all(api: API) -> None:
    api.request()
    assert not api.http.cookies
