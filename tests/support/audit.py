"""Compares what a hub did with what it had answered: ledger, numbers, feed, and the reference model.

Every sentence of an audit is a broken promise; an empty list is what all fault
tests want. It reads the store itself and uses no code of the hub but key names.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from synchub.connector_kit.delivery import Delivery
from synchub.keyspace import dead_letters, ingest_stream, quarantine
from tests.support.load import BASE, LEVELS
from tests.support.merchants import CONNECTORS
from tests.support.reference_answer import Role
from tests.support.reference_model import ReferenceModel
from tests.support.rows import delta, push
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis

    from tests.support.load import Load, Sent
    from tests.support.merchants import Merchant
    from tests.support.reader import FeedReader

_MAX_AGE_MS: Final = 900_000


class HasClient(Protocol):
    """A store that can be looked into."""

    def client(self) -> Redis:
        """A new client whose answers are text; close it after use."""


class Entry(NamedTuple):
    """One entry of a stream whose ids are sequences."""

    seq: int
    fields: dict[str, str]


async def drained(valkey: HasClient, *, within_s: float = 20) -> None:
    """Return when no delivery waits any more."""
    with valkey.client() as client:
        await eventually(
            lambda: client.xlen(ingest_stream()) == 0, within_s=within_s, what="an empty ingest stream"
        )


async def audit(valkey: HasClient, load: Load, reader: FeedReader | None = None) -> list[str]:
    """Return every broken promise, after the reader has reached the head."""
    with valkey.client() as client:
        merchant = load.merchant
        head = client.hgetall(merchant.keys.head)
        if reader is not None:
            await reader.reach(int(head["feed_seq"]))
        ledger, feed = _read(client, merchant.keys.ledger), _read(client, merchant.keys.feed)
        answers = _answers(client, merchant)
        return [
            *_chains(head, ledger, feed),
            *_links(ledger),
            *_put_aside(client),
            *_once(load.sent, ledger),
            *_numbers(load.sent, ledger, answers),
            *_model(merchant, load.sent, ledger, answers),
            *(_told(reader, answers) if reader is not None else ()),
        ]


def _read(client: Any, stream: str) -> list[Entry]:
    entries: list[Any] = client.xrange(stream)
    return [Entry(int(name.split("-")[0]), fields) for name, fields in entries]


def _answers(client: Any, merchant: Merchant) -> dict[str, list[str]]:
    """The stored answer of each SKU: version, sequence, number, known, and so on."""
    skus: list[str] = client.zrange(merchant.keys.skus, 0, -1)
    return {sku: str(client.hget(merchant.keys.sku(sku), "answer")).split("|") for sku in skus}


def _chains(head: dict[str, str], ledger: Sequence[Entry], feed: Sequence[Entry]) -> Iterable[str]:
    if [entry.seq for entry in ledger] != list(range(1, int(head["seq"]) + 1)):
        yield f"the ledger does not count from 1 to {head['seq']} without a gap"
    if [int(entry.fields["p"]) for entry in feed] != [0, *(entry.seq for entry in feed)][:-1]:
        yield "an entry of the feed does not continue the one before"
    if feed and feed[-1].seq != int(head["feed_seq"]):
        yield f"the feed ends at {feed[-1].seq}, its head says {head['feed_seq']}"


def _links(ledger: Sequence[Entry]) -> Iterable[str]:
    """Each effect begins where the effect before on the same source has ended."""
    last: dict[tuple[str, ...], str] = {}
    for entry in ledger:
        fields = entry.fields
        if fields["field"] not in {"level", "delta", "status"}:
            continue
        source = (fields["sku"], fields["acc"], fields["item"], fields["loc"])
        if last.get(source, "") != fields["from"]:
            yield f"entry {entry.seq} does not begin where the one before it ended"
        last[source] = fields["to"]


def _put_aside(client: Any) -> Iterable[str]:
    for where in (quarantine(), dead_letters()):
        if client.xlen(where):
            yield f"{client.xlen(where)} deliveries in {where}: {client.xrevrange(where, count=1)}"


def _once(sent: Sequence[Sent], ledger: Sequence[Entry]) -> Iterable[str]:
    effects = _effects(ledger)
    for one in sent:
        count = effects[cause_of(one)]
        if count > 1:
            yield f"{one.id} has {count} effects"
        elif one.is_accepted and not one.is_level and count == 0:
            yield f"{one.id} was accepted and has no effect"
        elif one.is_refused and count:
            yield f"{one.id} was refused ({one.code}) and has an effect"


def _numbers(sent: Sequence[Sent], ledger: Sequence[Entry], answers: dict[str, list[str]]) -> Iterable[str]:
    effects = _effects(ledger)
    for sku, of_sku in _by_sku(sent).items():
        number = int(answers[sku][2]) if sku in answers else None
        counted = [one.number for one in of_sku if effects[cause_of(one)]]
        accepted = [one.number for one in of_sku if one.is_accepted]
        if all(one.is_level for one in of_sku):
            wanted = max(counted, default=None)
            if max(accepted, default=0) > (number or 0):
                yield f"{sku} is {number}, and {max(accepted)} was accepted"
        else:
            wanted = BASE + sum(one.number for one in of_sku if not one.is_level and effects[cause_of(one)])
        if number != wanted:
            yield f"{sku} is {number} and should be {wanted}"


def _model(
    merchant: Merchant, sent: Sequence[Sent], ledger: Sequence[Entry], answers: dict[str, list[str]]
) -> Iterable[str]:
    """The reference model, told every delivery that had an effect, comes to the same numbers."""
    model = ReferenceModel()
    role = Role(kind="A", rank=1, max_age=_MAX_AGE_MS, own_items=True, own_places=True)
    model.set_role(merchant.account, role)
    effects = _effects(ledger)
    # A change that is not ordered by the platform counts by its arrival; levels come in front of changes.
    counted = sorted((one for one in sent if effects[cause_of(one)]), key=lambda one: not one.is_level)
    for at, one in enumerate(counted, 1):
        about: dict[str, Any] = {"at": at, "account": merchant.account, "item": one.sku}
        if one.is_level:
            version = one.number if one.sku.startswith(LEVELS) else 1
            model.apply([push(one.number, version=version, **about)], at)
        else:
            model.apply([delta(one.number, op=one.id, **about)], at)
    for sku in model.skus():
        expected = model.answer(sku)
        if sku not in answers or (expected.ats, expected.known) != (
            int(answers[sku][2]),
            answers[sku][4] == "1",
        ):
            yield f"{sku} is {answers.get(sku)} and the model says {expected}"


def _told(reader: FeedReader, answers: dict[str, list[str]]) -> Iterable[str]:
    yield from reader.broken
    told = {sku: (item["ver"], item["available"]) for sku, item in reader.items.items()}
    stored = {sku: (int(parts[0]), max(0, int(parts[2]))) for sku, parts in answers.items()}
    if told != stored:
        differing = sorted(sku for sku in told.keys() | stored if told.get(sku) != stored.get(sku))
        yield f"the reader was told something else than the store has: {differing}"


def _effects(ledger: Sequence[Entry]) -> Counter[str]:
    return Counter(entry.fields["cause"] for entry in ledger)


def _by_sku(sent: Sequence[Sent]) -> dict[str, list[Sent]]:
    ordered = sorted((one for one in sent if one.sku), key=lambda one: one.sku)
    return {sku: list(group) for sku, group in itertools.groupby(ordered, key=lambda one: one.sku)}


def cause_of(sent: Sent) -> str:
    """What the ledger names as the reason of this delivery's effects."""
    headers = {"webhook-id": sent.id}
    delivery = Delivery(account="", headers=headers, body=sent.body, arrived_at_us=0)
    return f"delivery:{CONNECTORS['standard'].manifest.dedupe_id(delivery)}"
