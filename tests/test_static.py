"""Files as production serves them: named by their content, kept for good, and compressed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client, RequestFactory
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]

from tests.test_environment import PRODUCTION, load

HASHED = re.compile(r"\.[0-9a-f]{12}\.")


@pytest.fixture(scope="module")
def production() -> dict[str, Any]:
    return load(**PRODUCTION)


@pytest.fixture
def collected(settings: Any, tmp_path: Path, production: dict[str, Any]) -> Path:
    """What `collectstatic` makes of the files of this project, as production keeps and serves them."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = production["STORAGES"]
    settings.WHITENOISE_IMMUTABLE_FILE_TEST = production["WHITENOISE_IMMUTABLE_FILE_TEST"]
    settings.WHITENOISE_AUTOREFRESH = settings.WHITENOISE_USE_FINDERS = False
    call_command("collectstatic", verbosity=0, interactive=False)
    return tmp_path


def page(path: str) -> str:
    return Client().get(path, headers={"accept": "text/html"}).content.decode()


def files_of(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="/static/([^"]+)"', html)


def test_the_page_and_its_modules_name_files_by_their_content(collected: Path, db: None) -> None:
    files = files_of(page("/reset/"))
    assert len(files) >= 6
    for name in files:
        assert HASHED.search(name), name
        text = (collected / name).read_text()
        for other in re.findall(r'from "\./([^"]+)"', text):
            assert HASHED.search(other), other
            assert f"account_recovery/{other}" in files, "a browser would ask for it late, and twice"


def test_every_import_of_the_page_is_asked_for_early(collected: Path, db: None) -> None:
    source = Path("accounts/static/account_recovery/reset.js").read_text()
    imported = set(re.findall(r'from "\./(\w+)\.js"', source))
    asked = {re.sub(HASHED, ".", name) for name in files_of(page("/reset/"))}
    assert {f"account_recovery/{name}.js" for name in imported} < asked


def test_a_bundlers_files_keep_their_names(collected: Path, db: None) -> None:
    assert "graphiql/graphiql.js" in files_of(page("/graphql/"))
    manifest = json.loads((collected / "staticfiles.json").read_text())["paths"]
    assert not [name for name in manifest if name.startswith("graphiql/")]


def test_what_is_named_by_its_content_is_kept_for_good_and_compressed(collected: Path, db: None) -> None:
    style = next(name for name in files_of(page("/reset/")) if name.endswith(".css"))
    entry, part = "graphiql/graphiql.js", f"graphiql/assets/{next((collected / 'graphiql' / 'assets').iterdir()).name}"
    served: Any = WhiteNoiseMiddleware(lambda request: pytest.fail(request.path))
    kept = {}
    for name in (style, entry, part.removesuffix(".gz")):
        answer = served(RequestFactory().get(f"/static/{name}", headers={"accept-encoding": "gzip"}))
        answer.close()
        assert answer.headers["Content-Encoding"] == "gzip"
        kept[name] = "immutable" in answer.headers["Cache-Control"]
    assert list(kept.values()) == [True, False, True]
