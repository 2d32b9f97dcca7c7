"""GraphiQL in a real browser: it works offline and under its policy, and its tabs are one whole reset."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core import mail

from accounts.recovery import live
from backend import graphiql as graphql_graphiql
from backend.graphiql import GRAPHIQL_CSP
from tests import browser
from tests.browser import Visit
from tests.conftest import API, Letter
from tests.test_examples import EXAMPLES, name_of
from tests.test_reset_page import faults

pytestmark = pytest.mark.browser
chromium, visit = browser.chromium, browser.visit

TABS = [name_of(query) for query in EXAMPLES]
# What stands in each of the editors, by the name that GraphiQL gives it; none at all until the editors have loaded.
EDITORS = """Object.fromEntries((globalThis.__MONACO?.editor.getModels() ?? []).map(
    (model) => [model.uri.path.split("-").pop(), model.getValue()]))"""


# Presses the button as soon as the query of a tab is there, which no hand can do as fast.
RUN_AT_ONCE = """(name) => {
    const models = globalThis.__MONACO.editor.getModels();
    const query = models.find((model) => model.uri.path.endsWith("operation.graphql"));
    const watch = query.onDidChangeContent(() => {
        if (!query.getValue().includes(name)) return;
        watch.dispose();
        setTimeout(() => document.querySelector("button[aria-label^='Execute query']").click(), 20);
    });
}"""


class GraphiQL:
    """The page as somebody uses it: a tab is opened, its variables are typed, the pink button is pressed."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.page = visit, visit.open("/graphql/")
        self.page.get_by_role("tab").nth(len(TABS) - 1).wait_for()
        self._wait("operation.graphql", TABS[0])

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()
        self._wait("operation.graphql", name)
        # GraphiQL takes the operation's name over by a timer of 100 ms, started before this longer one.
        self.page.evaluate("new Promise((done) => setTimeout(done, 150))")

    def type_variables(self, values: dict[str, Any]) -> None:
        text = json.dumps(values)
        editor = self.page.get_by_label("Variables").locator(".view-lines").first
        editor.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(text)
        # The editor has closed the brackets once more on its own.
        self.page.keyboard.press("ControlOrMeta+Shift+End")
        self.page.keyboard.press("Delete")
        self.visit.wait_until(lambda: self._editor("variables.json") == text)

    def variables(self, without: str = "run ") -> dict[str, Any]:
        """The variables of the open tab, once no placeholder is left in them."""
        self.visit.wait_until(lambda: without not in self._editor("variables.json"))
        return dict(json.loads(self._editor("variables.json")))

    def run(self, until: str = '"data"') -> dict[str, Any]:
        self.page.get_by_role("button", name="Execute query").click()
        self._wait("response.json", until)
        answer: dict[str, Any] = json.loads(self._editor("response.json"))
        assert "errors" not in answer, answer
        (payload,) = answer["data"].values()
        return dict(payload)

    def _wait(self, editor: str, text: str) -> None:
        self.visit.wait_until(lambda: text in self._editor(editor))

    def _editor(self, name: str) -> str:
        return str(self.page.evaluate(EDITORS).get(name, ""))


@pytest.fixture
def graphiql(visit: Visit) -> GraphiQL:
    return GraphiQL(visit)


@pytest.fixture
def mail_at_once(settings: Any) -> None:
    settings.MAIL_DISPATCH = "inline"


def play(graphiql: GraphiQL) -> list[str]:
    """Run the tabs in their order, as the comments in them say; returns the secrets that passed."""
    graphiql.tab("RequestReset")
    handle = graphiql.run()["reset"]["requestId"]
    graphiql.tab("ResetStatus")
    assert graphiql.variables() == {"requestId": handle}
    assert graphiql.run()["status"] == "SENT"

    graphiql.tab("VerifyCode")
    (letter,) = map(Letter, mail.outbox)
    graphiql.type_variables({"input": {**graphiql.variables()["input"], "code": letter.code}})
    token = graphiql.run()["resetToken"]

    graphiql.tab("CheckPassword")
    assert graphiql.variables()["input"]["resetToken"] == token
    assert graphiql.run()["__typename"] == "CheckPasswordSuccess"
    graphiql.tab("SetPassword")
    assert graphiql.variables()["input"]["resetToken"] == token
    assert graphiql.run()["__typename"] == "ResetPasswordSuccess"
    graphiql.tab("ResetStatus")
    assert graphiql.run(until="COMPLETED")["isUserPasswordUpdated"] is True
    return [handle, token, letter.code]


@pytest.mark.usefixtures("mail_at_once")
def test_the_tabs_are_one_whole_reset(graphiql: GraphiQL, make_user: Any) -> None:
    user = make_user("demo@example.com")
    play(graphiql)
    user.refresh_from_db()
    assert user.check_password("umbrella-cactus-violin-91")


