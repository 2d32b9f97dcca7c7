"""The GraphQL endpoint, to the letter of the GraphQL over HTTP specification.

What never ran has no `data` and is a 4xx; what ran is a 200. (Who wants plain `application/json` is told by a 200 what
GraphQL itself refuses, as the specification asks; docs/decisions/ says why.) Only JSON is taken, so that no form of
another site can post here without a preflight; only POST changes anything; and nothing that a client can send is
answered with a 500.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.request import RawPostDataException
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import method_decorator
from django.utils.log import log_response
from django.views.decorators.csrf import csrf_exempt
from graphql import GraphQLError, OperationDefinitionNode, OperationType
from strawberry.django.context import StrawberryDjangoContext
from strawberry.django.views import GraphQLView as StrawberryView
from strawberry.schema.base import BaseSchema
from strawberry.types import ExecutionResult

from ..conf import AWAY_SECONDS, MAX_BODY
from ..recovery import live
from . import streams, trusted
from .documents import PreparedDocument, prepare
from .failures import RATE_LIMITED, UNAVAILABLE
from .fields import handle_taking_fields
from .streams import EVENT_STREAM, EventStream

logger = logging.getLogger(__name__)

GRAPHQL_JSON = "application/graphql-response+json"
JSON = "application/json"
SERVED = (
    *(f"{kind}{charset}" for kind in (JSON, GRAPHQL_JSON) for charset in ("", "; charset=utf-8", "; charset=UTF-8")),
    EVENT_STREAM,
)
MAX_ACCEPT = 1000
"""Characters of an Accept header; browsers send 150. To read 60 kB took 100 ms of CPU, and servers let in more."""
MAX_JSON_DEPTH = 64
"""Levels. Pythons differ in what their JSON reader can bear; no honest variables have more than three."""
STATUSES = {RATE_LIMITED: 429, UNAVAILABLE: 503}
"""Of errors that are answered without `data`, by their `code`: whoever overlooked one would take its null for a handle
that was never issued."""
PARAMETERS = ("query", "documentId", "operationName", "variables", "extensions")
ONLY_POST = {"Allow": "POST"}
_STRICT_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class RequestRefused(Exception):
    """A request that is not answered with data; the status says why to machines, the message to people."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.error = {"message": message, **({"extensions": extensions} if extensions else {})}


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a request, each of the type that the specification gives it."""

    query: str
    operation_name: str | None
    variables: dict[str, Any] | None


@method_decorator(transaction.non_atomic_requests, name="dispatch")
@method_decorator(csrf_exempt, name="dispatch")
class GraphQLView(StrawberryView[StrawberryDjangoContext, None]):
    """Strawberry's sync view, with the HTTP side done by the book.

    It takes no cookies and so needs no CSRF token. It stands outside of ATOMIC_REQUESTS: hashing a password takes time,
    in which a transaction would stay open.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        media_type = _acceptable(request)
        reason = ""
        response: HttpResponseBase
        try:
            if request.method not in {"GET", "POST"}:
                raise RequestRefused(405, "GraphQL is served by GET and POST.", headers={"Allow": "GET, POST"})
            if media_type is None:
                raise RequestRefused(406, f"The answer can be {GRAPHQL_JSON}, {JSON} or {EVENT_STREAM}.")
            response = self._respond(request, media_type)
        except RequestRefused as refused:
            reason = str(refused)
            response = _answer({"errors": [refused.error]}, refused.status, _for_errors(media_type))
            for name, value in refused.headers.items():
                response[name] = value
        except NotExecuted as failed:
            # In plain JSON a 4xx may come from anybody on the way; only a 200 says that GraphQL has spoken.
            status = 200 if media_type == JSON else 400
            reason = f"{failed.what} not valid"
            errors = [error.formatted for error in failed.errors]
            response = _answer({"errors": errors}, status, _for_errors(media_type))
        if reason:
            refusal = cast(HttpResponse, response)
            log_response("graphql refused: %s", reason, response=refusal, request=request, logger=logger)
        return response

    def _respond(self, request: HttpRequest, media_type: str) -> HttpResponseBase:
        parameters = _from_url(request.GET) if request.method == "GET" else _from_body(request)
        prepared = prepare(self.schema, parameters.query)
        if prepared.errors:
            raise NotExecuted("document", prepared.errors)
        operation = self._check_operation(request, prepared, parameters.operation_name)
        if operation.operation is OperationType.SUBSCRIPTION:
            if media_type != EVENT_STREAM:
                raise RequestRefused(406, f"A subscription is answered as {EVENT_STREAM} (GraphQL over SSE).")
            return self._stream(request, parameters)
        result = self.schema.execute_sync(
            parameters.query,
            variable_values=parameters.variables,
            operation_name=parameters.operation_name,
            context_value=StrawberryDjangoContext(request=request, response=HttpResponse()),
        )
        # Errors of a field say where it stands; one without a path means that the variables never fitted.
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            raise NotExecuted("variables", tuple(result.errors))
        _refuse_what_has_a_status(result)
        return _answer(_body_of(result), 200, media_type)

    def _stream(self, request: HttpRequest, parameters: Parameters) -> EventStream:
        """Let a subscription begin once its answer is sent: by then this thread is somebody else's."""
        if not live.is_served(request):
            raise RequestRefused(406, "This server sends no events: ask for passwordResetStatus now and then.")
        context = StrawberryDjangoContext(request=request, response=HttpResponse())
        response = EventStream(_results(self.schema, parameters, context), request)
        patch_vary_headers(response, ["Accept"])
        return response

    def _check_operation(
        self, request: HttpRequest, prepared: PreparedDocument, name: str | None
    ) -> OperationDefinitionNode:
        operation = prepared.operation(name)
        if operation is None:
            unclear = GraphQLError("Say by operationName which of the document's operations to run.")
            raise NotExecuted("operation name", (unclear,))
        if request.method == "GET" and operation.operation is not OperationType.QUERY:
            raise RequestRefused(405, f"A {operation.operation.value} must be sent by POST.", headers=ONLY_POST)
        if request.method == "GET" and prepared.count(handle_taking_fields(self.schema)):
            raise RequestRefused(
                405, "A query with a requestId must be sent by POST: URLs are logged.", headers=ONLY_POST
            )
        if reason := prepared.asks_too_much(self.schema):
            raise RequestRefused(400, reason)
        return operation


