"""A delivery kept in files: the body as it was sent, and beside it its headers as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.delivery import Delivery
from synchub.errors import InvalidRequest
from synchub.kit.clock import now_us

if TYPE_CHECKING:
    from pathlib import Path

HEADERS_SUFFIX: Final = ".headers.json"


def read_recording(body_file: Path, account: str) -> Delivery:
    """Read ``NAME.json`` and ``NAME.headers.json``; header names starting with ``_`` are notes.

    Raises:
        InvalidRequest: a file that is missing, or headers that are not a JSON object of texts.
    """
    headers_file = body_file.with_name(body_file.name.removesuffix(".json") + HEADERS_SUFFIX)
    try:
        body = body_file.read_bytes()
        headers = json.loads(headers_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        msg = f"{body_file} needs a readable {headers_file.name} beside it: {problem}"
        raise InvalidRequest(msg) from problem
    if not isinstance(headers, dict):
        msg = f"{headers_file} must hold a JSON object of header names and values."
        raise InvalidRequest(msg)
    named = {name.lower(): str(value) for name, value in headers.items() if not name.startswith("_")}
    return Delivery(account=account, headers=named, body=body, arrived_at_us=now_us())
