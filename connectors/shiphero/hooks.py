"""The webhooks that ShipHero keeps for this hub: are they there, are they on, and putting that right.

What ShipHero does (https://developer.shiphero.com/webhooks/ and the schema's Webhook type): it rates each
webhook HEALTHY, WARNING or UNHEALTHY, and the last means that it has switched it off.

- ``webhook_enable`` switches it on again. It is the same webhook with the same secret: this is done at once.
- ``webhook_create`` chooses a secret and shows it in this one answer. The report hands the credential over
  with the new secret added; nobody else will ever have it.

The surprising fact is what follows from that: an answer that is lost on the way leaves a webhook behind
whose deliveries nobody can verify, and ShipHero calls it healthy. So a secret is kept with the id of its
webhook, and a webhook that the hub registered, but has no secret of, counts as missing; a repair deletes it
and begins anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.shiphero.graphql import ask, field, next_cursor
from connectors.shiphero.payloads import Hook, HookChanged, Listing
from connectors.shiphero.signature import hooks_in, with_secrets
from synchub.connector_kit.contract import HookReport, HookState
from synchub.connector_kit.payloads import parse
from synchub.errors import Fault, PayloadRefused, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.shiphero.payloads import Answer
    from synchub.connector_kit.contract import Access

WANTED: Final = (
    "Inventory Update",
    "Inventory Change",
    "Order Allocated",
    "Order Deallocated",
    "Order Canceled",
)
"""Every topic of the manifest that says something."""

SECRET: Final = "shared_signature_secret"  # noqa: S105 - the credential's name

PAGE_HOOKS: Final = 50
MAX_PAGES: Final = 20
CHANGE_CREDITS: Final = 10
"""Held back for a mutation; ShipHero's documents do not say what these cost."""

