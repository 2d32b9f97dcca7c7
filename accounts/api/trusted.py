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
    if documents and query not in (None, *documents.values(), *_own().values()):
        raise NotTrusted("Only trusted documents are run here: send the documentId of one.")
    return query


@cache
def _own() -> dict[str, str]:
    found: dict[str, str] = json.loads(OWN.read_text(encoding="utf-8"))
    return found
