"""``/v1/ops``: how everything stands, for those who run the hub.

Every time is told with its age at the moment of the answer, so that a number that nobody renews any more is
seen to be old. Lists go by name and end: ask on with ``after``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from synchub.agents.model import Scope
from synchub.errors import InvalidRequest, NotFound
from synchub.hook_guard import operations as hook_guard
from synchub.hook_guard.rules import sentence
from synchub.keyspace import check_name
from synchub.kit.clock import now_ms
from synchub.overview import look_at_accounts, look_at_merchants, look_at_queue
from synchub.polling import operations as polling
from synchub.sync_lag import operations as sync_lag
from synchub.web.answers import answer_json
from synchub.web.auth import operator_of
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.accounts.model import AccountView
    from synchub.hook_guard.model import GuardState
    from synchub.hub import Hub
    from synchub.ingress.model import Aside
    from synchub.overview import AccountOverview, MerchantOverview
    from synchub.polling.model import PollState
    from synchub.sync_lag.model import AccountSync
    from synchub.upstream.model import UpstreamState

LIMIT: Final = 50
LIMIT_MAX: Final = 200
_DIGITS_MAX: Final = 6


def ops_app(hub: Hub) -> web.Application:
    """Build the application for operators."""
    app = web.Application()
    app[HUB] = hub
    app.router.add_get("/sync", list_sync, name="ops_sync")
    app.router.add_get("/sync/{account}", show_sync, name="ops_account")
    app.router.add_post("/sync/{account}/poll", poll_now, name="ops_poll")
    app.router.add_post("/sync/{account}/check", check_now, name="ops_check")
    app.router.add_get("/queue", show_queue, name="ops_queue")
    app.router.add_get("/merchants", list_merchants, name="ops_merchants")
    return app


async def list_sync(request: web.Request) -> web.Response:
    """Answer with how accounts stand, by name."""
    operator_of(request, Scope.OPS_READ)
    hub = request.app[HUB]
    everyone = {account.name: account for account in hub.directory.accounts()}
    names, following = _page(request, sorted(everyone))
    found = await look_at_accounts(hub, [everyone[name] for name in names])
    of_all = await sync_lag.read_everyone(hub.redis)
    at_ms = now_ms()
    return answer_json(
        {
            "accounts": [_described_account(one) for one in found],
            "total": len(everyone),
            "next_after": following,
            "all_silent": of_all.is_silent,
            "sentence": of_all.sentence or None,
            "judged": _when(of_all.judged_ms, at_ms),
            "at": _iso(at_ms),
        }
    )


async def show_sync(request: web.Request) -> web.Response:
    """Answer with how one account stands."""
    operator_of(request, Scope.OPS_READ)
    [found] = await look_at_accounts(request.app[HUB], [_account_of(request)])
    return answer_json(_described_account(found))


async def poll_now(request: web.Request) -> web.Response:
    """Have one account polled at once; it happens in a worker, within its budget."""
    operator_of(request, Scope.OPS_WRITE)
    hub, account = request.app[HUB], _account_of(request)
    connector = hub.connectors.get(account.platform)
    if connector is None or connector.pages_client is None:
        msg = f"{account.platform} cannot be polled."
        raise InvalidRequest(msg)
    await polling.poll_soon(hub.redis, account.merchant, account.name)
    return answer_json({"account": account.name, "poll": "due"}, status=HTTPStatus.ACCEPTED)


async def check_now(request: web.Request) -> web.Response:
    """Have one account's platform asked at once whether it sends to us.

    With ``?repair=1`` the repairs of the day are counted anew: what kept them from lasting is gone.
    """
    operator_of(request, Scope.OPS_WRITE)
    hub, account = request.app[HUB], _account_of(request)
    connector = hub.connectors.get(account.platform)
    if connector is None or connector.hooks_client is None:
        msg = f"{account.platform} does not say what it is subscribed to."
        raise InvalidRequest(msg)
    may_repair = _choice(request, "repair")
    await hook_guard.check_soon(hub.redis, account.merchant, account.name, may_repair=may_repair)
    told = {"account": account.name, "check": "due", "repairs_anew": may_repair}
    return answer_json(told, status=HTTPStatus.ACCEPTED)


async def show_queue(request: web.Request) -> web.Response:
    """Answer with what waits for workers, and what was put aside."""
    operator_of(request, Scope.OPS_READ)
    found = await look_at_queue(request.app[HUB])
    return answer_json(
        {
            "ingest": {"waiting": found.waiting, "oldest_age_ms": found.oldest_age_ms},
            "workers": found.workers,
            "dead_letters": _described_aside(found.dead, found.at_ms),
            "quarantine": _described_aside(found.quarantine, found.at_ms),
            "at": _iso(found.at_ms),
        }
    )


async def list_merchants(request: web.Request) -> web.Response:
    """Answer with where merchants' histories stand, by name."""
    operator_of(request, Scope.OPS_READ)
    hub = request.app[HUB]
    everyone = sorted({account.merchant for account in hub.directory.accounts()})
    names, following = _page(request, everyone)
    found = await look_at_merchants(hub, names)
    told = [_described_merchant(one) for one in found]
    return answer_json({"merchants": told, "total": len(everyone), "next_after": following})