_LIST: Final = (
    f"query Hooks($after: String) {{ hooks: webhooks {{ data(first: {PAGE_HOOKS}, after: $after) {{ "
    "pageInfo { hasNextPage endCursor } edges { node { id name shop_name url enabled health } } } } }"
)
_CREATE: Final = (
    "mutation Create($data: CreateWebhookInput!) { changed: webhook_create(data: $data) "
    "{ webhook { id shared_signature_secret } } }"
)
_ENABLE: Final = (
    "mutation Enable($data: EnableWebhookInput!) { changed: webhook_enable(data: $data) { webhook { id } } }"
)
_DELETE: Final = (
    "mutation Delete($data: DeleteWebhookInput!) { changed: webhook_delete(data: $data) { request_id } }"
)
_UNHEALTHY: Final = "UNHEALTHY"
_WARNING: Final = "WARNING"
_WORST_FIRST: Final = (HookState.DISABLED, HookState.MISSING, HookState.WARNED, HookState.SOUND)
_SENTENCES: Final = {
    HookState.DISABLED: "ShipHero has switched off {}.",
    HookState.MISSING: "Not registered at this hub's address, or with a secret that nobody has: {}.",
    HookState.WARNED: "ShipHero may soon switch off {}, because deliveries fail.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hooks:
    """The webhooks of an account, seen from one address."""

    every: tuple[Hook, ...]
    url: str
    kept: frozenset[str]
    """Ids of those whose secrets the hub has kept."""

    @property
    def lost(self) -> tuple[Hook, ...]:
        """Those that the hub registered, and whose secret it never got."""
        ours = shop_name(self.url)
        return tuple(hook for hook in self.every if hook.shop_name == ours and hook.id not in self.kept)

    def of(self, topic: str) -> tuple[Hook, ...]:
        """Return those that post a topic to this address, signed with a secret that may be known."""
        lost = {hook.id for hook in self.lost}
        here = (hook for hook in self.every if hook.url == self.url and hook.name == topic)
        return tuple(hook for hook in here if hook.id not in lost)

    def state(self, topic: str) -> HookState:
        """Return how a topic stands: as the best of its webhooks does."""
        states = {_state(hook) for hook in self.of(topic)} or {HookState.MISSING}
        return next(state for state in reversed(_WORST_FIRST) if state in states)


async def check(access: Access, hook_url: str) -> HookReport:
    """Return how each wanted topic stands at this address; changes nothing."""
    return _report(await _read(access, hook_url, _kept(access)))


async def repair(access: Access, hook_url: str) -> HookReport:
    """Enable, delete and register until each wanted topic is posted, and return how it stands then."""
    hooks = await _read(access, hook_url, _kept(access))
    created: dict[str, Hook] = {}
    try:
        await _enable(access, hooks)
        await _register(access, hooks, created)
        hooks = await _read(access, hook_url, hooks.kept | created.keys())
    except Fault:
        if not created:
            raise
        # The secrets that ShipHero has already shown are worth more than the failure; a check will find it.
        kept = hooks.kept | created.keys()
        hooks = _Hooks(every=(*hooks.every, *created.values()), url=hook_url, kept=kept)
    return _report(hooks, secrets=_secrets(access, hooks, created))


def shop_name(hook_url: str) -> str:
    """Return the name under which the hub registers webhooks for an address; ShipHero deletes by it."""
    return f"synchub-{hashlib.sha256(hook_url.encode()).hexdigest()[:12]}"


async def _enable(access: Access, hooks: _Hooks) -> None:
    for topic in WANTED:
        if hooks.state(topic) is HookState.DISABLED:
            data = {"webhook_id": hooks.of(topic)[0].id}
            field(await _change(access, _ENABLE, data), "changed", HookChanged)


async def _register(access: Access, hooks: _Hooks, created: dict[str, Hook]) -> None:
    """Register each missing topic; ``created`` has the new webhooks at once, even if a later one fails."""
    name = shop_name(hooks.url)
    customer = access.credentials.get("customer_account_id")
    whose = {"customer_account_id": customer} if customer else {}
    for lost in hooks.lost:
        await _change(access, _DELETE, {"name": lost.name, "shop_name": name, **whose})
    for topic in WANTED:
        if hooks.state(topic) is not HookState.MISSING:
            continue
        wish = {"name": topic, "url": hooks.url, "shop_name": name, "enabled": True, **whose}
        hook = field(await _change(access, _CREATE, wish), "changed", HookChanged).webhook
        if not hook.shared_signature_secret:
            msg = "ShipHero registered a webhook and did not show its secret."
            raise UpstreamFailed(msg)
        here = {"name": topic, "url": hooks.url, "shop_name": name, "enabled": True}
        created[hook.id] = hook.model_copy(update=here)


async def _change(access: Access, mutation: str, data: Mapping[str, object]) -> Answer:
    return await ask(access, mutation, {"data": data}, cost=CHANGE_CREDITS)


async def _read(access: Access, hook_url: str, kept: frozenset[str]) -> _Hooks:
    found: list[Hook] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        variables = {"after": cursor} if cursor else {}
        page = field(await ask(access, _LIST, variables, cost=PAGE_HOOKS + 1), "hooks", Listing).data
        found += [_hook(edge.node) for edge in page.edges]
        cursor = next_cursor(page, cursor)
        if cursor is None:
            return _Hooks(every=tuple(found), url=hook_url, kept=kept)
    msg = f"ShipHero lists more than {MAX_PAGES * PAGE_HOOKS} webhooks."
    raise UpstreamFailed(msg)


def _hook(node: object) -> Hook:
    try:
        return parse(Hook, node)
    except PayloadRefused as problem:
        msg = f"ShipHero's answer is not one of its API: {problem.detail}"
        raise UpstreamFailed(msg) from problem


def _state(hook: Hook) -> HookState:
    # ``health`` is younger than ``enabled``, which a person may switch too.
    if hook.enabled is False or hook.health == _UNHEALTHY:
        return HookState.DISABLED
    return HookState.WARNED if hook.health == _WARNING else HookState.SOUND


def _report(hooks: _Hooks, *, secrets: dict[str, str] | None = None) -> HookReport:
    states = {topic: hooks.state(topic) for topic in WANTED}
    worst = next(state for state in _WORST_FIRST if state in states.values())
    broken = tuple(topic for topic in WANTED if states[topic] in {HookState.DISABLED, HookState.MISSING})
    sentences = [
        sentence.format(", ".join(topics))
        for state, sentence in _SENTENCES.items()
        if (topics := [topic for topic in WANTED if states[topic] is state])
    ]
    return HookReport(state=worst, topics=broken, detail=" ".join(sentences), secrets=secrets or {})


def _kept(access: Access) -> frozenset[str]:
    return hooks_in(access.credentials.get(SECRET, ""))


def _secrets(access: Access, hooks: _Hooks, created: dict[str, Hook]) -> dict[str, str]:
    """Return the credential with the secrets of the new webhooks; nothing where there are none."""
    if not created:
        return {}
    new = {name: hook.shared_signature_secret or "" for name, hook in created.items()}
    before = access.credentials.get(SECRET, "")
    return {SECRET: with_secrets(before, new, known={hook.id for hook in hooks.every})}
