"""The page's operations as a manifest of trusted documents: `make schema` runs `python -m harness.documents`."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "accounts" / "static" / "account_recovery" / "operations.js"
MANIFEST = ROOT / "accounts" / "documents.json"


def manifest() -> str:
    """Every operation of the page by the SHA-256 of its text, as generators of persisted documents write them."""
    texts = re.findall(r"^export const \w+ = `([^`]+)`;", SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
    return json.dumps({sha256(text.encode()).hexdigest(): text for text in texts}, indent=2) + "\n"


if __name__ == "__main__":
    MANIFEST.write_text(manifest(), encoding="utf-8")
