"""Trusted documents: where TRUSTED_DOCUMENTS says so, nobody has this server run a text of their own.

A client sends the `documentId` of an operation that its build has put into a manifest, or the text of one that is in
there. https://github.com/graphql/graphql-over-http/blob/main/spec/Appendix%20A%20--%20Persisted%20Documents.md
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from ..conf import conf

OWN = Path(__file__).resolve().parent.parent / "documents.json"
"""The operations of this app's own page; `make schema` writes it."""


REFUSAL = "Only trusted documents are run here: send the documentId of one."


class NotTrusted(Exception):
    """A document that is not run. The message is for whoever writes the client."""


def text_of(query: str | None, document_id: str | None) -> str | None:
    """The text to run, of a client that has sent one or an id. Raises NotTrusted."""
    documents = conf.TRUSTED_DOCUMENTS
    if document_id is not None:
        if query is not None:
            raise NotTrusted("Send a query or a documentId, not both.")
        text = documents.get(document_id) or (_own().get(document_id) if documents else None)
        if text is None:
            raise NotTrusted("There is no document of this documentId here.")
        return text
    if query is not None and not is_trusted(query):
        raise NotTrusted(REFUSAL)
    return query


def is_trusted(query: str) -> bool:
    """Whether this text may be run: any, where there is no manifest."""
    documents = conf.TRUSTED_DOCUMENTS
    return not documents or query in documents.values() or query in _own().values()


def id_of(extensions: object) -> str | None:
    """The id in a client's `persistedQuery`, where the manifest has it: Apollo's and urql's links send it there.

    Of the two ways in which generators write a hash, with `sha256:` before it or without, either will do.
    """
    asked = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
    found = asked.get("sha256Hash") if isinstance(asked, dict) else None
    if not isinstance(found, str) or not conf.TRUSTED_DOCUMENTS:
        return None
    known = {**_own(), **conf.TRUSTED_DOCUMENTS}
    return next((each for each in (found, f"sha256:{found}") if each in known), None)


@cache
def _own() -> dict[str, str]:
    found: dict[str, str] = json.loads(OWN.read_text(encoding="utf-8"))
    return found