def _account_of(request: web.Request) -> AccountView:
    name = check_name(request.match_info["account"], "The account")
    account = request.app[HUB].directory.find_account(name)
    if account is None:
        msg = f"There is no account {name}."
        raise NotFound(msg)
    return account


def _page(request: web.Request, names: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the names that were asked for, and after which one to go on."""
    after, limit = request.query.get("after", ""), _limit(request)
    left = [name for name in names if name > after]
    return left[:limit], left[limit - 1] if len(left) > limit else None


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(LIMIT))
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and 1 <= int(text) <= LIMIT_MAX:
        return int(text)
    msg = f"limit is 1 to {LIMIT_MAX}."
    raise InvalidRequest(msg)


def _choice(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "0")
    if text not in {"0", "1"}:
        msg = f"{name} is 0 or 1."
        raise InvalidRequest(msg)
    return text == "1"


def _described_account(one: AccountOverview) -> dict[str, Any]:
    account = one.account
    return {
        "account": account.name,
        "merchant": account.merchant,
        "platform": account.platform,
        "role": account.role.value,
        "sync": _described_sync(one.sync, one.at_ms) if one.sync else None,
        "polls": _described_polls(one.polls, one.at_ms) if one.polls else None,
        "can_poll": one.can_poll,
        "hooks": _described_hooks(one.hooks, one.at_ms) if one.hooks else None,
        "can_check": one.can_check,
        "upstream": _described_upstream(one.upstream),
        "at": _iso(one.at_ms),
    }


def _described_sync(sync: AccountSync, at_ms: int) -> dict[str, Any]:
    return {
        "state": sync.state.value,
        "since": _when(sync.since_ms, at_ms),
        "suspicion": round(sync.suspicion, 3),
        "evidence": [
            {
                "kind": sign.kind.value,
                "strength": sign.strength.name.lower(),
                "seen": _when(sign.at_ms, at_ms),
                "sentence": sign.sentence,
            }
            for sign in sync.evidence
        ],
        "last_delivery": _when(sync.heard_ms, at_ms),
        "freshest_source": _when(sync.freshest_ms, at_ms),
        "canary": _when(sync.canary_ms, at_ms),
        "deliveries": sync.deliveries,
        "is_busy": sync.is_busy,
        "coverage": _described_coverage(sync),
        "topics": {topic: round(suspicion, 3) for topic, suspicion in sync.topics.items()},
    }


def _described_coverage(sync: AccountSync) -> dict[str, Any]:
    """How much of what polls found in the last day deliveries had told before."""
    ratio = None if sync.coverage is None else round(sync.coverage, 4)
    return {"found": sync.found, "unseen": sync.unseen, "ratio": ratio}


def _described_polls(polls: PollState, at_ms: int) -> dict[str, Any]:
    return {
        "mode": str(polls.mode),
        "due": _when(polls.due_ms, at_ms),
        "last": _when(polls.last_ms, at_ms),
        "failures": polls.failures,
        "last_error": polls.last_error,
        "cursor": _when(polls.cursor_ms, at_ms),
        "complete_to": _when(polls.complete_to_ms, at_ms),
    }


def _described_hooks(hooks: GuardState, at_ms: int) -> dict[str, Any]:
    return {
        "state": hooks.hooks.value if hooks.hooks else "unknown",
        "sentence": sentence(hooks),
        "topics": list(hooks.topics),
        "since": _when(hooks.since_ms, at_ms),
        "checked": _when(hooks.checked_ms, at_ms),
        "due": _when(hooks.due_ms, at_ms),
        "repairs": [_when(repaired_ms, at_ms) for repaired_ms in hooks.repairs],
        "is_catching_up": hooks.is_missed,
        "failures": hooks.failures,
        "needs_person": hooks.need.value or None,
        "needs_person_since": _when(hooks.need_since_ms, at_ms),
    }


def _described_upstream(calls: UpstreamState) -> dict[str, Any]:
    budget = calls.budget
    return {
        "breakers": {
            operation: {"state": breaker.state, "trips": breaker.trips, "wait_ms": breaker.wait_ms}
            for operation, breaker in calls.breakers.items()
        },
        "budget": budget
        and {
            "remaining": round(budget.remaining, 1),
            "capacity": budget.capacity,
            "restored_per_s": budget.restored_per_s,
            "calls_today": budget.calls_today,
            "in_flight": budget.in_flight,
            "throttled_ms": budget.throttled_ms,
        },
    }


def _described_merchant(one: MerchantOverview) -> dict[str, Any]:
    standing = one.standing
    return {
        "merchant": one.merchant,
        "epoch": standing.epoch,
        "seq": standing.seq,
        "feed_seq": standing.feed_seq,
        "changed": _when(standing.clock_ms, one.at_ms),
        "is_frozen": one.is_frozen,
        "frozen_until": _iso(standing.frozen_until_ms) if one.is_frozen else None,
        "unarchived": one.unarchived,
        "at": _iso(one.at_ms),
    }


def _described_aside(aside: Aside, at_ms: int) -> dict[str, Any]:
    return {"count": aside.count, "oldest": _when(aside.oldest_at_ms, at_ms)}


def _when(time_ms: int | None, at_ms: int) -> dict[str, Any] | None:
    """A time and its age, which is negative for what is still to come; ``None``: never."""
    return {"at": _iso(time_ms), "age_ms": at_ms - time_ms} if time_ms else None


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
