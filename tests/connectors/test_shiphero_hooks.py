"""ShipHero's webhooks: how they stand, and how they are put right without losing a secret."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from connectors.shiphero import Client, verify
from connectors.shiphero.hooks import WANTED, shop_name
from connectors.shiphero.signature import hooks_in, with_secrets
from synchub.connector_kit.contract import Access, HookReport, HookState
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.http import HttpAnswer
from synchub.connector_kit.signatures import sign_hmac_sha256_base64
from synchub.errors import SignatureRefused, UpstreamFailed, UpstreamRefused, UpstreamThrottled
from tests.support.shiphero import MANIFEST, SECRET, emulator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.shiphero import Emulator

UPDATE: Final = "Inventory Update"
HOOK_URL: Final = "https://hub.example/hooks/acc_wms"
CREATE: Final = (
    "mutation Other($data: CreateWebhookInput!) { changed: webhook_create(data: $data) "
    "{ webhook { id shared_signature_secret } } }"
)
DELETE: Final = (
    "mutation Other($data: DeleteWebhookInput!) { changed: webhook_delete(data: $data) { request_id } }"
)
LIST: Final = "query Other($after: String) { hooks: webhooks { data(first: 50, after: $after) { edges } } }"


async def delivered(shiphero: Emulator, quantity: int) -> int:
    """Return the hub's answer to a change; 0: nothing was sent."""
    answer = await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=quantity)
    return int(answer["status"])


async def names(shiphero: Emulator) -> list[str]:
    edges = (await shiphero.ask(LIST))["hooks"]["data"]["edges"]
    return sorted(edge["node"]["name"] for edge in edges)


async def delete(shiphero: Emulator, name: str, shop: str = "example") -> None:
    await shiphero.ask(DELETE, data={"name": name, "shop_name": shop})


def test_what_is_wanted_is_every_topic_that_says_something() -> None:
    assert set(WANTED) == {name for name, topic in MANIFEST.topics.items() if topic.emits}


# --- with the emulator: a whole account


async def test_what_a_person_registered_is_sound_and_a_repair_leaves_it_alone() -> None:
    async with emulator("--paused") as shiphero:
        client = shiphero.reader()
        checked = await client.check_subscription(shiphero.hook_url)
        repaired = await client.repair_subscription(shiphero.hook_url)
        calls = await shiphero.calls()
    assert checked == repaired == HookReport(state=HookState.SOUND)
    assert set(calls["calls"]) == {"Hooks"}, "nothing was changed"


async def test_another_address_has_none_of_them() -> None:
    async with emulator("--paused") as shiphero:
        report = await shiphero.reader().check_subscription("https://elsewhere.example/hooks/acc_1")
    assert (report.state, report.topics) == (HookState.MISSING, WANTED)


async def test_a_warning_is_passed_on_while_deliveries_still_come() -> None:
    async with emulator("--paused") as shiphero:
        await shiphero.post("health", name=UPDATE, health="WARNING")
        report = await shiphero.reader().check_subscription(shiphero.hook_url)
        status = await delivered(shiphero, 41)
    assert (report.state, report.topics) == (HookState.WARNED, ())
    assert UPDATE in report.detail
    assert status == 200


async def test_what_shiphero_switched_off_is_switched_on_with_the_secret_it_had() -> None:
    async with emulator("--paused", "--fault", "disable@0s-60s") as shiphero:
        client = shiphero.reader()
        checked = await client.check_subscription(shiphero.hook_url)
        while_off = await delivered(shiphero, 41)
        repaired = await client.repair_subscription(shiphero.hook_url)
        after = await delivered(shiphero, 42)
        rechecked = await client.check_subscription(shiphero.hook_url)
    assert (checked.state, checked.topics) == (HookState.DISABLED, WANTED)
    assert while_off == 0
    assert repaired == rechecked == HookReport(state=HookState.SOUND), "no new secret"
    assert after == 200
    assert shiphero.hub.refused == 0


