"""``/v1/merchant/policies``: what a merchant has decided, as one document with versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.agents.model import Scope
from synchub.errors import InvalidRequest
from synchub.policies import operations as policies
from synchub.policies.document import DOCUMENT_MAX_BYTES, shown, shown_edit
from synchub.web.answers import answer_json
from synchub.web.auth import merchant_of
from synchub.web.bodies import read_bytes
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.policies.document import PoliciesForm

_VERSION_DIGITS_MAX: Final = 9


async def show_policies(request: web.Request) -> web.Response:
    """Answer with the present document, with an earlier one, or with who made which."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    redis = request.app[HUB].redis
    if request.query.get("history") == "1":
        edits = await policies.list_history(redis, merchant)
        return answer_json({"history": [shown_edit(edit) for edit in edits]})
    asked = request.query.get("version")
    version = None if asked is None else _version(asked, "version")
    document = shown(await policies.show(redis, merchant, version))
    return answer_json(document, headers={"ETag": f'"{document["version"]}"'})


async def replace_policies(request: web.Request) -> web.Response:
    """Make the body the merchant's policies, if nobody else has edited them since."""
    holder = merchant_of(request, Scope.MERCHANT_WRITE)
    hub = request.app[HUB]
    timeout_ms = hub.settings.server.body_timeout_ms
    form = policies.read_document(await read_bytes(request, DOCUMENT_MAX_BYTES, timeout_ms=timeout_ms))
    written = await policies.replace(
        hub.redis,
        holder.merchant,
        form,
        expected=_expected(request, form),
        author=holder.name,
        settings=hub.settings,
        operation=request.headers.get("Idempotency-Key"),
    )
    # Here at once; the other processes hear of it within milliseconds.
    await hub.policies.refresh(holder.merchant)
    body = {**shown_edit(written.edit), "current_version": written.current}
    return answer_json(body, headers={"ETag": f'"{written.edit.version}"'})


def _expected(request: web.Request, form: PoliciesForm) -> int:
    header = request.headers.get("If-Match")
    told = None if header is None else _version(header.strip().strip('"'), "If-Match")
    if told is not None and form.version is not None and told != form.version:
        msg = f"If-Match says version {told} and the document version {form.version}; send one of them."
        raise InvalidRequest(msg)
    expected = form.version if told is None else told
    if expected is None:
        msg = 'Say which version you have edited, as GET has told it: If-Match: "3", or "version": 3.'
        raise InvalidRequest(msg)
    return expected


def _version(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > _VERSION_DIGITS_MAX:
        msg = f"{what} is the number of a version."
        raise InvalidRequest(msg)
    return int(text)