def test_a_subscription_is_told_until_it_is_over(
    graphiql: GraphiQL, api: API, settings: Any, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    settings.DEBUG = True
    monkeypatch.setattr(live, "TICK", 0.05)
    graphiql.tab("RequestReset")
    handle = graphiql.run()["reset"]["requestId"]
    graphiql.tab("WatchReset")
    assert graphiql.variables() == {"requestId": handle}
    assert graphiql.run()["status"] == "QUEUED"
    api.mutate("cancelPasswordReset", requestId=handle)
    graphiql._wait("response.json", "CANCELLED")


def test_where_no_stream_can_be_had_the_tab_says_what_to_do(graphiql: GraphiQL, visit: Visit, db: None) -> None:
    graphiql.tab("WatchReset")
    graphiql.page.get_by_role("button", name="Execute query").click()
    graphiql._wait("response.json", "ask for passwordResetStatus")
    visit.complaints.clear()  # the browser's own line about the 406


def test_there_are_links_to_what_else_there_is(graphiql: GraphiQL) -> None:
    links = graphiql.page.get_by_role("navigation", name="Elsewhere").get_by_role("link")
    assert [link.get_attribute("href") for link in links.all()] == ["/reset/", "/admin/"]
    for colours in ("light", "dark"):
        graphiql.page.emulate_media(color_scheme=colours)
        assert faults(graphiql.page, ".elsewhere") == []


def test_a_tab_that_is_run_at_once_runs_its_own_operation(graphiql: GraphiQL, visit: Visit) -> None:
    for name in ("RequestReset", "PasswordPolicy", "ResetStatus"):
        visit.requests.clear()
        graphiql.page.evaluate(RUN_AT_ONCE, f" {name}")
        graphiql.page.get_by_role("tab", name=name).click()
        visit.wait_until(lambda: bool(visit.posted))
        assert f" {name}" in visit.posted[-1]["query"]
        assert visit.posted[-1].get("operationName") in {None, name}
    assert visit.complaints == []


def test_the_tabs_are_the_examples(graphiql: GraphiQL) -> None:
    assert graphiql.page.get_by_role("tab").all_inner_texts() == TABS


@pytest.mark.usefixtures("mail_at_once")
def test_nothing_is_kept_in_the_browser(graphiql: GraphiQL, make_user: Any) -> None:
    make_user("demo@example.com")
    play(graphiql)
    kept = graphiql.page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]")
    assert kept == [{}, {}, ""]


def test_a_second_visit_starts_with_the_examples(graphiql: GraphiQL, visit: Visit, db: None) -> None:
    graphiql.tab("ResendCode")
    graphiql.type_variables({"input": {"requestId": "a handle of mine"}})
    again = GraphiQL(visit)
    again.tab("ResendCode")
    assert "RequestReset" in again.variables(without="mine")["input"]["requestId"]


def test_no_address_but_this_server_is_asked(graphiql: GraphiQL, visit: Visit) -> None:
    graphiql.run()
    assert visit.outside == []
    assert any(request.url.endswith("graphiql.js") for request in visit.requests)


def test_the_page_runs_under_its_policy(graphiql: GraphiQL, visit: Visit) -> None:
    response = visit.requests[0].response()
    assert response is not None
    assert response.headers["content-security-policy"] == GRAPHIQL_CSP
    graphiql.run()
    assert visit.complaints == []


@pytest.mark.parametrize(
    ("directive", "source"),
    [
        ("script-src", "'self'"),
        ("style-src", "'self'"),
        ("style-src", "'unsafe-inline'"),
        ("connect-src", "'self'"),
        ("font-src", "'self'"),
        ("font-src", "data:"),
        ("img-src", "data:"),
    ],
)
def test_the_policy_allows_nothing_that_the_page_does_not_need(
    visit: Visit, db: None, monkeypatch: pytest.MonkeyPatch, directive: str, source: str
) -> None:
    allowed = {name: sources for name, *sources in map(str.split, GRAPHIQL_CSP.split("; "))}
    assert sum(sources != ["'none'"] for sources in allowed.values()) == 5
    allowed[directive].remove(source)
    policy = "; ".join(" ".join([name, *(sources or ["'none'"])]) for name, sources in allowed.items())
    monkeypatch.setattr(graphql_graphiql, "GRAPHIQL_CSP", policy)
    visit.open("/graphql/")
    visit.wait_until(lambda: any(f"CSP {directive}" in complaint for complaint in visit.complaints))
    visit.page.goto("about:blank")
    visit.complaints.clear()


def test_an_injected_script_does_not_run(graphiql: GraphiQL, visit: Visit) -> None:
    graphiql.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = true' }))"
    )
    assert graphiql.page.evaluate("window.ran") is None
    assert any("CSP script-src" in complaint for complaint in visit.complaints)
    visit.complaints.clear()


def test_the_docs_explain_the_schema(graphiql: GraphiQL) -> None:
    graphiql.page.get_by_role("button", name="Show Documentation Explorer").click()
    docs = graphiql.page.locator(".graphiql-plugin")
    docs.get_by_role("link", name="Mutation").click()
    docs.get_by_role("link", name="requestPasswordReset", exact=True).click()
    docs.get_by_text("Never says whether the account exists.").wait_for()


def test_the_editor_completes_what_is_typed(graphiql: GraphiQL) -> None:
    graphiql.page.locator(".graphiql-query-editor .view-lines").first.click()
    graphiql.page.keyboard.press("ControlOrMeta+A")
    graphiql.page.keyboard.type("{ passwordPol")
    graphiql.page.keyboard.press("Control+Space")
    graphiql.page.locator(".suggest-widget").get_by_text("passwordPolicy").first.wait_for()