async def test_one_that_is_off_says_which() -> None:
    async with emulator("--paused") as shiphero:
        await shiphero.post("health", name="Order Allocated", health="UNHEALTHY")
        report = await shiphero.reader().check_subscription(shiphero.hook_url)
    assert (report.state, report.topics) == (HookState.DISABLED, ("Order Allocated",))
    assert report.detail == "ShipHero has switched off Order Allocated."


async def test_what_is_missing_is_registered_and_its_new_secret_handed_over() -> None:
    async with emulator("--paused") as shiphero:
        await delete(shiphero, UPDATE)
        client = shiphero.reader()
        checked = await client.check_subscription(shiphero.hook_url)
        repaired = await client.repair_subscription(shiphero.hook_url)
        before_kept = await delivered(shiphero, 41)
        shiphero.hub.secrets.append(repaired.secrets["shared_signature_secret"])
        after_kept = await delivered(shiphero, 42)
        rechecked = await shiphero.reader().check_subscription(shiphero.hook_url)
        registered = await names(shiphero)
    assert (checked.state, checked.topics) == (HookState.MISSING, (UPDATE,))
    assert (repaired.state, list(repaired.secrets)) == (HookState.SOUND, ["shared_signature_secret"])
    assert repaired.secrets["shared_signature_secret"].split()[0] == SECRET, "the others sign with it still"
    assert (before_kept, after_kept) == (401, 200)
    assert rechecked == HookReport(state=HookState.SOUND)
    assert registered == sorted(WANTED)


async def test_a_whole_account_is_registered_at_once_and_every_secret_kept() -> None:
    async with emulator("--paused") as shiphero:
        for name in WANTED:
            await delete(shiphero, name)
        repaired = await shiphero.reader().repair_subscription(shiphero.hook_url)
        shiphero.hub.secrets = [repaired.secrets["shared_signature_secret"]]
        await shiphero.post("order", sku="TEE-0001", location="WH1", quantity=1)
        for quantity in range(100, 105):
            await delivered(shiphero, quantity)
    assert repaired.state is HookState.SOUND
    assert len(hooks_in(repaired.secrets["shared_signature_secret"])) == 5
    assert shiphero.hub.refused == 0
    topics = {MANIFEST.topic_of(sent) for sent in shiphero.hub.accepted}
    assert topics == {UPDATE, "Inventory Change", "Order Allocated"}


async def test_a_webhook_whose_secret_was_lost_on_the_way_is_registered_anew() -> None:
    async with emulator("--paused") as shiphero:
        await delete(shiphero, UPDATE)
        lost = {"name": UPDATE, "url": shiphero.hook_url, "shop_name": shop_name(shiphero.hook_url)}
        await shiphero.ask(CREATE, data=lost)  # The hub's own call, whose answer never came.
        client = shiphero.reader()
        checked = await client.check_subscription(shiphero.hook_url)
        unverified = await delivered(shiphero, 41)
        repaired = await client.repair_subscription(shiphero.hook_url)
        shiphero.hub.secrets = [repaired.secrets["shared_signature_secret"]]
        verified = await delivered(shiphero, 42)
        registered = await names(shiphero)
    assert (checked.state, checked.topics) == (HookState.MISSING, (UPDATE,)), (
        "though ShipHero calls it healthy"
    )
    assert (unverified, verified) == (401, 200)
    assert registered == sorted(WANTED), "the old one is gone"


async def test_a_hub_that_lost_the_report_repairs_again_and_ends_well() -> None:
    async with emulator("--paused") as shiphero:
        await delete(shiphero, UPDATE)
        await shiphero.reader().repair_subscription(shiphero.hook_url)  # It died before it kept the secret.
        again = await shiphero.reader().repair_subscription(shiphero.hook_url)
        shiphero.hub.secrets = [again.secrets["shared_signature_secret"]]
        status = await delivered(shiphero, 42)
        once_more = await shiphero.reader().repair_subscription(shiphero.hook_url)
        registered = await names(shiphero)
    assert status == 200
    assert once_more == HookReport(state=HookState.SOUND)
    assert registered == sorted(WANTED)


