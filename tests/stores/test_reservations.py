"""The scripts of holds on a real store: deadlines under many holds, time that is set, counts, memory."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.agents.model import Rate
from synchub.keyspace import MerchantKeys
from synchub.policies.model import Conflict, Terms
from synchub.redis import open_redis
from synchub.reservations import store
from synchub.reservations.model import Asker, Change, Mode, Verb, Wanted, WantedLine
from synchub.reservations.rules import refusal_of, reservation_of
from synchub.reservations.store import Answered, ChangeRequest, Request
from synchub.settings import RedisSettings, Settings, load_settings
from synchub.stock import store as stock
from tests.support.rows import push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio as aioredis

    from synchub.redis import Part
    from synchub.reservations.model import Reservation
    from synchub.stock.model import Lapsed

START: Final = 1_795_255_200_000
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
KEYS: Final = MerchantKeys("acme")
UNLIMITED: Final = Rate(interval_us=1, burst=1_000_000)
# Made here, because that reads files.
SETTINGS: Final = {
    clock: load_settings(stock={"clock": clock}, reservations={"remember_hours": 1})
    for clock in ("proposed", "guarded")
}
_numbers = count(1)


class Books:
    """One merchant's scripts, called at whatever time the caller believes in."""

    def __init__(self, client: aioredis.Redis, clock: str) -> None:
        self.client: Any = client
        self.settings: Settings = SETTINGS[clock]

    async def execute(self, *command: Part) -> Any:
        return await self.client.execute_command(*command)

    async def stock_up(self, units: int, at: int, sku: str = "TEE") -> None:
        version = next(_numbers)
        row = push(units, version=version, at=at, item=sku)
        (applied,) = await stock.apply_rows(self, KEYS, [row], now_ms=at, settings=self.settings)
        assert applied.outcome == "applied", applied

    async def ask(
        self,
        at: int,
        *units: int,
        once: str = "",
        terms: Terms | None = None,
        ttl_ms: int = 2000,
        sku: str = "TEE",
        **about: str,
    ) -> list[Answered]:
        """Ask for holds of so many units each, in one step."""
        asked = {"agent": "bot", "tier": "", "channel": "", "buyer": "", "session": ""} | about
        wanted = [
            Wanted(
                asker=Asker(keys=KEYS, **asked),
                lines=(WantedLine(sku=sku, quantity=n, terms=terms or Terms(version=0)),),
                mode=Mode.HOLD,
                ttl_ms=ttl_ms,
                expected_seq=None,
                replaces="",
            )
            for n in units
        ]
        key = f"bot:{once}" if once else ""
        requests = [Request(wanted=one, once=key, fingerprint="", policy=0, rate=UNLIMITED) for one in wanted]
        return await store.grant(self, KEYS, requests, now_ms=at, settings=self.settings)

    async def hold(self, at: int, units: int = 1, **about: Any) -> Reservation:
        """Get one hold; a step that only ended others is repeated as the hub does."""
        (answer,) = await self.ask(at, units, **about)
        while answer.did == "again":
            (answer,) = await self.ask(at, units, **about)
        assert answer.did == "held", answer
        return reservation_of(answer.first)

    async def change(self, at: int, verb: Verb, hold: str, *, once: str = "", **about: Any) -> Answered:
        """Do something to a hold."""
        wanted = Change(verb=verb, hold=hold, **about)
        request = ChangeRequest(
            change=wanted, agent="bot", once=once and f"bot:{once}", fingerprint=repr(wanted), rate=UNLIMITED
        )
        return await store.change(self, KEYS, request, now_ms=at, settings=self.settings)

    async def reap(self, at: int) -> Lapsed:
        return await stock.lapse(self, KEYS, now_ms=at, settings=self.settings)

    async def reap_all(self, at: int) -> None:
        while (await self.reap(at)).left:
            pass

    async def answer(self) -> tuple[int, int]:
        """Units to sell, and units held."""
        reading = await stock.read_answers(self, KEYS, ["TEE"])
        return reading.answers[0].ats, reading.answers[0].held

    async def clock(self) -> int:
        return int(await self.client.hget(KEYS.head, "clock"))

    async def set_head(self, **fields: int) -> None:
        await self.client.hset(KEYS.head, mapping={name: str(value) for name, value in fields.items()})


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aioredis.Redis]:
    opened: Any = open_redis(RedisSettings(url=redis_url))
    role = "A|1|900000000|s|m|0|0|1|0"
    await opened.hset(KEYS.roles, "wms", role)
    yield opened
    await opened.aclose()


@pytest.fixture
async def books(client: aioredis.Redis) -> Books:
    """A merchant whose time is what callers say."""
    one = Books(client, "proposed")
    await one.stock_up(1000, START)
    return one


# Deadlines under many holds


async def test_more_holds_than_one_step_ends_are_all_over_at_their_deadline(books: Books) -> None:
    for _ in range(10):
        await books.ask(START, *[1] * 20)
    assert await books.answer() == (800, 200)
    over = START + 2000
    # Nothing is decided on units that nobody holds any more: each step ends 64 holds, and says so.
    dids = [(await books.ask(over, 1000))[0].did for _ in range(4)]
    assert dids == ["again", "again", "again", "held"]
    assert await books.answer() == (0, 1000)


