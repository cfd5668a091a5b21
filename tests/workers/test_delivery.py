"""Subscribers are told what changes, in order, until they have taken it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from synchub import metrics, push_keys
from synchub.agents import operations as agents
from synchub.agents import store
from synchub.agents.operations import NewAgent
from synchub.kit.breaker import Limits
from synchub.kit.clock import now_ms, wall_ms
from tests.support.endpoints import Endpoint, change, open_town, telling
from tests.support.wait import eventually

if TYPE_CHECKING:
    import pytest


class TestTelling:
    async def test_a_change_is_told_signed_and_to_those_alone_who_watch_it(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            made = await town.subscribe(skus=["TEE"])
            await town.change(TEE=7, CAP=3)
            await town.endpoint.reached(1)
            await town.change(CAP=4)
            await town.change(TEE=6)
            await town.endpoint.reached(2)
            first, second = town.endpoint.taken
        for one in (first, second):
            one.verify(made["secret"])
            assert one.occurrence["eventId"] == one.id
            assert one.occurrence["name"] == "stock.changed"
            assert one.occurrence["truncated"] is False
        assert [first.items, second.items] == [{"TEE": 7}, {"TEE": 6}]
        assert second.occurrence["data"]["prev"] == first.occurrence["data"]["seq"]
        assert second.occurrence["cursor"].endswith(f":{second.occurrence['data']['seq']}")
        assert first.id != second.id

    async def test_an_item_is_what_the_feed_tells_the_agent(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            await town.subscribe(prefix="T")
            await town.change(TEE=7)
            await town.endpoint.reached(1)
            headers = {"Authorization": f"Bearer {town.site.merchant.key}"}
            async with town.site.session.get(f"{town.site.url}/v1/feed?sku=TEE", headers=headers) as feed:
                async for line in feed.content:
                    if line.startswith(b'data: {"part"'):
                        break
        [told] = town.endpoint.taken[0].occurrence["data"]["items"]
        assert [told] == json.loads(line.removeprefix(b"data: "))["items"]

    async def test_everything_there_is_comes_first_when_it_is_asked_for(self, redis_url: str) -> None:
        async with open_town(redis_url, subscriptions={"items_max": 2}) as town:
            await town.change(A=1, B=2, C=3, D=4, E=5)
            await town.subscribe(**{"from": "everything"})
            await town.endpoint.reached(3)
            assert [one.items for one in town.endpoint.taken] == [
                {"A": 1, "B": 2},
                {"C": 3, "D": 4},
                {"E": 5},
            ]
            assert all(one.occurrence["truncated"] for one in town.endpoint.taken)
            await town.change(B=7)
            await town.endpoint.reached(4)
        last = town.endpoint.taken[3].occurrence
        assert (town.endpoint.taken[3].items, last["truncated"]) == ({"B": 7}, False)

    async def test_what_can_no_longer_be_sold_stands_first(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            await town.change(A=1, B=0, C=2)
            await town.subscribe(**{"from": "everything"})
            await town.endpoint.reached(1)
        assert list(town.endpoint.taken[0].items) == ["B", "A", "C"]

    async def test_what_changes_while_a_request_runs_is_told_once_and_as_it_is_then(
        self, redis_url: str
    ) -> None:
        async with open_town(redis_url) as town:
            await town.subscribe()
            town.endpoint.gate = asyncio.Event()
            await town.change(TEE=1)
            await town.endpoint.reached(1)
            for number in range(2, 8):
                await town.change(TEE=number, CAP=number)
            town.endpoint.gate.set()
            await town.endpoint.knows({"TEE": 7, "CAP": 7})
        assert town.endpoint.most_at_once == 1
        assert len(town.endpoint.taken) == 2
        prevs = [one.occurrence["data"]["prev"] for one in town.endpoint.taken]
        assert prevs[1] == town.endpoint.taken[0].occurrence["data"]["seq"]

    async def test_an_edited_policy_tells_everything_as_it_looks_then(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            await town.subscribe()
            await town.change(TEE=7, CAP=5)
            await town.endpoint.knows({"TEE": 7, "CAP": 5})
            await town.decide(buffer_units=2)
            await town.endpoint.knows({"TEE": 5, "CAP": 3})
        assert town.endpoint.accepted[-1].occurrence["truncated"] is True

    async def test_an_agent_of_another_tier_is_told_everything_as_that_tier_sees_it(
        self, redis_url: str
    ) -> None:
        async with open_town(redis_url) as town:
            await town.decide(buffer_units=2, scope={"tier": "gold"})
            await town.subscribe()
            await town.change(TEE=7)
            await town.endpoint.knows({"TEE": 7})
            holder = town.hub.directory.find_agent(town.site.merchant.key)
            assert holder is not None
            before, after = store.encode(holder), store.encode(replace(holder, tier="gold"))
            assert await store._write(town.hub.redis, holder.name, before, after) == b"written"
            await town.endpoint.knows({"TEE": 5})

    async def test_two_secrets_sign_for_a_while_after_a_rotation(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            made = await town.subscribe()
            heard = await town.ask("POST", f"/{made['id']}/rotate")
            rotated = json.loads(heard.body)
            assert rotated["secret"] != made["secret"]
            assert rotated["old_secret_until"]

            async def has_both() -> bool:
                await town.change(TEE=wall_ms() % 1000)
                return any(" " in one.headers["webhook-signature"] for one in town.endpoint.taken)

            await eventually(has_both)
            last = town.endpoint.taken[-1]
        last.verify(rotated["secret"])
        last.verify(made["secret"])
        assert last.headers["webhook-signature"].count(",") == 2

    async def test_after_the_overlap_only_the_new_secret_signs(self, redis_url: str) -> None:
        async with open_town(redis_url, tells=False) as town:
            object.__setattr__(town.hub.settings.secrets, "rotation_overlap_hours", 0)
            made = await town.subscribe()
            rotated = json.loads((await town.ask("POST", f"/{made['id']}/rotate")).body)
            async with telling(town.hub):
                await town.change(TEE=1)
                await town.endpoint.reached(1)
        town.endpoint.taken[0].verify(rotated["secret"])
        assert " " not in town.endpoint.taken[0].headers["webhook-signature"]

    async def test_a_test_is_sent_at_once_and_only_once_and_found_in_the_log(self, redis_url: str) -> None:
        async with open_town(redis_url, tells=False) as town:
            made = await town.subscribe()
            async with telling(town.hub):
                heard = await town.ask("POST", f"/{made['id']}/test")
                assert heard.status == 202
                await town.endpoint.reached(1)
                [one] = town.endpoint.taken
                one.verify(made["secret"])
                assert one.occurrence["name"] == "subscription.test"
                assert one.id == json.loads(heard.body)["eventId"]
                await town.has_logged(made["id"], "delivered")
                [line] = await town.attempts(made["id"])
            # Who has the lane next finds that it has been done.
            async with telling(town.hub):
                await town.change(TEE=1)
                await town.endpoint.knows({"TEE": 1})
        assert (line["name"], line["eventId"], line["status"]) == ("subscription.test", one.id, 200)
        assert len(town.endpoint.taken) == 2


class TestFailing:
    async def test_every_kind_of_failure_is_retried_under_one_id_until_it_is_taken(
        self, redis_url: str
    ) -> None:
        async def cut_off(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        async with open_town(redis_url) as town:
            made = await town.subscribe()
            town.endpoint.answers = [500, 404, 302, 304, 101, cut_off, 503, 429, 204]
            await town.change(TEE=1)
            await eventually(lambda: len(town.endpoint.accepted) == 1)
            await town.has_logged(made["id"], "delivered")
            lines = await town.attempts(made["id"])
        assert len(set(town.endpoint.ids)) == 1
        assert len(town.endpoint.taken) == 9
        outcomes = [line["outcome"] for line in lines]
        assert outcomes == [
            *("failed", "refused", "redirected", "redirected", "failed"),
            *("unreachable", "failed", "throttled", "delivered"),
        ]
        assert all(line["retry_at"] for line in lines[:-1])
        assert {one.headers["webhook-signature"] for one in town.endpoint.taken if one.headers}

    async def test_a_retry_tells_the_state_of_its_own_time(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            await town.subscribe()
            town.endpoint.status = 500
            await town.change(TEE=1)
            await town.endpoint.reached(1)
            await town.change(TEE=2)
            town.endpoint.status = 200
            await eventually(lambda: bool(town.endpoint.accepted))
            assert town.endpoint.accepted[0].id == town.endpoint.taken[0].id
            assert town.endpoint.accepted[0].items == {"TEE": 2}
            # Its own change has a later position, so it comes again under an id of its own.
            await eventually(lambda: len(town.endpoint.accepted) == 2)
        assert town.endpoint.accepted[1].items == {"TEE": 2}

    async def test_a_redirect_is_not_followed(self, redis_url: str) -> None:
        async with Endpoint().serving() as elsewhere, open_town(redis_url) as town:

            async def move(_: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": elsewhere.url})

            made = await town.subscribe()
            town.endpoint.answers = [move, move]
            await town.change(TEE=1)
            await town.has_logged(made["id"], "delivered")
        assert elsewhere.taken == []

    async def test_who_hangs_is_given_up_in_time(self, redis_url: str) -> None:
        async with open_town(redis_url, subscriptions={"timeout_ms": 100}) as town:
            made = await town.subscribe()
            town.endpoint.gate = asyncio.Event()
            await town.change(TEE=1)
            await town.has_logged(made["id"], "timed_out")
            town.endpoint.gate.set()
            await town.has_logged(made["id"], "delivered")
        assert len(set(town.endpoint.ids)) == 1

    async def test_an_answer_counts_though_its_body_does_not_end(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("synchub.subscriptions.sending.BODY_WAIT_S", 60)
        sent = asyncio.Event()

        async def drip(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(status=200)
            await answer.prepare(request)
            sent.set()
            while True:
                await answer.write(b"x" * 20_000)
                await asyncio.sleep(0)

        async with open_town(redis_url) as town:
            made = await town.subscribe()
            town.endpoint.answers = [drip]
            await town.change(TEE=1)
            await town.has_logged(made["id"], "delivered")
            await town.change(TEE=2)
            await town.endpoint.reached(2)
        assert sent.is_set()
        assert len(set(town.endpoint.ids)) == 2

    async def test_an_answer_counts_though_its_body_stops_half_way(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("synchub.subscriptions.sending.BODY_WAIT_S", 0.05)
        gate = asyncio.Event()

        async def stop(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(status=200)
            await answer.prepare(request)
            await answer.write(b"half")
            await gate.wait()
            return answer

        async with open_town(redis_url) as town:
            made = await town.subscribe()
            town.endpoint.answers = [stop]
            await town.change(TEE=1)
            await town.has_logged(made["id"], "delivered")
            gate.set()

    async def test_a_pause_that_is_asked_for_is_kept_up_to_the_longest(self, redis_url: str) -> None:
        async with open_town(redis_url, subscriptions={"retry_max_ms": 700}) as town:
            made = await town.subscribe()

            async def later(_: web.Request) -> web.StreamResponse:
                return web.Response(status=429, headers={"Retry-After": "3600"})

            town.endpoint.answers = [later]
            asked_ms = now_ms()
            await town.change(TEE=1)
            await town.has_logged(made["id"], "delivered")
        assert now_ms() - asked_ms >= 700

    async def test_410_ends_the_subscription(
        self, redis_url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with open_town(redis_url) as town:
            made = await town.subscribe()
            town.endpoint.status = 410
            await town.change(TEE=1)
            await town.becomes(made["id"], "ended")
            await town.change(TEE=2)
            shown = await town.show(made["id"])
            assert shown["reason"] == "gone"
            heard = await town.ask("POST", f"/{made['id']}/renew")
            assert (heard.status, heard.problem["code"]) == (409, "conflict")
            # What has ended gives way to a new one.
            await town.subscribe()
        assert len(town.endpoint.taken) == 1

    async def test_who_has_failed_too_long_is_left_alone_and_catches_up_when_it_returns(
        self, redis_url: str
    ) -> None:
        over = metrics.subscriptions_over.labels("disabled")
        before = over._value.get()
        async with open_town(redis_url, subscriptions={"disable_after_ms": 200}) as town:
            made = await town.subscribe()
            town.endpoint.status = 500
            await town.change(TEE=1)
            await town.becomes(made["id"], "disabled")
            await town.has_logged(made["id"], "disabled")
            assert over._value.get() == before + 1
            shown = await town.show(made["id"])
            assert (shown["reason"], shown["next_attempt_at"]) == ("failed", None)
            tried = len(town.endpoint.taken)
            for number in range(2, 5):
                await town.change(TEE=number, CAP=number)
            town.endpoint.status = 200
            heard = await town.ask("POST", f"/{made['id']}/renew")
            assert json.loads(heard.body)["status"] == "active"
            await town.endpoint.knows({"TEE": 4, "CAP": 4})
            await town.has_logged(made["id"], "resumed")
        assert town.endpoint.taken[tried - 1].id == town.endpoint.accepted[0].id

    async def test_a_breaker_holds_back_and_tries_by_single_requests(self, redis_url: str) -> None:
        limits = Limits(window=10, calls_min=4, open_ms=60_000, open_max_ms=60_000, trials=1)
        async with open_town(redis_url, breaker=limits) as town:
            made = await town.subscribe()
            town.endpoint.status = 500
            await town.change(TEE=1)
            await eventually(lambda: metrics.push_breakers_open._value.get() == 1)
            assert len(town.endpoint.taken) == 4
            # A test that is taken shows that the endpoint is back.
            town.endpoint.status = 200
            await town.ask("POST", f"/{made['id']}/test")
            await town.endpoint.knows({"TEE": 1})

    async def test_being_asked_to_wait_is_no_failure_to_the_breaker(self, redis_url: str) -> None:
        limits = Limits(window=4, calls_min=2, open_ms=60_000, trials=1)
        async with open_town(redis_url, breaker=limits) as town:
            await town.subscribe()
            town.endpoint.answers = [429] * 6
            await town.change(TEE=1)
            await town.endpoint.knows({"TEE": 1})

    async def test_endpoints_that_failed_last_have_a_quarter_of_the_requests(self, redis_url: str) -> None:
        hanging, peak = 0, 0
        gate = asyncio.Event()

        async def hang(_: web.Request) -> web.StreamResponse:
            nonlocal hanging, peak
            hanging += 1
            peak = max(peak, hanging)
            await gate.wait()
            hanging -= 1
            return web.Response()

        async with AsyncExitStack() as stack:
            dead = [await stack.enter_async_context(Endpoint().serving()) for _ in range(4)]
            limits = {"at_once": 4, "timeout_ms": 30_000}
            town = await stack.enter_async_context(open_town(redis_url, subscriptions=limits))
            for endpoint in dead:
                endpoint.answers = [500, hang]
                await town.subscribe(url=endpoint.url)
            await town.subscribe()
            await town.change(TEE=1)
            await eventually(lambda: hanging == 1 and all(endpoint.taken for endpoint in dead))
            await town.change(TEE=2)
            await town.endpoint.knows({"TEE": 2})
            gate.set()
            for endpoint in dead:
                await endpoint.knows({"TEE": 2})
        assert peak == 1

    async def test_a_dead_endpoint_does_not_hold_up_another(self, redis_url: str) -> None:
        limits = {"at_once": 2, "timeout_ms": 30_000}
        async with Endpoint().serving() as dead, open_town(redis_url, subscriptions=limits) as town:
            dead.gate = asyncio.Event()
            await town.subscribe(url=dead.url)
            await town.subscribe()
            await town.change(TEE=1)
            await dead.reached(1)
            for number in range(2, 5):
                await town.change(TEE=number)
                await town.endpoint.knows({"TEE": number})
            dead.gate.set()


class TestOver:
    async def test_a_grant_that_runs_out_ends_the_telling_until_it_is_renewed(self, redis_url: str) -> None:
        async with open_town(redis_url, subscriptions={"grant_ms": 1500}) as town:
            made = await town.subscribe()
            await town.becomes(made["id"], "expired")
            await town.has_logged(made["id"], "expired")
            await town.change(TEE=1)
            heard = await town.ask("POST", f"/{made['id']}/renew")
            assert json.loads(heard.body)["status"] == "active"
            await town.endpoint.knows({"TEE": 1})
        assert len(town.endpoint.taken) == 1

    async def test_a_revoked_key_ends_what_was_made_with_it(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            merchant = town.site.merchant
            issued = await agents.add_agent(town.hub.redis, NewAgent(merchant=merchant.name, name="other"))
            await eventually(lambda: town.hub.directory.find_agent(issued.key) is not None)
            about = {"url": town.endpoint.url}
            heard = await town.ask("POST", key=issued.key, **about)
            assert heard.status == 201
            await town.change(TEE=1)
            await town.endpoint.reached(1)
            await agents.revoke_agent(town.hub.redis, "other")
            key = push_keys.subscriptions(merchant.name)

            async def is_gone() -> bool:
                return not await town.hub.client.exists(key)

            await eventually(is_gone, what="the subscription's end")
            await town.change(TEE=2)
            left = await town.hub.client.keys("*lane:*")
            assert left == []
        assert len(town.endpoint.taken) == 1

    async def test_who_deletes_is_told_nothing_more_and_leaves_nothing(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            made = await town.subscribe()
            await town.change(TEE=1)
            await town.has_logged(made["id"], "delivered")
            heard = await town.ask("DELETE", f"/{made['id']}")
            assert heard.status == 200
            await town.change(TEE=2)
            assert (await town.ask("GET", f"/{made['id']}")).status == 404
            assert await town.hub.client.keys("*lane:*") == []
            assert await town.hub.redis.execute("HGETALL", push_keys.subscription_news()) == []
        assert len(town.endpoint.taken) == 1


class TestRedriving:
    async def test_everything_after_a_cursor_is_told_again_under_other_ids(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            made = await town.subscribe()
            for number in range(1, 4):
                await town.change(TEE=number, CAP=number)
                await town.endpoint.knows({"TEE": number, "CAP": number})
            before = list(town.endpoint.taken)
            cursor = before[0].occurrence["cursor"]
            heard = await town.ask("POST", f"/{made['id']}/redrive", **{"from": cursor})
            assert heard.status == 202
            await eventually(lambda: len(town.endpoint.taken) > len(before))
        again = town.endpoint.taken[len(before)]
        assert again.items == {"TEE": 3, "CAP": 3}
        assert again.id not in {one.id for one in before}
        assert again.occurrence["data"]["prev"] == before[0].occurrence["data"]["seq"]

    async def test_a_trimmed_stream_is_made_up_for_by_states(self, redis_url: str) -> None:
        async with open_town(redis_url, tells=False) as town:
            await town.subscribe()
            await town.change(TEE=1, CAP=1)
            await town.change(TEE=2, HAT=2)
            await town.hub.client.xtrim(town.site.merchant.keys.feed, maxlen=1, approximate=False)
            async with telling(town.hub):
                await town.endpoint.knows({"TEE": 2, "CAP": 1, "HAT": 2})
        assert town.endpoint.taken[0].occurrence["truncated"] is True

    async def test_another_history_is_told_from_its_beginning(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            await town.subscribe()
            await town.change(TEE=1, CAP=1)
            await town.endpoint.knows({"TEE": 1, "CAP": 1})
            told = len(town.endpoint.taken)
            await town.hub.redis.execute("HSET", town.site.merchant.keys.head, "epoch", "another-history")
            await eventually(lambda: len(town.endpoint.taken) > told)
        again = town.endpoint.taken[-1]
        assert again.items == {"TEE": 1, "CAP": 1}
        assert again.occurrence["truncated"] is True
        assert again.occurrence["cursor"].startswith("another-history:")


class TestWorkers:
    async def test_what_a_dead_worker_had_in_hand_is_sent_again_under_its_id(self, redis_url: str) -> None:
        async with open_town(redis_url, tells=False) as town:
            await town.subscribe()
            town.endpoint.gate = asyncio.Event()
            async with telling(town.hub):
                await town.change(TEE=1)
                await town.endpoint.reached(1)
                await town.change(TEE=2)
            # Sent, perhaps taken, and nobody has written down that it was.
            town.endpoint.gate.set()
            async with telling(town.hub):
                await eventually(lambda: len(town.endpoint.taken) >= 3)
        first, again, last = town.endpoint.taken[:3]
        assert again.id == first.id
        assert again.occurrence["cursor"] == first.occurrence["cursor"]
        assert last.id != first.id
        assert last.items == {"TEE": 2}

    async def test_a_worker_that_ends_lets_another_take_over_at_once(self, redis_url: str) -> None:
        async with open_town(redis_url, tells=False) as town:
            await town.subscribe()
            lease = push_keys.push_lease(town.site.merchant.keys.tag)
            async with telling(town.hub):
                await town.change(TEE=1)
                await town.endpoint.knows({"TEE": 1})
                assert await town.hub.redis.execute("EXISTS", lease) == 1
            assert await town.hub.redis.execute("EXISTS", lease) == 0

    async def test_two_workers_tell_everything_once(self, redis_url: str) -> None:
        async with open_town(redis_url) as town, telling(town.hub):
            await town.subscribe()
            for number in range(1, 6):
                await town.change(TEE=number)
                await town.endpoint.knows({"TEE": number})
        assert len(set(town.endpoint.ids)) == len(town.endpoint.ids)
        assert town.endpoint.most_at_once == 1

    async def test_a_worker_without_its_lease_sends_nothing(self, redis_url: str) -> None:
        async with open_town(redis_url) as town:
            made = await town.subscribe()
            await town.change(TEE=1)
            await town.has_logged(made["id"], "delivered")
            lease = push_keys.push_lease(town.site.merchant.keys.tag)
            await town.hub.client.set(lease, "somebody else")
            await town.change(TEE=2)
            await town.change(TEE=3)
            assert len(town.endpoint.taken) == 1
            await town.hub.client.delete(lease)
            await town.endpoint.knows({"TEE": 3})

    async def test_an_idle_lane_gets_further_without_telling_anything(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("synchub.subscriptions.lanes.CHECKPOINT_S", 0.05)
        async with open_town(redis_url) as town:
            made = await town.subscribe(skus=["TEE"])
            before = made["cursor"]
            await town.change(CAP=1)

            async def has_moved() -> bool:
                return bool((await town.show(made["id"]))["cursor"] != before)

            await eventually(has_moved)
        assert town.endpoint.taken == []


async def test_many_subscribers_of_several_kinds_end_with_the_truth(redis_url: str) -> None:
    async with open_town(redis_url, subscriptions={"items_max": 3, "pending_max": 4}) as town:
        filters: list[dict[str, Any]] = [{"skus": ["A1", "B2"]}, {"prefix": "A"}, {}]
        endpoints = [Endpoint() for _ in filters]
        async with endpoints[0].serving(), endpoints[1].serving(), endpoints[2].serving():
            for endpoint, about in zip(endpoints, filters, strict=True):
                await town.subscribe(url=endpoint.url, **about)
            truth: dict[str, int] = {}
            for number in range(1, 9):
                for one in endpoints:
                    one.answers = [500] if number % 3 == 0 else []
                units = {f"{kind}{place}": number * 10 + place for kind in "AB" for place in range(1, 5)}
                truth |= units
                await change(town.site, **units)
            for endpoint, about in zip(endpoints, filters, strict=True):
                wanted = {sku: units for sku, units in truth.items() if _matches(about, sku)}
                await endpoint.knows(wanted)
        for endpoint in endpoints:
            seqs = [one.occurrence["data"]["seq"] for one in endpoint.accepted]
            assert seqs == sorted(seqs)
            prevs = [one.occurrence["data"]["prev"] for one in endpoint.accepted]
            assert prevs[1:] == seqs[:-1]
            assert not any(one.occurrence["truncated"] for one in endpoint.accepted)


def _matches(about: dict[str, Any], sku: str) -> bool:
    skus = about.get("skus")
    return sku in skus if isinstance(skus, list) else sku.startswith(str(about.get("prefix", "")))