@pytest.mark.parametrize(("fault", "failure"), [("throttle", UpstreamThrottled), ("half", UpstreamFailed)])
async def test_a_platform_that_fails_is_no_report(fault: str, failure: type[Exception]) -> None:
    async with emulator("--paused", "--fault", f"{fault}@0s-60s") as shiphero:
        with pytest.raises(failure):
            await shiphero.reader().check_subscription(shiphero.hook_url)
        with pytest.raises(failure):
            await shiphero.reader().repair_subscription(shiphero.hook_url)


# --- with answers written by hand


def listed(*hooks: Mapping[str, object], cursor: str | None = None) -> dict[str, Any]:
    page = {"hasNextPage": cursor is not None, "endCursor": cursor}
    return {"data": {"hooks": {"data": {"pageInfo": page, "edges": [{"node": one} for one in hooks]}}}}


def hook(name: str, number: int = 1, **fields: object) -> dict[str, object]:
    sound = {"shop_name": "example", "url": HOOK_URL, "enabled": True, "health": "HEALTHY"}
    return {"id": f"h{number}", "name": name} | sound | fields


def changed(number: int, secret: str | None = None) -> dict[str, Any]:
    return {"data": {"changed": {"webhook": {"id": f"h{number}", "shared_signature_secret": secret}}}}


NO_CREDITS: Final = {"data": None, "errors": [{"message": "no", "code": 30, "time_remaining": "7 seconds"}]}


@dataclass
class Api:
    """Gives its answers in turn and remembers what it was asked."""

    answers: list[object]
    credentials: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, *_address: str, json: Any = None, **_: object) -> HttpAnswer:
        self.asked.append(json)
        return HttpAnswer(status=200, headers={}, body=_written(self.answers.pop(0)))

    def client(self) -> Client:
        given = {"access_token": "sh_token", "shared_signature_secret": SECRET} | self.credentials
        return Client(Access(http=self, credentials=given))

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        asked = [one for one in self.asked if one["query"].startswith("mutation")]
        return [(one["query"].split("changed: ")[1].split("(")[0], one["variables"]["data"]) for one in asked]


def _written(answer: object) -> bytes:
    return json.dumps(answer).encode()


ALL: Final = [hook(name, number) for number, name in enumerate(WANTED)]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, HookState.SOUND),
        ({"health": None}, HookState.SOUND),
        ({"enabled": None, "health": "WARNING"}, HookState.WARNED),
        ({"health": "UNHEALTHY"}, HookState.DISABLED),
        ({"enabled": False}, HookState.DISABLED),
        ({"url": "https://old.example/hooks/acc_wms"}, HookState.MISSING),
        ({"url": None}, HookState.MISSING),
        ({"name": None}, HookState.MISSING),
        ({"name": "inventory update"}, HookState.MISSING),
    ],
)
async def test_one_topic_decides_for_all(fields: dict[str, object], state: HookState) -> None:
    report = await Api([listed(ALL[0] | fields, *ALL[1:])]).client().check_subscription(HOOK_URL)
    assert report.state is state
    assert report.topics == ((UPDATE,) if state in {HookState.MISSING, HookState.DISABLED} else ())


async def test_the_best_of_two_webhooks_of_a_topic_counts() -> None:
    off = hook(UPDATE, 9, enabled=False, health="UNHEALTHY")
    report = await Api([listed(off, *ALL)]).client().check_subscription(HOOK_URL)
    assert report.state is HookState.SOUND


async def test_webhooks_are_listed_to_the_end() -> None:
    api = Api([listed(*ALL[:2], cursor="c1"), listed(*ALL[2:])])
    assert (await api.client().check_subscription(HOOK_URL)).state is HookState.SOUND
    assert api.asked[1]["variables"] == {"after": "c1"}


async def test_a_listing_without_end_fails() -> None:
    api = Api([listed(*ALL, cursor=f"c{page}") for page in range(100)])
    with pytest.raises(UpstreamFailed):
        await api.client().check_subscription(HOOK_URL)