async def test_no_hold_is_bought_after_its_deadline_however_many_end_with_it(books: Books) -> None:
    first = await books.hold(START)
    for _ in range(10):
        await books.ask(START, *[1] * 20)
    last = await books.hold(START)
    for hold in (first, last):
        for verb in Verb:
            answer = await books.change(START + 2000, verb, hold.id, ttl_ms=2000)
            while answer.did == "again":
                answer = await books.change(START + 2000, verb, hold.id, ttl_ms=2000)
            assert answer.did == "hold_expired"
            assert reservation_of(answer.now).status == "expired"


async def test_a_deadline_is_the_first_moment_after_the_hold(books: Books) -> None:
    hold = await books.hold(START)
    assert (await books.change(START + 1999, Verb.RENEW, hold.id, ttl_ms=1000)).did == "done"
    assert (await books.change(START + 2998, Verb.COMMIT, hold.id)).did == "done"
    other = await books.hold(START + 2998)
    assert (await books.change(START + 4998, Verb.COMMIT, other.id)).did == "hold_expired"


async def test_the_reaper_ends_what_is_over_step_by_step(books: Books) -> None:
    for _ in range(10):
        await books.ask(START, *[1] * 20)
    steps = [await books.reap(START + 2000) for _ in range(4)]
    assert [(step.done, step.left) for step in steps] == [(64, 136), (64, 72), (64, 8), (8, 0)]
    assert await books.answer() == (1000, 0)


async def test_what_time_has_ended_has_an_entry_for_each_line(books: Books) -> None:
    await books.ask(START, *[1] * 100)
    await books.reap_all(START + 2000)
    entries = await books.client.xrange(KEYS.ledger)
    ends = [fields for _, fields in entries if fields[b"field"] == b"hold" and fields[b"to"] == b"expired"]
    assert len(ends) == 100
    assert {fields[b"cause"] for fields in ends} == {b"deadline"}


async def test_a_dead_hold_named_by_an_order_is_dead_before_the_reaper_came(books: Books) -> None:
    await books.ask(START, *[1] * 64)
    hold = await books.hold(START)
    (seen,) = [await store.read(books, KEYS, hold.id, now_ms=START + 2000, settings=books.settings)]
    stored, now = seen
    assert reservation_of(stored).expires_ms <= now


async def test_what_ends_in_one_step_is_told_in_the_order_of_its_sequences(books: Books) -> None:
    await books.stock_up(2, START, "MUG")
    terms = Terms(version=0, confirm_ms=1000, conflict=Conflict.VOID)
    bought = await books.hold(START, 2, sku="MUG", terms=terms)
    assert (await books.change(START, Verb.COMMIT, bought.id)).did == "done"
    await books.stock_up(1, START, "MUG")
    await books.hold(START, 3, ttl_ms=1000)
    # A hold ends and a sale is taken back at one moment: the second must not be told before the first.
    await books.reap_all(START + 1000)
    assert await books.answer() == (1000, 0)
    feed = await books.client.xrange(KEYS.feed)
    told = [(int(name.split(b"-")[0]), int(fields[b"p"]), fields[b"sku"]) for name, fields in feed]
    assert [sku for _, _, sku in told[-2:]] == [b"TEE", b"MUG"]
    assert [before for _, before, _ in told[1:]] == [seq for seq, _, _ in told[:-1]]


# First come, first served


async def test_grants_of_one_step_are_decided_in_their_order(books: Books) -> None:
    await books.stock_up(10, START + 1)
    answers = await books.ask(START + 1, 4, 7, 6, 1)
    assert [answer.did for answer in answers] == ["held", "refused", "held", "refused"]
    assert [refusal_of(answers[n].first).available for n in (1, 3)] == [6, 0]


async def test_times_of_grants_never_repeat_nor_step_back(books: Books) -> None:
    times = []
    for at in (START, START, START + 5, START - 120_000, START + 1_000_000, START):
        answers = await books.ask(at, *[1] * 20)
        while answers[0].did == "again":
            answers = await books.ask(at, *[1] * 20)
        times += [reservation_of(answer.first).granted_us for answer in answers]
    assert times == sorted(set(times))


# Time that is set


@pytest.fixture
async def guarded(client: aioredis.Redis) -> Books:
    """A merchant whose time is guarded by the store's own."""
    one = Books(client, "guarded")
    server = await one.client.time()
    await one.stock_up(1000, server[0] * 1000)
    return one


async def server_ms(books: Books) -> int:
    seconds, micros = await books.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