class NotExecuted(Exception):
    """A document or variables that GraphQL itself refuses; what it says of them repeats them, and is for no log."""

    def __init__(self, what: str, errors: tuple[GraphQLError, ...]) -> None:
        super().__init__(what)
        self.what = what
        self.errors = errors


def _refuse_what_has_a_status(result: ExecutionResult) -> None:
    """Raise the refusal of a field whose type has no member for it, or the outage, if there is one."""
    for error in result.errors or ():
        extensions = error.extensions or {}
        if status := STATUSES.get(str(extensions.get("code"))):
            wait = {"Retry-After": str(extensions.get("retryAfter", AWAY_SECONDS))}
            raise RequestRefused(status, error.message, headers=wait, extensions=extensions)


def _from_body(request: HttpRequest) -> Parameters:
    if request.content_type != JSON:
        raise RequestRefused(415, f"Send the request as {JSON}.")
    if (request.content_params or {}).get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        raise RequestRefused(415, "Send the request in UTF-8.")
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise RequestRefused(415, "Send the request uncompressed.")
    data = _load(_read(request))
    if isinstance(data, list):
        raise RequestRefused(400, "Batches are not served: send one operation at a time.")
    if not isinstance(data, dict):
        raise RequestRefused(400, "The body must be a JSON object.")
    return _parameters(data)


def _from_url(query_string: QueryDict) -> Parameters:
    if any(len(query_string.getlist(name)) > 1 for name in PARAMETERS):
        raise RequestRefused(400, "Each parameter may be given once.")
    texts = ("query", "documentId", "operationName")
    data: dict[str, Any] = {name: query_string[name] for name in texts if name in query_string}
    for name in ("variables", "extensions"):
        if query_string.get(name):
            data[name] = _load(str(query_string[name]).encode())
    return _parameters(data)


def _parameters(data: dict[str, Any]) -> Parameters:
    query, name, variables = data.get("query"), data.get("operationName"), data.get("variables")
    extensions = data.get("extensions")
    document_id = data.get("documentId")
    if not isinstance(document_id, str | None):
        raise RequestRefused(400, "The parameter documentId must be a string.")
    if query is None and document_id is None:
        document_id = trusted.id_of(extensions)
    if query is None and document_id is None and isinstance(extensions, dict) and "persistedQuery" in extensions:
        # Whoever sends a hash alone sends the text as well, once it is told so in these words.
        raise NotExecuted("persisted query", (_no_persisted_queries(),))
    if isinstance(query, str | None):
        try:
            query = trusted.text_of(query, document_id)
        except trusted.NotTrusted as refused:
            raise RequestRefused(400, str(refused)) from None
    if not isinstance(query, str) or not query.strip():
        raise RequestRefused(400, "The parameter query must be a string that holds a GraphQL document.")
    if not isinstance(name, str | None):
        raise RequestRefused(400, "The parameter operationName must be a string.")
    if not isinstance(variables, dict | None):
        raise RequestRefused(400, "The parameter variables must be an object.")
    if not isinstance(extensions, dict | None):
        raise RequestRefused(400, "The parameter extensions must be an object.")
    return Parameters(query, name or None, variables)


