"""Who may import whom. A module imports only what stands below it in its own column, or in the ground."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each column from top to bottom; modules of one row do not import each other.
COLUMNS = {
    "the start": (
        "backend",
        "backend.settings",
        "backend.environment  backend.celery",
    ),
    "the way in": (
        "backend.urls  backend.middleware",
        "backend.graphql  accounts.urls",
        "backend.schema  accounts.views",
        "accounts.schema  backend.documents",
        "accounts.types  accounts.journal",
        "accounts.recovery",
    ),
    "the way out": (
        "backend.asgi",
        "accounts.management  accounts.apps  backend.wsgi  backend.front  backend.admin",
        "accounts.receivers  backend.handlers",
        "accounts.dispatch",
        "accounts.tasks",
        "accounts.workers",
        "accounts.mailer",
        "accounts.batches",
        "accounts.mails  accounts.smtp",
        "accounts.letters  accounts.smtp_backend",
    ),
    "the ground": (
        "accounts  accounts.admin  accounts.checks  accounts.migrations",
        "accounts.models",
        "accounts.querysets  accounts.headers  accounts.limits  accounts.lookup  accounts.pace  accounts.passwords",
        "accounts.addresses  accounts.codes  accounts.filters  accounts.hashing  accounts.pwned  accounts.windows",
        "accounts.slots",
        "accounts.choices  accounts.client  accounts.conf  accounts.exceptions  accounts.words",
        "accounts.signals  accounts.failover  accounts.logins",
        "backend.apps  backend.bounds  backend.logs  backend.sessions",
    ),
}
GROUND = "the ground"

PLACES = {
    module: (column, depth)
    for column, rows in COLUMNS.items()
    for depth, row in enumerate(rows)
    for module in row.split()
}


def place(module: str) -> tuple[str, int] | None:
    """Where a module stands; what lies in a package that has a place of its own stands there, too."""
    known = PLACES.get(module)
    if known is None and module.count(".") > 1:
        return place(module.rpartition(".")[0])
    return known


def may_import(importer: str, imported: str) -> bool:
    high, low = place(importer), place(imported)
    if high is None or low is None:
        return False
    if high[0] == low[0]:
        return high[1] < low[1]
    return low[0] == GROUND


def modules() -> dict[str, str]:
    """The source of every module of ours, by its dotted name."""
    found = {}
    for package in ("accounts", "backend"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(source: str, module: str, ours: set[str]) -> set[str]:
    """Which of our modules a source imports, wherever it does so, but for the eyes of a type checker."""
    found = {name for name in _imported(ast.parse(source), module) for name in [_longest_known(name, ours)] if name}
    return found - {module}


def _imported(tree: ast.AST, module: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.rsplit(".", node.level)[0] if node.level else ""
            start = ".".join(part for part in (base, node.module) if part)
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from _imported(other, module)
        else:
            yield from _imported(node, module)


def _longest_known(name: str, ours: set[str]) -> str:
    while name and name not in ours:
        name = name.rpartition(".")[0]
    return name


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    return {module: imports(source, module, set(sources)) for module, source in sources.items()}


def violations(sources: dict[str, str]) -> list[str]:
    return [
        f"{importer} imports {imported}"
        for importer, found in sorted(graph(sources).items())
        for imported in sorted(found)
        if not may_import(importer, imported)
    ]


def reach(start: str, edges: dict[str, set[str]]) -> set[str]:
    """All that a module imports, at once or through others."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        new = edges[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def test_every_module_has_a_place_in_the_table() -> None:
    homeless = [module for module in modules() if place(module) is None]
    assert homeless == [], "Give each of these a row in COLUMNS, as low as it can stand."


def test_every_module_imports_only_what_stands_below_it() -> None:
    assert violations(modules()) == []


def test_recovery_and_the_mailer_meet_in_the_row_and_its_signals_alone() -> None:
    edges = graph(modules())
    way_out = {module for module in edges if (place(module) or ("", 0))[0] == "the way out"}
    assert {"accounts.mailer", "accounts.workers", "accounts.dispatch", "accounts.receivers"} <= way_out
    assert reach("accounts.recovery", edges) & way_out == set()
    assert all("accounts.recovery" not in reach(module, edges) for module in way_out)
    shared = reach("accounts.recovery", edges) & reach("accounts.mailer", edges)
    assert {"accounts.models", "accounts.signals"} <= shared


def test_models_know_neither_recovery_nor_the_mailer() -> None:
    assert reach("accounts.models", graph(modules())).isdisjoint({"accounts.recovery", "accounts.mailer"})


def test_signals_import_nothing_of_ours() -> None:
    assert graph(modules())["accounts.signals"] == set()


@pytest.mark.parametrize(
    ("imported", "importers"),
    [
        ("accounts.schema", {"backend.schema"}),
        ("accounts.types", {"accounts.schema", "backend.schema"}),
        ("accounts.receivers", {"accounts.apps"}),
        ("accounts.dispatch", {"accounts.receivers", "backend.wsgi"}),
    ],
)
def test_what_stands_high_is_imported_from_above_alone(imported: str, importers: set[str]) -> None:
    assert {module for module, found in graph(modules()).items() if imported in found} == importers


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("accounts.recovery", "from accounts import codes, mailer"),
        ("accounts.recovery", "from accounts.dispatch import hurry"),
        ("accounts.recovery", "def later():\n    import accounts.workers as crew"),
        ("accounts.recovery", "from . import receivers"),
        ("accounts.mailer", "from accounts.recovery import request"),
        ("accounts.mailer", "try:\n    from .recovery import request\nexcept ImportError:\n    pass"),
        ("accounts.models", "from accounts.recovery import request"),
        ("accounts.models", "from accounts import mailer"),
        ("accounts.signals", "from accounts.conf import conf"),
        ("accounts.recovery", "from accounts.types import PasswordReset"),
        ("accounts.limits", "import accounts.schema"),
        ("accounts.conf", "from backend import settings"),
        ("accounts.codes", "from accounts.limits import check_client_may_verify"),
        ("accounts.schema", "from backend.schema import schema"),
        ("accounts.smtp", "from accounts.mails import reset_mail"),
        ("accounts.nowhere", "from accounts import codes"),
        ("accounts.management.commands.demo", "from accounts import recovery"),
    ],
)
def test_an_import_that_goes_up_or_across_is_found(module: str, line: str) -> None:
    sources = {**modules(), module: f"{modules().get(module, '')}\n{line}\n"}
    (found,) = violations(sources)
    assert found.startswith(f"{module} imports ")


def test_an_import_for_a_type_checker_alone_does_not_count() -> None:
    line = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from accounts.recovery import request\n"
    assert violations({**modules(), "accounts.models": modules()["accounts.models"] + line}) == []
