"""The ShipHero connector against its emulator: the process that the demo starts, over real HTTP."""

from __future__ import annotations

from typing import Final

import pytest

from synchub.connector_kit.events import Level, Tickle
from synchub.errors import UpstreamRefused, UpstreamThrottled
from tests.support.shiphero import MANIFEST, WH1, WH2, Hub, emulator, levels_of
from tests.support.wait import eventually

UPDATE: Final = "Inventory Update"
CHANGE: Final = "Inventory Change"


async def test_what_the_emulator_announces_and_what_it_lets_read_is_its_truth() -> None:
    async with emulator() as shiphero:
        await eventually(lambda: len(levels_of(shiphero.hub.events())) == 6, what="six SKUs announced")
        truth = await shiphero.truth()
        read = await shiphero.reader().fetch_levels(sorted(truth["skus"]))
        announced = shiphero.hub.events()
    assert truth["levels"].keys() == {f"TEE-000{number}" for number in range(1, 7)}
    assert truth["levels"]["TEE-0001"].keys() == {WH1, WH2}
    assert levels_of(read) == truth["levels"]
    assert levels_of(announced) == truth["levels"]
    assert shiphero.hub.refused == 0


async def test_a_change_on_demand_is_posted_once_accepted_and_readable() -> None:
    async with emulator("--paused") as shiphero:
        answer = await shiphero.post("change", sku="TEE-0002", location="WH1", quantity=41)
        read = await shiphero.reader().fetch_levels(["TEE-0002"])
    assert answer == {"status": 200}
    assert shiphero.hub.events() == [Level(item="TEE-0002", location=WH1, quantity=41)]
    assert levels_of(read)["TEE-0002"][WH1] == 41


async def test_a_move_between_bins_is_posted_as_a_change_that_only_tickles() -> None:
    async with emulator("--paused") as shiphero:
        assert await shiphero.post("move", sku="TEE-0001", location="WH2") == {"status": 200}
    assert shiphero.hub.events() == [Tickle(item="TEE-0001", location=WH2)]


async def test_every_fifth_change_is_told_by_both_webhooks_under_ids_of_their_own() -> None:
    async with emulator("--paused") as shiphero:
        for quantity in range(100, 105):
            await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=quantity)
    topics = [MANIFEST.topic_of(sent) for sent in shiphero.hub.accepted]
    assert sorted(topics) == [CHANGE, *[UPDATE] * 5]
    assert len({sent.headers["x-shiphero-message-id"] for sent in shiphero.hub.accepted}) == 6


async def test_an_answer_without_the_expected_body_counts_as_a_failed_delivery() -> None:
    async with emulator("--paused", hub=Hub(answer="{}")) as shiphero:
        answer = await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=1)
        truth = await shiphero.truth()
    assert answer == {"status": 0}
    assert (truth["accepted"], truth["failed"]) == (0, 1)
    assert len(shiphero.hub.accepted) == 3, "it was tried three times"


async def test_a_forged_delivery_does_not_pass_our_verification() -> None:
    async with emulator("--paused", "--fault", "forge@0s-60s") as shiphero:
        await shiphero.post("change", sku="TEE-0001", location="WH1", quantity=1)
    assert shiphero.hub.refused == 1
    assert shiphero.hub.events() == [Level(item="TEE-0001", location=WH1, quantity=1)]


async def test_the_emulators_throttle_is_the_one_that_the_client_understands() -> None:
    async with emulator("--paused", "--fault", "throttle@0s-60s") as shiphero:
        with pytest.raises(UpstreamThrottled) as refused:
            await shiphero.reader().fetch_levels(["TEE-0001"])
    assert refused.value.retry_after_s == 1


async def test_credits_are_held_back_before_a_read_and_only_what_was_read_is_charged() -> None:
    async with emulator("--paused") as shiphero:
        names = [f"TEE-{number:04d}" for number in range(1, 200)]
        levels = await shiphero.reader().fetch_levels(names[:150])
        await shiphero.reader().fetch_levels(names[:170])  # Only if the first was charged by its 12 rows.
        with pytest.raises(UpstreamThrottled) as refused:
            await shiphero.reader().fetch_levels(names)
    assert len(levels) == 12
    assert refused.value.retry_after_s is not None


async def test_the_emulator_refuses_another_token() -> None:
    async with emulator("--paused") as shiphero:
        with pytest.raises(UpstreamRefused):
            await shiphero.reader(token="other").fetch_levels(["TEE-0001"])