def _no_persisted_queries() -> GraphQLError:
    return GraphQLError("PersistedQueryNotSupported", extensions={"code": "PERSISTED_QUERY_NOT_SUPPORTED"})


def _read(request: HttpRequest) -> bytes:
    too_long = RequestRefused(413, f"The body may have {MAX_BODY} bytes at most.")
    announced = request.META.get("CONTENT_LENGTH") or ""
    # Python reads no number of more than 4300 digits, and raises instead.
    if announced.isdecimal() and (len(announced) > len(str(10**18)) or int(announced) > MAX_BODY):
        raise too_long
    try:
        body = request.read(MAX_BODY + 1)
    except (RequestDataTooBig, RawPostDataException, OSError) as error:
        raise RequestRefused(400, "The body could not be read.") from error
    if len(body) > MAX_BODY:
        raise too_long
    return body


def _load(raw: bytes) -> Any:
    """Decode strict JSON that means one thing only and can be written again, in UTF-8."""
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_once_each)
        # A lone surrogate is legal JSON and no text, and 1e999 is read as infinity: they would fail at their first use.
        _STRICT_JSON.encode(data).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "This is not JSON in UTF-8.") from error
    if _is_deeper(data, MAX_JSON_DEPTH):
        raise RequestRefused(400, f"JSON nested more than {MAX_JSON_DEPTH} levels deep is not read.")
    return data


def _is_deeper(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(children) and (levels == 0 or any(_is_deeper(child, levels - 1) for child in children))


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that comes twice: a filter on the way may have read the other one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


async def _results(
    schema: BaseSchema, parameters: Parameters, context: StrawberryDjangoContext
) -> AsyncGenerator[dict[str, Any]]:
    """What a subscription tells of. It holds no request: a stream lives for long."""
    results: Any = await schema.subscribe(
        parameters.query,
        variable_values=parameters.variables,
        operation_name=parameters.operation_name,
        context_value=context,
    )
    try:
        async for result in results:
            yield _body_of(result)
    finally:
        await results.aclose()


def _body_of(result: ExecutionResult) -> dict[str, Any]:
    body: dict[str, Any] = {"data": result.data}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
    return body


def _answer(body: dict[str, Any], status: int, media_type: str) -> HttpResponse:
    content = streams.once(body) if media_type == EVENT_STREAM else json.dumps(body)
    response = HttpResponse(content, status=status, content_type=f"{media_type}; charset=utf-8")
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, ["Accept"])
    return response


def _for_errors(media_type: str | None) -> str:
    """What did not run is told in JSON, also to who would have taken events."""
    return GRAPHQL_JSON if media_type == EVENT_STREAM else media_type or JSON


def _acceptable(request: HttpRequest) -> str | None:
    """The media type to answer with, by the Accept header; None where the client takes none of ours.

    All of them are UTF-8, so a client that asks for UTF-8 by name, in any case, asks for nothing special.
    """
    preferred = preferred_type(request, SERVED)
    if preferred == EVENT_STREAM and EVENT_STREAM not in request.headers["Accept"].lower():
        return None  # `text/*`, which a browser may send for a page
    return preferred and preferred.partition(";")[0]


def preferred_type(request: HttpRequest, media_types: tuple[str, ...]) -> str | None:
    """Which of these types the client likes best; None where it takes none of them."""
    accepted = request.headers.get("Accept", "*/*")
    return _preferred_type(accepted, media_types) if len(accepted) <= MAX_ACCEPT else None


@lru_cache(256)
def _preferred_type(accepted: str, media_types: tuple[str, ...]) -> str | None:
    request = HttpRequest()
    request.META["HTTP_ACCEPT"] = accepted
    try:
        return request.get_preferred_type(media_types)
    except ValueError:
        return None  # Django chokes on a parameter in a charset that is none; such a header accepts nothing