async def test_what_a_repair_asks_for() -> None:
    off = hook(UPDATE, 0, health="UNHEALTHY", enabled=False)
    mended = [hook(name, number) for number, name in enumerate(WANTED)]
    api = Api(
        [listed(off, *ALL[2:]), changed(0), changed(7, "new"), listed(*mended)],
        {"customer_account_id": "Q3VzdG9tZXI6MQ=="},
    )
    report = await api.client().repair_subscription(HOOK_URL)
    wish = {"name": "Inventory Change", "url": HOOK_URL, "shop_name": shop_name(HOOK_URL), "enabled": True}
    assert api.changes() == [
        ("webhook_enable", {"webhook_id": "h0"}),
        ("webhook_create", wish | {"customer_account_id": "Q3VzdG9tZXI6MQ=="}),
    ]
    assert report.secrets == {"shared_signature_secret": f"{SECRET} h7|new"}


@pytest.mark.parametrize("trouble", [NO_CREDITS, {"data": None}, {"data": {"changed": None}}, changed(8)])
async def test_a_failure_after_a_secret_was_shown_does_not_lose_it(trouble: object) -> None:
    api = Api([listed(*ALL[2:]), changed(7, "new"), trouble])
    report = await api.client().repair_subscription(HOOK_URL)
    assert report.secrets == {"shared_signature_secret": f"{SECRET} h7|new"}
    assert (report.state, report.topics) == (HookState.MISSING, ("Inventory Change",)), "the rest comes later"


async def test_a_failure_before_any_secret_was_shown_is_a_failure() -> None:
    with pytest.raises(UpstreamThrottled):
        await Api([listed(*ALL[1:]), NO_CREDITS]).client().repair_subscription(HOOK_URL)


async def test_what_shiphero_does_not_list_after_it_took_it_is_still_missing() -> None:
    api = Api([listed(*ALL[1:]), changed(7, "new"), listed(*ALL[1:])])
    report = await api.client().repair_subscription(HOOK_URL)
    assert (report.state, report.topics) == (HookState.MISSING, (UPDATE,))


async def test_an_account_without_token_cannot_be_checked() -> None:
    api = Api([], {"access_token": ""})
    with pytest.raises(UpstreamRefused):
        await api.client().check_subscription(HOOK_URL)
    assert api.asked == []


async def test_nothing_that_is_shown_holds_a_secret() -> None:
    api = Api([listed(*ALL[1:]), changed(7, "hush-hush"), listed(*ALL)])
    report = await api.client().repair_subscription(HOOK_URL)
    assert "hush-hush" in report.secrets["shared_signature_secret"]
    assert "hush-hush" not in f"{report!r} {report.detail}"


# --- the credential


def test_a_delivery_may_be_signed_with_any_secret_of_the_list() -> None:
    for secret in ("one", "two", "whole|three"):
        headers = {"x-shiphero-hmac-sha256": sign_hmac_sha256_base64(b"{}", secret)}
        verify(
            Delivery(account="wms", headers=headers, body=b"{}", arrived_at_us=0),
            ["old", "one V2h=|two whole|three"],
            now_ms=0,
        )


@pytest.mark.parametrize("foreign", ["", "one two", "V2h=", "V2h=|", " "])
def test_a_part_that_is_no_secret_signs_nothing(foreign: str) -> None:
    headers = {"x-shiphero-hmac-sha256": sign_hmac_sha256_base64(b"{}", foreign)}
    sent = Delivery(account="wms", headers=headers, body=b"{}", arrived_at_us=0)
    with pytest.raises(SignatureRefused):
        verify(sent, ["one", "V2h=|two"], now_ms=0)


def test_secrets_of_webhooks_that_are_gone_are_left_out_and_a_persons_stay() -> None:
    kept = with_secrets("mine a|1 b|2", {"c": "3"}, known={"b", "c"})
    assert kept == "mine b|2 c|3"
    assert hooks_in(kept) == {"b", "c"}