@pytest.mark.parametrize("step_ms", [-120_000, 120_000])
async def test_a_caller_whose_clock_was_set_moves_no_deadline(guarded: Books, step_ms: int) -> None:
    at = await server_ms(guarded)
    hold = await guarded.hold(at, ttl_ms=60_000)
    began = await guarded.clock(), await server_ms(guarded)
    for _ in range(50):
        odd = await server_ms(guarded) + step_ms
        await guarded.reap(odd)
        await guarded.hold(odd, ttl_ms=60_000)
        await guarded.reap(await server_ms(guarded))
    moved, passed = await guarded.clock() - began[0], await server_ms(guarded) - began[1]
    assert passed - 60 <= moved <= passed + 60
    assert (await guarded.change(at + 120_000, Verb.RENEW, hold.id, ttl_ms=1000)).did == "done"


async def test_new_processes_that_do_not_agree_move_no_deadline(guarded: Books) -> None:
    at = await server_ms(guarded)
    hold = await guarded.hold(at, ttl_ms=60_000)
    began = await guarded.clock(), await server_ms(guarded)
    for step_ms in (120_000, -120_000, 3_600_000, -3_600_000, 86_400_000, 0):
        await guarded.reap(at + step_ms)
    assert abs(await guarded.clock() - began[0] - (await server_ms(guarded) - began[1])) < 60
    stored, now = await store.read(guarded, KEYS, hold.id, now_ms=at + 120_000, settings=guarded.settings)
    assert reservation_of(stored).expires_ms - now > 50_000


async def test_the_stores_own_clock_set_ahead_counts_only_as_far_as_callers_confirm_it(
    guarded: Books,
) -> None:
    at = await server_ms(guarded)
    hold = await guarded.hold(at, ttl_ms=60_000)
    # As if the server had been two minutes behind when the clock was measured last.
    clock = await guarded.clock()
    await guarded.set_head(clock_at=at - 120_000)
    await guarded.reap(clock)
    assert await guarded.clock() - clock <= 1000
    assert (await guarded.change(at, Verb.RENEW, hold.id, ttl_ms=1000)).did == "done"


async def test_the_stores_own_clock_set_back_stops_no_time(guarded: Books) -> None:
    at = await server_ms(guarded)
    await guarded.set_head(clock_at=at + 120_000)
    before = await guarded.clock()
    await guarded.reap(at)
    assert await guarded.clock() >= before
    await guarded.set_head(clock_at=await server_ms(guarded) - 500)
    await guarded.reap(at)
    assert await guarded.clock() - before >= 450


# Counts and memory


async def test_counts_are_those_of_a_day(books: Books) -> None:
    terms = Terms(version=0, units_per_agent=5, units_per_buyer=4, channel_cap=6)
    about: dict[str, Any] = {"terms": terms, "buyer": "anna", "channel": "chat", "ttl_ms": 60_000}
    midnight = (START // DAY_MS + 1) * DAY_MS
    evening = await books.hold(midnight - 10, 4, **about)
    assert (await books.ask(midnight - 5, 1, **about))[0].did == "refused"
    morning = await books.hold(midnight, 4, **about)
    # What is given back is given back to the day on which it was taken.
    await books.change(midnight, Verb.RELEASE, evening.id)
    assert (await books.ask(midnight, 1, **about))[0].did == "refused"
    await books.change(midnight, Verb.RELEASE, morning.id)
    await books.hold(midnight, 4, **about)
    days = [name.decode().rsplit(":", 1)[1] for name in await books.client.keys(f"{KEYS.tag}counts:*")]
    assert sorted(days) == [str(midnight // DAY_MS - 1), str(midnight // DAY_MS)]
    for day in days:
        left_ms = await books.client.pttl(f"{KEYS.tag}counts:{day}")
        assert 2 * DAY_MS < left_ms <= 3 * DAY_MS


async def test_who_has_no_limit_is_not_counted(books: Books) -> None:
    await books.hold(START, 4, buyer="anna", channel="chat")
    assert await books.client.keys(f"{KEYS.tag}counts:*") == []


async def test_what_is_over_is_remembered_so_long_and_no_longer(books: Books) -> None:
    held = [await books.hold(START, 1, once=f"k{n}") for n in range(3)]
    await books.change(START, Verb.COMMIT, held[0].id, order="1001")
    await books.change(START, Verb.RELEASE, held[1].id)
    await books.reap_all(START + 2000)
    assert await known(books) == {hold.id for hold in held}
    await books.reap_all(START + HOUR_MS)
    assert await known(books) == {held[2].id}
    await books.reap_all(START + 2000 + HOUR_MS)
    assert await known(books) == set()
    # What was sold is still sold.
    assert await books.answer() == (999, 0)
    left_ms = await books.client.pttl(f"{KEYS.tag}once:bot:k0")
    assert HOUR_MS - 60_000 < left_ms <= HOUR_MS


async def test_nothing_is_left_of_a_hold_but_what_was_sold(books: Books) -> None:
    before = await lasting_keys(books)
    hold = await books.hold(START, 3, once="k")
    await books.change(START, Verb.RELEASE, hold.id)
    await books.reap_all(START + HOUR_MS)
    assert await lasting_keys(books) - before == set()


async def lasting_keys(books: Books) -> set[bytes]:
    return {name for name in await books.client.keys("*") if await books.client.pttl(name) == -1}


async def known(books: Books) -> set[str]:
    return {name.decode() for name in await books.client.hkeys(f"{KEYS.tag}holds")}
