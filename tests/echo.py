"""What a WSGI application is told of a request, as JSON: by granian itself, and by the front."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from backend.front import Front


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    told = {key: value for key, value in environ.items() if key.isupper() and isinstance(value, str)}
    told["body"] = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode("latin-1")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


application = Front(wsgi, 2)
