"""``/v1/subscriptions``: agents have changes pushed to an address of theirs."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from pydantic import Field

from synchub.agents.model import Scope
from synchub.availability.bodies import rfc3339
from synchub.errors import InvalidRequest
from synchub.subscriptions import operations as subscriptions
from synchub.subscriptions.model import Filter
from synchub.subscriptions.operations import Desk, Wanted
from synchub.subscriptions.rules import cursor_text
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of, check_channel
from synchub.web.bodies import Body, Rows, read_body, sku_of
from synchub.web.deadline import Effect, in_time
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS
from synchub.web.terms import channel_of

if TYPE_CHECKING:
    from synchub.agents.model import Agent
    from synchub.hub import Hub
    from synchub.subscriptions.model import Attempt, Subscription
    from synchub.subscriptions.operations import Issued, Shown

ATTEMPTS_SHOWN: Final = 100
_ID_MAX: Final = 64


class SubscribeRequest(Body):
    """Body of ``POST /v1/subscriptions``."""

    url: str
    skus: Rows[str] = ()
    prefix: str = ""
    channel: str | None = None
    ttl_ms: int | None = Field(default=None, gt=0)
    since: str = Field(default="now", alias="from")


class RenewRequest(Body):
    """Body of ``POST /v1/subscriptions/{id}/renew``."""

    ttl_ms: int | None = Field(default=None, gt=0)


class RedriveRequest(Body):
    """Body of ``POST /v1/subscriptions/{id}/redrive``."""

    since: str = Field(alias="from")


def subscriptions_app(hub: Hub) -> web.Application:
    """Build the application for those who want to be told; every request takes a token first."""
    app = web.Application()
    app[HUB] = hub
    app.router.add_post("", subscribe, name="subscribe")
    app.router.add_get("", list_all, name="subscriptions")
    app.router.add_get("/{id}", show, name="subscription")
    app.router.add_delete("/{id}", delete, name="unsubscribe")
    app.router.add_post("/{id}/renew", renew, name="subscription_renew")
    app.router.add_post("/{id}/rotate", rotate, name="subscription_rotate")
    app.router.add_post("/{id}/test", send_test, name="subscription_test")
    app.router.add_post("/{id}/redrive", redrive, name="subscription_redrive")
    app.router.add_get("/{id}/attempts", list_attempts, name="subscription_attempts")
    return app


@in_time(Effect.WRITE)
async def subscribe(request: web.Request) -> web.Response:
    """Make a subscription; its secret is in this answer and in no other."""
    agent = await _asking(request)
    body = await read_body(request, SubscribeRequest)
    check_channel(agent, body.channel)
    if body.skus and body.prefix:
        msg = "Name SKUs or a prefix, not both."
        raise InvalidRequest(msg)
    wanted = Wanted(
        url=body.url,
        filter=Filter(
            skus=frozenset(sku_of(sku) for sku in body.skus),
            prefix=sku_of(body.prefix) if body.prefix else "",
        ),
        channel=channel_of(agent.channels, body.channel),
        ttl_ms=body.ttl_ms,
        since=body.since,
    )
    issued = await subscriptions.subscribe(_desk(request), agent, wanted)
    return answer_json(_issued(issued), status=HTTPStatus.CREATED)


@in_time(Effect.READ)
async def list_all(request: web.Request) -> web.Response:
    """Answer with everything that was made with this key."""
    found = await subscriptions.list_subscriptions(_desk(request), await _asking(request))
    return answer_json({"subscriptions": [_shown(one) for one in found]})


@in_time(Effect.READ)
async def show(request: web.Request) -> web.Response:
    """Answer with one subscription and how its endpoint is doing."""
    agent = await _asking(request)
    return answer_json(_shown(await subscriptions.show(_desk(request), agent, _id(request))))


@in_time(Effect.WRITE)
async def renew(request: web.Request) -> web.Response:
    """Grant it for another while; one that was turned off goes on."""
    agent = await _asking(request)
    body = await read_body(request, RenewRequest)
    return answer_json(_shown(await subscriptions.renew(_desk(request), agent, _id(request), body.ttl_ms)))


@in_time(Effect.WRITE)
async def rotate(request: web.Request) -> web.Response:
    """Answer with a new secret."""
    agent = await _asking(request)
    return answer_json(_issued(await subscriptions.rotate(_desk(request), agent, _id(request))))


@in_time(Effect.WRITE)
async def send_test(request: web.Request) -> web.Response:
    """Have a test occurrence sent."""
    agent = await _asking(request)
    name = await subscriptions.send_test(_desk(request), agent, _id(request))
    return answer_json({"eventId": name}, status=HTTPStatus.ACCEPTED)


@in_time(Effect.WRITE)
async def redrive(request: web.Request) -> web.Response:
    """Have everything after a position told again."""
    agent = await _asking(request)
    body = await read_body(request, RedriveRequest)
    await subscriptions.redrive(_desk(request), agent, _id(request), body.since)
    return answer_json({"id": _id(request), "from": body.since}, status=HTTPStatus.ACCEPTED)


@in_time(Effect.READ)
async def list_attempts(request: web.Request) -> web.Response:
    """Answer with what came of the last attempts, newest first."""
    agent = await _asking(request)
    most = _limit(request)
    found = await subscriptions.list_attempts(_desk(request), agent, _id(request), limit=most)
    return answer_json({"attempts": [_attempt(one) for one in found]})


@in_time(Effect.WRITE)
async def delete(request: web.Request) -> web.Response:
    """End it, and forget it."""
    agent = await _asking(request)
    await subscriptions.delete(_desk(request), agent, _id(request))
    return answer_json({"deleted": _id(request)})


async def _asking(request: web.Request) -> Agent:
    agent = agent_of(request, Scope.FEED_READ)
    await request.config_dict[LIMITS].take(agent)
    return agent


def _desk(request: web.Request) -> Desk:
    hub = request.app[HUB]
    return Desk(redis=hub.redis, vault=hub.vault, decided=hub.policies, settings=hub.settings)


def _id(request: web.Request) -> str:
    return request.match_info["id"][:_ID_MAX]


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(ATTEMPTS_SHOWN))
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:9]) <= ATTEMPTS_SHOWN:
        msg = f"limit is 1 to {ATTEMPTS_SHOWN}."
        raise InvalidRequest(msg)
    return int(text)


def _issued(issued: Issued) -> dict[str, Any]:
    secrets = issued.shown.subscription.secrets
    old_until_ms = secrets[-1].until_ms
    return {**_shown(issued.shown), "secret": issued.secret, "old_secret_until": rfc3339(old_until_ms or 0)}


def _shown(shown: Shown) -> dict[str, Any]:
    subscription, standing = shown.subscription, shown.standing
    return {
        "id": subscription.id,
        "url": subscription.url,
        **_filter(subscription),
        "channel": subscription.channel,
        "status": shown.status,
        "reason": standing.reason or None,
        "created_at": rfc3339(subscription.created_at_ms),
        "expires_at": rfc3339(subscription.expires_at_ms),
        "cursor": cursor_text(standing.spot) if standing.spot.seq >= 0 else None,
        "delivered_at": rfc3339(standing.delivered_at_ms),
        "failures": standing.failures,
        "failing_since": rfc3339(standing.failing_since_ms),
        "next_attempt_at": rfc3339(standing.next_at_ms),
    }


def _filter(subscription: Subscription) -> dict[str, Any]:
    chosen = subscription.filter
    return {"skus": sorted(chosen.skus)} if chosen.skus else {"prefix": chosen.prefix}


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "at": rfc3339(one.at_ms),
        "outcome": one.outcome,
        "eventId": one.id or None,
        "name": one.name or None,
        "status": one.status or None,
        "took_ms": one.took_ms if one.id else None,
        "items": one.items,
        "retry_at": rfc3339(one.retry_at_ms),
    }
