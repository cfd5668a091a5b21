"""The subscriptions that make the shop send deliveries, and their repair.

The surprising facts: a subscription made through the Admin API is removed by the platform after
eight failed deliveries in a row, without a word; and those of the app's own file
(``shopify.app.toml``) are not in the list at all, so they can be neither seen nor mended from here.
https://shopify.dev/docs/api/admin-graphql/latest/queries/webhookSubscriptions
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.shopify.answers import Hook, Hooks, Outcome
from connectors.shopify.queries import HOOKS_QUERY, MUTATION, RESUBSCRIBE, SUBSCRIBE, hooks_cost
from synchub.connector_kit.contract import HookReport, HookState
from synchub.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.shopify.graphql import Shop

ORDER_TOPICS: Final = ("orders/create", "orders/updated", "orders/cancelled")

# Every topic of the manifest that says something.
TOPICS: Final = (
    "inventory_levels/update",
    "inventory_levels/connect",
    "inventory_levels/disconnect",
    "inventory_items/create",
    "inventory_items/update",
    "inventory_items/delete",
    "products/delete",
    *ORDER_TOPICS,
)

ORDER_FIELDS: Final = (
    "id",
    "test",
    "created_at",
    "updated_at",
    "processed_at",
    "cancelled_at",
    "source_name",
    "location_id",
    "tags",
    "note_attributes",
    "line_items",
    "refunds",
    "fulfillments",
)
"""What is read of an order. The rest, buyers' names among it, is not asked for."""

FORMAT: Final = "JSON"
A_PAGE: Final = 100
PAGES_MAX: Final = 20


class Subscriptions:
    """What the app has subscribed to in one shop."""

    def __init__(self, shop: Shop, *, are_the_apps: bool) -> None:
        """``are_the_apps``: they stand in the app's own file, so nothing is to be done about them."""
        self._shop = shop
        self._are_the_apps = are_the_apps

    async def check(self, hook_url: str) -> HookReport:
        """Report which topics are sent to this address; raises as the shop's query does."""
        if self._are_the_apps:
            return _of_the_app()
        return _report(await self._found(hook_url))

    async def repair(self, hook_url: str) -> HookReport:
        """Subscribe to what is missing, set right what is wrong, and report; raises as the query does."""
        if self._are_the_apps:
            return _of_the_app()
        found = await self._found(hook_url)
        if _report(found).state is HookState.SOUND:
            return _report(found)
        refusals = []
        for topic in _missing(found):
            wrong = next((hook for hook in found if _topic(hook) == topic), None)
            refusals += await (self._mend(wrong, hook_url) if wrong else self._subscribe(topic, hook_url))
        return _report(await self._found(hook_url), refusals)

    async def _found(self, hook_url: str) -> list[Hook]:
        """Return the subscriptions at this address; those at others are not ours."""
        found: list[Hook] = []
        after: str | None = None
        for _ in range(PAGES_MAX):
            variables = {"first": A_PAGE, "after": after}
            answer = await self._shop.query(HOOKS_QUERY, variables, Hooks, cost=hooks_cost(A_PAGE))
            found += [hook for hook in answer.hooks.nodes if hook.uri == hook_url]
            after = answer.hooks.following(after)
            if after is None:
                return found
        msg = "The app has more subscriptions in this shop than the hub reads."
        raise UpstreamFailed(msg)

    async def _subscribe(self, topic: str, hook_url: str) -> list[str]:
        variables = {"topic": _enum(topic), "hook": _wanted(topic, hook_url)}
        return _refusal(topic, await self._shop.query(SUBSCRIBE, variables, Outcome, cost=MUTATION))

    async def _mend(self, wrong: Hook, hook_url: str) -> list[str]:
        # An empty filter lets everything through.
        wanted = {**_wanted(_topic(wrong), hook_url), "filter": ""}
        variables = {"id": wrong.id, "hook": wanted}
        answer = await self._shop.query(RESUBSCRIBE, variables, Outcome, cost=MUTATION)
        return _refusal(_topic(wrong), answer)


def _wanted(topic: str, hook_url: str) -> dict[str, object]:
    fields = list(ORDER_FIELDS) if topic in ORDER_TOPICS else []
    return {"uri": hook_url, "format": FORMAT, "includeFields": fields}


def _topic(hook: Hook) -> str:
    """Return the topic as deliveries name it; of the API's names only the last stroke is a slash."""
    return next((topic for topic in TOPICS if _enum(topic) == hook.topic), hook.topic)


def _enum(topic: str) -> str:
    return topic.replace("/", "_").upper()


def _is_right(hook: Hook) -> bool:
    """Whether it sends everything that is read, in the form that is read."""
    needed = ORDER_FIELDS if _topic(hook) in ORDER_TOPICS else ()
    is_whole = not hook.include_fields or (bool(needed) and set(needed) <= set(hook.include_fields))
    return hook.format == FORMAT and not hook.filter and is_whole


def _missing(found: Sequence[Hook]) -> list[str]:
    right = {_topic(hook) for hook in found if _is_right(hook)}
    return [topic for topic in TOPICS if topic not in right]


def _refusal(topic: str, answer: Outcome) -> list[str]:
    if answer.outcome is not None and not answer.outcome.user_errors:
        return []
    # The platform's own words may repeat the address.
    return [topic]


def _report(found: Sequence[Hook], refused: Sequence[str] = ()) -> HookReport:
    missing = _missing(found)
    if not missing:
        return HookReport(state=HookState.SOUND)
    wrong = {_topic(hook) for hook in found} & set(missing)
    sentences = [
        f"{len(missing)} of {len(TOPICS)} topics are not subscribed at this address as they should be."
    ]
    if wrong:
        sentences.append(f"Subscribed with another format, fewer fields or a filter: {_listed(wrong)}.")
    still = set(refused) & set(missing)
    if still:
        sentences.append(f"The shop refused a subscription to {_listed(still)}: a permission may be missing.")
    return HookReport(state=HookState.MISSING, topics=tuple(missing), detail=" ".join(sentences))


def _listed(topics: set[str]) -> str:
    return ", ".join(sorted(topics))


def _of_the_app() -> HookReport:
    detail = "The subscriptions stand in the app's own file, where the hub cannot see them."
    return HookReport(state=HookState.SOUND, detail=detail)
