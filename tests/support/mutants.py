"""The apply script with one rule broken at a time.

A mutant is a named edit of the shipped text. Each must be noticed by the scenarios;
one that is not shows a rule that nothing holds. An edit whose old text is no longer
found exactly once fails too: then the script has changed and the mutant must follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from synchub import lua
from tests.support.apply_driver import ApplyDriver
from tests.support.reference_model import ReferenceModel
from tests.support.scenarios import PARKED_MAX, SCENARIOS, tell

if TYPE_CHECKING:
    from redis import Redis


@dataclass(frozen=True, slots=True)
class Mutant:
    """``edits`` are pairs of shipped and broken text."""

    name: str
    edits: tuple[tuple[str, str], ...]


def mutate(mutant: Mutant) -> str:
    """Return the shipped script with the mutant's edits.

    Raises:
        ValueError: an edit does not fit the shipped text exactly once.
    """
    text = lua.text_of("apply")
    for old, new in mutant.edits:
        if text.count(old) != 1:
            msg = f"{mutant.name}: {text.count(old)} times in apply.lua: {old!r}"
            raise ValueError(msg)
        text = text.replace(old, new)
    return text


def killer_of(mutant: Mutant, client: Redis) -> str:
    """Return the first scenario that the mutant tells differently; empty when it survives."""
    script = mutate(mutant)
    for number, scenario in enumerate(SCENARIOS):
        model = ReferenceModel(parked_max=PARKED_MAX)
        merchant = f"{mutant.name.replace(' ', '-')[:40]}-{number}"
        driver = ApplyDriver(client, merchant, parked_max=PARKED_MAX, script=script)
        try:
            if tell(scenario, driver) != tell(scenario, model):
                return scenario.__name__
        except ResponseError as problem:
            # A mutant that cannot even run would be killed by any test and proves nothing.
            msg = f"{mutant.name} is no working script: {problem}"
            raise ValueError(msg) from problem
    return ""


def _mutant(name: str, *edits: tuple[str, str]) -> Mutant:
    return Mutant(name, edits)


_OTHER_SCALE: Final = "  if row.version ~= '' and s.scale ~= '' and row.scale ~= s.scale then\n"

MUTANTS: Final = (
    _mutant(
        "the last write wins",
        ("if row.version < latest_version(s) then", "if false then"),
    ),
    _mutant(
        "versions are compared as doubles",
        (
            "if row.version < latest_version(s) then",
            "if s.v ~= '' and row.version ~= s.v and tonumber(row.version) <= tonumber(s.v) then",
        ),
    ),
    _mutant(
        "a delta counts each time it is sent",
        ("  if seen(row) then\n    return 'duplicate', 0", "  if false then\n    return 'duplicate', 0"),
    ),
    _mutant(
        "an unversioned push counts each time it is sent",
        (
            "    if seen(row) then\n      return 'duplicate'\n",
            "    if false then\n      return 'duplicate'\n",
        ),
    ),
    _mutant(
        "ids are shared by all accounts",
        ("local op = row.account .. US .. row.op", "local op = row.op"),
        ("redis.call('SADD', key, row.account .. US .. row.op)", "redis.call('SADD', key, row.op)"),
    ),
    _mutant(
        "the id of a delta that a read has counted is forgotten",
        (
            "  remember(row) -- even if a level",
            "  if row.at > s.read_at then remember(row) end -- even if a level",
        ),
    ),
    _mutant(
        "the id of a push that came too late is forgotten",
        (
            "    remember(row) -- even if it comes",
            "    if row.at > s.read_at then remember(row) end -- even if it comes",
        ),
    ),
    _mutant(
        "a redelivery is fresh evidence",
        (
            "    if is_repeated(s, row) then\n      return 'duplicate'",
            "    if is_repeated(s, row) then\n      return 'take'",
        ),
    ),
    _mutant(
        "arrival is the evidence of a level",
        (
            "  s.evidence = math.max(s.evidence, row.evidence)\n  s.behind",
            "  s.evidence = math.max(s.evidence, row.at)\n  s.behind",
        ),
    ),
    _mutant(
        "evidence may step back",
        (
            "  s.evidence = math.max(s.evidence, row.evidence)\n  s.behind",
            "  s.evidence = row.evidence\n  s.behind",
        ),
    ),
    _mutant(
        "a level forgets no delta it includes",
        (
            "      kept[#kept + 1] = delta\n    end\n  end\n  return kept\n",
            "    end\n  end\n  return s.deltas\n",
        ),
    ),
    _mutant(
        "a read includes no versioned delta by its time",
        ("if not (included or (is_read and delta.at < row.at)) then", "if not included then"),
    ),
    _mutant(
        "a coarse level includes everything up to its version",
        (
            "included = included_to and delta.v <= included_to or delta.v <= row.version_less_resolution",
            "included = delta.v <= row.version",
        ),
    ),
    _mutant(
        "a delta in the last tick of a coarse level is dropped",
        ("if row.version <= less(s.v, s.resolution) then", "if row.version <= s.v then"),
    ),
    _mutant(
        "a rise in the last tick of a coarse level is counted",
        ("if row.version <= s.v and row.number >= 0 then", "if false then"),
    ),
    _mutant(
        "an older delta is counted on top of a later push",
        ("if row.at <= told_at and row.number >= 0 then", "if row.at == s.read_at and row.number >= 0 then"),
    ),
    _mutant(
        "a delta that a read has counted is counted again",
        (
            "  if row.at < s.read_at then\n    return 'superseded', 0",
            "  if false then\n    return 'superseded', 0",
        ),
    ),
    _mutant(
        "pushes of two scales are compared",
        (
            "  if s.scale ~= '' and row.scale ~= s.scale then\n    return 'scale_mixed'\n",
            "  if false then\n    return 'scale_mixed'\n",
        ),
    ),
    _mutant(
        "reads of two scales are compared",
        (
            f"{_OTHER_SCALE}    return 'scale_mixed'\n",
            "  if false then\n    return 'scale_mixed'\n",
        ),
    ),
    _mutant(
        "deltas of two scales are compared",
        (
            f"{_OTHER_SCALE}    return 'scale_mixed', 0",
            "  if false then\n    return 'scale_mixed', 0",
        ),
    ),
    _mutant(
        "an older read is taken",
        (
            "  if row.at < s.read_at then\n    return 'superseded'\n  end\n  if row.version ~= '' and",
            "  if false then\n    return 'superseded'\n  end\n  if row.version ~= '' and",
        ),
    ),
    _mutant(
        "a push that came before the read is taken",
        (
            "  if row.at < s.read_at then\n    return 'superseded'\n  end\n  if row.version == '' then",
            "  if false then\n    return 'superseded'\n  end\n  if row.version == '' then",
        ),
    ),
    _mutant(
        "a read with an older version is taken",
        ("  if versioned and row.version < latest then", "  if false then"),
    ),
    _mutant(
        "a read that a push has overtaken is taken",
        (
            "  local overtaken = math.max(s.pushed_at, s.folded_at, s.read_at) >= row.at",
            "  local overtaken = s.read_at == row.at",
        ),
    ),
    _mutant(
        "a read that began in the millisecond of a push is thought to be the newer one",
        (
            "  local overtaken = math.max(s.pushed_at, s.folded_at, s.read_at) >= row.at",
            "  local overtaken = math.max(s.pushed_at, s.folded_at, s.read_at) > row.at",
        ),
    ),
    _mutant(
        "a push of the millisecond in which a read began is thought to be in it",
        (
            "  if row.at < s.read_at then\n    return 'superseded'\n  end\n  if row.version == '' then",
            "  if row.at <= s.read_at then\n    return 'superseded'\n  end\n  if row.version == '' then",
        ),
    ),
    _mutant(
        "an unversioned rise counts at once",
        (
            "return leads == 'same' and 'take' or leads == 'lower' and 'confirm' or 'ask'",
            "return leads == 'lower' and 'confirm' or 'take'",
        ),
    ),
    _mutant(
        "an unversioned fall is not confirmed",
        ("'NX', text(now + tonumber(confirm_after_ms))", "'XX', text(now + tonumber(confirm_after_ms))"),
    ),
    _mutant(
        "waiting deltas do not count when levels are compared",
        (
            "  local present = offer(s)\n",
            "  local present = offer({status = s.status, level = s.level, deltas = {}})\n",
        ),
    ),
    _mutant(
        "versions order a level that came without one",
        ("  local unordered = s.behind or (", "  local unordered = false and ("),
    ),
    _mutant(
        "a coarse tie takes the higher level",
        (
            "return direction(s, row, false) == 'lower' and 'lower' or 'ask'",
            "return direction(s, row, false) == 'higher' and 'lower' or 'ask'",
        ),
    ),
    _mutant(
        "null is zero",
        (
            "  local state = load_sku(sku)\n  local s = source_of(state, row, place)\n  local is_read",
            (
                "  row.status = row.status == 'U' and 'K' or row.status\n  local state = load_sku(sku)\n"
                "  local s = source_of(state, row, place)\n  local is_read"
            ),
        ),
    ),
    _mutant(
        "a fetch that brings null is repeated for ever",
        ("    if not is_read then -- a platform", "    if true then -- a platform"),
    ),
    _mutant(
        "folded deltas are lost",
        ("      amount = next.amount + oldest.amount, since", "      amount = next.amount, since"),
    ),
    _mutant(
        "changes that became one are as old as the older of them",
        ("at = math.max(next.at, oldest.at),", "at = math.min(next.at, oldest.at),"),
    ),
    _mutant(
        "every level that is older than folded changes is doubted",
        ("delta.since <= row.at and row.at < delta.at then", "row.at < delta.at then"),
    ),
    _mutant(
        "a level that was longer on its way than folded changes is believed",
        ("  if is_torn(s, row) then", "  if false then"),
    ),
    _mutant(
        "a stale source keeps ruling",
        ("    if now <= fresh_until(state, s) then\n", "    if true then\n"),
    ),
    _mutant(
        "a lone source is never degraded",
        ("degraded = is_fresh and 0 or 1", "degraded = 0"),
    ),
    _mutant(
        "a takeover raises",
        (
            "return math.min(contribution(state, s), contribution(state, best)), s, 'second'",
            "return contribution(state, s), s, 'second'",
        ),
    ),
    _mutant(
        "a takeover is not told as degraded",
        (
            "      elseif how == 'second' then\n        result.degraded = 1",
            "      elseif how == 'second' then\n        result.degraded = 0",
        ),
    ),
    _mutant(
        "when none is fresh the highest rules",
        (
            "    if contribution(state, s) < contribution(state, least) then",
            "    if contribution(state, s) > contribution(state, least) then",
        ),
    ),
    _mutant(
        "rank is read the wrong way round",
        ("    return rank_a < rank_b\n", "    return rank_a > rank_b\n"),
    ),
    _mutant(
        "a shop's level is counted",
        (
            "    if role_of(s.account).kind == 'A' then\n      if not by_place",
            "    if true then\n      if not by_place",
        ),
        ("s.status == 'K' and role_of(s.account).kind == 'A' then", "s.status == 'K' then"),
    ),
    _mutant(
        "an unknown location counts as zero",
        ("    if unknown then\n      return nil", "    if false then\n      return nil"),
        (
            "return contribution(state, closed), closed, 'closed'",
            "return contribution(state, closed or sources[1]), closed or sources[1], 'closed'",
        ),
    ),
    _mutant(
        "an unmapped location is summed",
        ("mapped or (role_of(account).own_places and location) or false", "mapped or location"),
    ),
    _mutant(
        "an unmapped item is a SKU",
        (
            "(mapped or role_of(account).own_items) and parts_in(mapped or item) or false",
            "parts_in(mapped or item)",
        ),
    ),
    _mutant(
        "waiting events are dropped when their place is known",
        (
            "      report(row)\n      redis.call('HDEL', key, row.field)",
            "      redis.call('HDEL', key, row.field)",
        ),
    ),
    _mutant(
        "the older of two waiting levels is kept",
        ("    return row.version > other.version\n", "    return row.version < other.version\n"),
    ),
    _mutant(
        "the earlier of two waiting unversioned levels is kept",
        ("  return row.at > other.at\n", "  return row.at < other.at\n"),
    ),
    _mutant(
        "a waiting null replaces a waiting number",
        ("    return other.status == 'U' -- no number", "    return true -- no number"),
    ),
    _mutant(
        "the higher of two tied waiting levels is kept",
        (
            "      < offer({status = other.status, level = other.number, deltas = {}})",
            "      > offer({status = other.status, level = other.number, deltas = {}})",
        ),
    ),
    _mutant(
        "a fetch that brings an unmapped place is repeated for ever",
        ("  if row.kind ~= 'R' then -- what a fetch", "  if true then -- what a fetch"),
    ),
    _mutant(
        "any number of items may wait",
        ("    if redis.call('ZCARD', parked) >= tonumber(parked_max) then", "    if false then"),
    ),
    _mutant(
        "the chain of the feed skips",
        ("'p', feed_seq, 'sku'", "'p', seq - 1, 'sku'"),
    ),
    _mutant(
        "a report without effect takes a sequence",
        (
            "  if before == after then\n    return 'unchanged', record(state, row, nil)",
            (
                "  if before == after then\n    return 'unchanged', record(state, row, "
                "{field = 'answer', place = '', from = '', to = ''})"
            ),
        ),
    ),
    _mutant(
        "turning degraded is not told",
        (" or state.degraded ~= result.degraded or state.stale", " or state.stale"),
    ),
    _mutant(
        "the watermark is ignored",
        ("  return math.max(s.evidence, role_of(s.account).watermark)", "  return s.evidence"),
    ),
    _mutant(
        "the watermark steps back",
        ("  if at > role.watermark then", "  if true then"),
    ),
    _mutant(
        "the clock steps back",
        ("now = math.max(clock, proposed)", "now = proposed"),
    ),
    _mutant(
        "a time in the future is believed",
        ("math.min(tonumber(list[start + 9]), now)", "tonumber(list[start + 9])"),
    ),
    _mutant(
        "a repeated word about an item counts again",
        ("  if row.op ~= '' then\n    if seen(row) then", "  if row.op ~= '' then\n    if false then"),
    ),
    _mutant(
        "another source of the same answer is another answer",
        (
            "or state.gone ~= result.gone or state.degraded",
            "or state.gone ~= result.gone or state.by ~= result.by or state.degraded",
        ),
    ),
    _mutant(
        "a folded change shuts out older ones",
        (
            "s.folded_v = oldest.v > s.folded_v and oldest.v or s.folded_v",
            "s.v = oldest.v > s.v and oldest.v or s.v",
        ),
    ),
    _mutant(
        "a level older than a folded change is taken",
        ("return s.folded_v > s.v and s.folded_v or s.v", "return s.v"),
    ),
    _mutant(
        "discontinuing is ignored",
        ("if row.status == 'A' or row.status == 'D' then", "if row.status == 'A' then"),
    ),
    _mutant(
        "an item stays discontinued",
        ("if row.status == 'A' or row.status == 'D' then", "if row.status == 'D' then"),
    ),
    _mutant(
        "back-order is not told",
        ("state.answer_forced = sold_before ~= state.cat .. state.backorder", "state.answer_forced = false"),
    ),
    _mutant(
        "a removed item still counts",
        ("s.status, s.level, s.deltas = 'R', 0, {}", "s.status = 'K'"),
    ),
    _mutant(
        "a removed product leaves its items",
        ("row.status == 'R' and remove_item(row, item) or 0)", "0)"),
    ),
    _mutant(
        "a remapped item stays on its old SKU",
        (
            "state.sources[s.field], state.changed[s.field], state.removed[s.field] = nil, nil, true",
            "state.changed[s.field] = nil",
        ),
    ),
    _mutant(
        "a second item counts without being asked for",
        ("  return not decision or (is_second and decision == 'yes')\n", "  return false\n"),
    ),
    _mutant(
        "items that are to be added are not",
        (
            "s.status == 'T' or decision_on(s.account, state.sku, s.place) ~= 'sum' then",
            "s.status == 'T' or true then",
        ),
    ),
    _mutant(
        "a worker that was away puts the cursor back",
        (
            "  if not is_present(row, known) then\n    return 'superseded', 0",
            "  if false then\n    return '', 0",
        ),
    ),
    _mutant(
        "what a worker that was away has in hand is applied",
        ("    left[row.account] = not is_present(row, known)\n", "    left[row.account] = false\n"),
    ),
    _mutant(
        "a cursor of another history is gone on from",
        ("row.number == known.moves and row.sku == epoch and", "row.number == known.moves and"),
    ),
    _mutant(
        "the history in which a cursor was stored is not noted",
        ("    epoch, row.group}, '|'))", "    '', row.group}, '|'))"),
    ),
    _mutant(
        "the cursor moves past a change that was not taken in",
        ("  if troubled[row.account] then\n    return 'held_back', 0", "  if false then\n    return '', 0"),
    ),
    _mutant(
        "one account's trouble holds back another's cursor",
        (
            "    troubled[row.account] = true\n",
            "    setmetatable(troubled, {__index = function() return true end})\n",
        ),
    ),
    _mutant(
        "a page whose answer was lost moves the cursor twice",
        ("row.number + 1 == known.moves and row.group", "false and row.group"),
    ),
    _mutant(
        "an account that is gone gets a cursor again",
        (" and redis.call('HEXISTS', tag .. 'roles', row.account) == 1\n", "\n"),
    ),
    _mutant(
        "a poll that has seen everything makes nothing fresher",
        ("    complete_to(row.account, row.evidence)\n", ""),
    ),
    _mutant(
        "a poll that has not seen everything forgets up to when one had",
        ("local complete = math.max(known.complete, row.evidence)", "local complete = row.evidence"),
    ),
)
