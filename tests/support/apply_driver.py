"""Runs the shipped apply script on a real Valkey and reads back what it left there.

Takes the rows and returns the nouns of ``reference_model``, so that the two can be
compared with ``==``. The hub's own operations are coroutines that only wait for
the store; here the store answers at once and no event loop is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from synchub import sync_keys
from synchub.keyspace import LIST_SEPARATOR, SEPARATOR, MerchantKeys
from synchub.lua import parse
from synchub.settings import Settings, load_settings
from synchub.stock import store
from tests.support.reference_answer import Role, SourceName
from tests.support.reference_books import Answer, Cell, Effect, FeedEntry, LedgerEntry
from tests.support.reference_source import Change, Regress, Source

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from redis import Redis

    from synchub.redis import Part
    from synchub.stock.model import Reading

Row = tuple[str, ...]

# Sources are packed by the server, which is also who unpacks them.
_SOURCES: Final = r"""
local told = {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) == 's\31' then
    local parts = {fields[i]}
    for _, part in ipairs(cmsgpack.unpack(fields[i + 1])) do
      if type(part) == 'number' then
        part = string.format('%.0f', part)
      elseif type(part) == 'boolean' then
        part = part and '1' or '0'
      elseif type(part) == 'table' then
        for n, delta in ipairs(part) do
          local since = delta[4] and string.format(',%.0f', delta[4]) or ''
          part[n] = string.format('%s,%.0f,%.0f', delta[1], delta[2], delta[3]) .. since
        end
        part = table.concat(part, ';')
      end
      parts[#parts + 1] = part
    end
    told[#told + 1] = parts
  end
end
return told
"""

# Trimming has tests of its own; here every entry is looked at.
_KEEP_ALL: Final = 1_000_000


class ApplyDriver:
    """One merchant on one server; ``script`` stands in for the shipped text."""

    def __init__(
        self,
        client: Redis,
        merchant: str,
        *,
        parked_max: int = 1000,
        confirm_after_ms: int = 30_000,
        script: str | None = None,
    ) -> None:
        # Its annotations mix in the answers of the asynchronous client.
        self._client: Any = client
        self._keys = MerchantKeys(merchant)
        self._script = store.APPLY if script is None else parse("apply", script)
        self._settings = _settings(parked_max, confirm_after_ms)

    async def execute(self, *command: Part) -> Any:
        """Answer one command at once, as bytes, as the hub's own client does."""
        return _encoded(self._client.execute_command(*command))

    def set_role(self, account: str, role: Role) -> None:
        """Write the account's role as the accounts feature does."""
        text = "|".join(
            [
                role.kind,
                str(role.rank),
                str(role.max_age),
                "s" if role.own_items else "p",
                "m" if role.own_places else "p",
                "1" if role.fetches else "0",
                "1" if role.own else "0",
                "1" if role.ref else "0",
                str(role.connected_at),
            ]
        )
        self._client.hset(self._keys.roles, account, text)

    def map_item(self, account: str, item: str, sku: str) -> None:
        """Map as a person does in the console."""
        self._client.hset(self._keys.items(account), item, sku)

    def map_location(self, account: str, location: str, place: str) -> None:
        """Map a platform's location to the merchant's."""
        self._client.hset(self._keys.locations, f"{account}{SEPARATOR}{location}", place)

    def decide(self, account: str, sku: str, place: str, decision: str) -> None:
        """Write what a person has said of an account's sources; no SKU and no place: of all."""
        self._client.hset(self._keys.decided, SEPARATOR.join((account, sku, place)), decision)

    def apply(self, rows: Sequence[Row], now_ms: int) -> list[tuple[str, int]]:
        """Run the script once."""
        with mock.patch.object(store, "APPLY", self._script):
            applied = at_once(
                store.apply_rows(self, self._keys, list(rows), now_ms=now_ms, settings=self._settings)
            )
        return [(result.outcome.value, result.seq) for result in applied]

    @property
    def now(self) -> int:
        """The merchant's clock."""
        return int(self._client.hget(self._keys.head, "clock") or 0)

    @property
    def head(self) -> tuple[int, int]:
        """Head of the ledger, and of the feed."""
        seq, feed_seq = self._client.hmget(self._keys.head, "seq", "feed_seq")
        return int(seq or 0), int(feed_seq or 0)

    def skus(self) -> list[str]:
        """The index of all SKUs."""
        return sorted(self._client.zrange(self._keys.skus, 0, -1))

    def answer(self, sku: str) -> Answer:
        """The stored answer."""
        packed = self._client.hget(self._keys.sku(sku), "answer")
        return _answer_of(packed) if packed else Answer()

    def as_of(self, sku: str) -> int:
        """The evidence time that the hub tells a reader now."""
        reading: Reading = at_once(store.read_answers(self, self._keys, [sku]))
        return reading.answers[0].as_of_ms

    def sources(self, sku: str) -> dict[SourceName, Source]:
        """Everything the script remembers of the SKU's sources."""
        told = self._client.eval(_SOURCES, 1, self._keys.sku(sku))
        return {SourceName(*name.split(SEPARATOR)[1:]): _source_of(parts) for name, *parts in told}

    @property
    def ledger(self) -> list[LedgerEntry]:
        """Every effect, in order."""
        return [_ledger_entry_of(name, fields) for name, fields in self._client.xrange(self._keys.ledger)]

    @property
    def feed(self) -> list[FeedEntry]:
        """Every changed answer, in order."""
        return [_feed_entry_of(name, fields) for name, fields in self._client.xrange(self._keys.feed)]

    def refetch(self, account: str) -> dict[str, int]:
        """Items to fetch, with the time they are due."""
        due = self._client.zrange(self._keys.refetch(account), 0, -1, withscores=True)
        return {item: int(at) for item, at in due}

    def parked_since(self) -> dict[tuple[str, str], int]:
        """Items whose events wait, with the time of the first."""
        waiting = self._client.zrange(self._keys.parked, 0, -1, withscores=True)
        return {_pair(member): int(at) for member, at in waiting}

    def parked_keys(self) -> dict[tuple[str, str], set[tuple[str, ...]]]:
        """What waits for each item, without the events themselves."""
        return {
            (account, item): {
                tuple(name.split(SEPARATOR))
                for name in self._client.hkeys(self._keys.parked_item(account, item))
            }
            for account, item in self.parked_since()
        }

    @property
    def watermarks(self) -> dict[str, int]:
        """Up to when each account is complete."""
        return {account: int(at) for account, at in self._client.hgetall(self._keys.watermarks).items()}

    @property
    def cursors(self) -> dict[str, str]:
        """Where each account's next poll begins."""
        return dict(self._client.hgetall(sync_keys.cursors(self._keys.merchant)))

    def name_history(self, epoch: str) -> None:
        """Give the history a name, as a merchant's first account and a loss do."""
        self._client.hset(self._keys.head, "epoch", epoch)


def _settings(parked_max: int, confirm_after_ms: int) -> Settings:
    return load_settings(
        stock={"parked_max": parked_max, "ledger_max": _KEEP_ALL, "clock": "proposed"},
        feed={"retained": _KEEP_ALL},
        refetch={"confirm_after_ms": confirm_after_ms},
    )


def at_once(operation: Coroutine[Any, Any, Any]) -> Any:
    """Run an operation that waits for nothing but the store."""
    try:
        operation.send(None)
    except StopIteration as done:
        return done.value
    operation.close()
    msg = "the operation waited for something else than the store"
    raise RuntimeError(msg)


def _encoded(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_encoded(part) for part in answer]
    if isinstance(answer, dict):
        return [_encoded(part) for pair in answer.items() for part in pair]
    return answer.encode() if isinstance(answer, str) else answer


def _answer_of(packed: str) -> Answer:
    parts = packed.split("|", 13)
    ver, seq, ats, held, known, gone, cat, backorder, degraded, stale, lag, ref, by, cells = parts
    return Answer(
        ver=int(ver),
        seq=int(seq),
        ats=int(ats),
        held=int(held),
        known=known == "1",
        gone=gone == "1",
        cat=cat,
        backorder=backorder == "1",
        degraded=degraded == "1",
        stale=stale == "1",
        lag=int(lag),
        ref=int(ref),
        by=by,
        cells=tuple(_cell_of(cell) for cell in cells.split(LIST_SEPARATOR) if cell),
    )


def _cell_of(packed: str) -> Cell:
    evidence, account, base, place, held = packed.split(SEPARATOR)
    return Cell(place=place, account=account, base=int(base), held=int(held), evidence=int(evidence))


def _source_of(parts: Sequence[str]) -> Source:
    status, level, scale, version, resolution, read_at, evidence, pushed_at, behind, changes, *rest = parts
    folded_version, folded_at, included, _, reset_at, lower_version, lower_at = rest
    return Source(
        status=status,
        level=int(level),
        scale=scale,
        version=_version_of(version),
        resolution=int(resolution),
        read_at=int(read_at),
        pushed_at=int(pushed_at),
        evidence=int(evidence),
        behind=behind == "1",
        changes=_changes_of(changes),
        folded_version=_version_of(folded_version),
        folded_at=int(folded_at),
        included=int(included),
        reset_at=int(reset_at),
        regress=Regress(int(lower_version), int(lower_at)) if lower_version else None,
    )


def _ledger_entry_of(name: str, fields: Mapping[str, str]) -> LedgerEntry:
    is_source = fields["field"] in {"level", "delta", "status"}
    return LedgerEntry(
        seq=_seq(name),
        sku=fields["sku"],
        loc=fields["loc"],
        acc=fields["acc"],
        item=fields["item"],
        field=fields["field"],
        before=_effect_of(fields["from"]) if is_source else fields["from"] or None,
        after=_effect_of(fields["to"]) if is_source else fields["to"] or None,
        version=_version_of(fields["v"]),
        cause=fields["cause"],
        at=int(fields["at"]),
        ats=int(fields["ats"]),
    )


def _effect_of(text: str) -> Effect | None:
    if not text:
        return None
    number, _, changes = text[1:].partition("+")
    level, _, included = number.partition("i")
    return text[0], int(level), int(included or 0), tuple(_changes_of(changes))


def _changes_of(text: str) -> list[Change]:
    parts = [change.split(",") for change in text.split(";") if change]
    return [
        Change(_version_of(version), int(at), int(amount), *map(int, since))
        for version, at, amount, *since in parts
    ]


def _feed_entry_of(name: str, fields: Mapping[str, str]) -> FeedEntry:
    return FeedEntry(
        seq=_seq(name),
        previous=int(fields["p"]),
        sku=fields["sku"],
        answer=_answer_of(fields["answer"]),
        as_of=int(fields["asof"]),
        reported_at=int(fields["t"]),
    )


def _version_of(digits: str) -> int | None:
    return int(digits) if digits else None


def _seq(name: str) -> int:
    seq, part = name.split("-")
    assert part == "0"
    return int(seq)


def _pair(member: str) -> tuple[str, str]:
    account, item = member.split(SEPARATOR, 1)
    return account, item
