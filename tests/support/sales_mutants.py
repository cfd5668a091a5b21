"""The scripts of sales, holds and time with one rule broken at a time.

Each mutant names the example of ``tests/stores/test_*_examples.py`` that must notice it.
An edit whose old text stands in none of the scripts fails: then the mutant must follow them.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from unittest import mock

from synchub import lua
from synchub.reservations import store as reservations
from synchub.stock import store as stock
from tests.support.sales_driver import SalesDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

_SCRIPTS: Final = (
    (stock, "APPLY", "apply"),
    (stock, "LAPSE", "lapse"),
    (reservations, "GRANT", "grant"),
    (reservations, "CHANGE", "change_hold"),
)


@dataclass(frozen=True, slots=True)
class SalesMutant:
    """``old`` is shipped text, ``new`` the broken one, ``killer`` the example without its ``test_``."""

    name: str
    old: str
    new: str
    killer: str


@contextmanager
def shipped_with(mutant: SalesMutant) -> Iterator[None]:
    """Have the drivers run the mutant's scripts.

    Raises:
        ValueError: the edit fits no script, or one of them more than once.
    """
    with ExitStack() as stack:
        found = 0
        for module, constant, name in _SCRIPTS:
            text = lua.text_of(name)
            if text.count(mutant.old) > 1:
                msg = f"{mutant.name}: more than once in {name}.lua"
                raise ValueError(msg)
            found += text.count(mutant.old)
            script = lua.parse(name, text.replace(mutant.old, mutant.new))
            stack.enter_context(mock.patch.object(module, constant, script))
        if not found:
            msg = f"{mutant.name}: in no script: {mutant.old!r}"
            raise ValueError(msg)
        yield


MUTANTS: Final = (
    SalesMutant(
        "what a part of a hold leaves stays held",
        "  set_aside(state, line, -rest.quantity)\n",
        "",
        "a_commit_may_buy_a_part_and_the_rest_is_anybodys_again",
    ),
    SalesMutant(
        "more than is held can be bought",
        "    if left > 0 then\n      return nil, {sku",
        "    if false then\n      return nil, {sku",
        "a_commit_buys_no_more_than_is_held_and_then_nothing",
    ),
    SalesMutant(
        "what a part gives back is judged too",
        "lies_beyond(state, hold, line, freed[line.sku]) > 0",
        "lies_beyond(state, hold, line) > 0",
        "the_part_that_is_bought_is_judged_and_not_all_that_was_held",
    ),
    SalesMutant(
        "what a part gives back still counts for limits",
        "  count_line(hold, rest, -1)\n",
        "",
        "what_a_part_gives_back_is_not_counted_for_the_channel",
    ),
    SalesMutant(
        "a late payment for a part needs all of it",
        "    line.quantity = units\n    kept[#kept + 1]",
        "    line.quantity = hold.status == 'held' and units or line.quantity\n    kept[#kept + 1]",
        "who_pays_late_for_a_part_needs_no_more_than_that",
    ),
    SalesMutant(
        "a level includes every sale",
        "return here - owed",
        "return here",
        "a_level_that_is_older_than_the_ack_does_not_contain_the_sale",
    ),
    SalesMutant(
        "a sale is tracked nowhere",
        "in ipairs(chosen) do\n    put(state, line, at_place.place, at_place.n)",
        "in ipairs(chosen) do\n    put(state, line, at_place.place, 0)",
        "an_order_lowers_the_number_until_the_level_contains_it",
    ),
    SalesMutant(
        "an ack settles whatever its version",
        "local function is_counted(ack, s)\n",
        "local function is_counted(ack, s)\n  if true then return true end\n",
        "an_order_lowers_the_number_until_the_level_contains_it",
    ),
    SalesMutant(
        "an ack is of one unit",
        "  local n = row.number * units\n",
        "  local n = units\n",
        "an_order_lowers_the_number_until_the_level_contains_it",
    ),
    SalesMutant(
        "an ack of a part is taken as of the whole",
        "  local n = row.number * units\n",
        "  local n = math.max(line.q, row.number * units)\n",
        "an_ack_is_counted_once_and_as_far_as_it_goes",
    ),
    SalesMutant(
        "an ack told twice counts twice",
        "  row.batch = row.happened\n  if is_repeated_by_id(row) then",
        "  row.batch = row.happened\n  if false then",
        "an_ack_is_counted_once_and_as_far_as_it_goes",
    ),
    SalesMutant(
        "what is pending is never absorbed",
        "local function absorb(state, s)\n",
        "local function absorb(state, s)\n  if true then return end\n",
        "an_order_lowers_the_number_until_the_level_contains_it",
    ),
    SalesMutant(
        "a level that is told again absorbs nothing",
        "    absorb(state, s) -- the same level says again what it contains\n",
        "",
        "evidence_that_is_decided_later_counts_when_the_level_is_told_again",
    ),
    SalesMutant(
        "a level that is told again is fresh evidence",
        "    absorb(state, s) -- the same level says again what it contains\n",
        "    absorb(state, s)\n    s.evidence = row.at\n    keep_source(state, s)\n",
        "a_level_that_is_told_again_is_no_evidence",
    ),
    SalesMutant(
        "a level of the moment of the sale contains it",
        "us < less(s.v, s.resolution)",
        "us <= less(s.v, s.resolution)",
        "an_authority_contains_its_own_orders_a_moment_later",
    ),
    SalesMutant(
        "the importer needs no time",
        "return told + way.ms <= math.min(s.read_at, way.since)",
        "return told <= math.min(s.read_at, way.since)",
        "a_lagging_importer_contains_a_sale_after_its_lag",
    ),
    SalesMutant(
        "the lag begins with the sale and not with its receipt",
        "local told = part.told or (line.origin ~= '' and part.at)",
        "local told = part.at",
        "the_lag_of_our_own_sale_begins_when_somebody_confirms_it",
    ),
    SalesMutant(
        "an ack of a number that the account does not report counts",
        "if role_of(s.account).ref and #line.acks > 0 then",
        "if #line.acks > 0 then",
        "an_ack_of_a_number_that_is_not_reported_settles_nothing",
    ),
    SalesMutant(
        "an order's number is a name for every platform's order",
        "sell_sku(hold, sku, row.cause, fields_of(row.group))",
        "hold.order = fields_of(row.group); sell_sku(hold, sku, row.cause, hold.order)",
        "a_hold_that_an_order_names_is_no_other_shops_order_of_that_number",
    ),
    SalesMutant(
        "what waits for one line of an order is taken by another",
        "  elseif other and not is_another then\n",
        "  elseif other then\n",
        "what_waits_for_one_line_of_an_order_is_not_the_others",
    ),
    SalesMutant(
        "where more is acknowledged than was sold the first word counts",
        "for _, spares in ipairs({true, false}) do",
        "for _, spares in ipairs({true}) do",
        "the_newest_word_says_where_a_sale_lies",
    ),
    SalesMutant(
        "another place's level says nothing of what was acknowledged there",
        "    owed = owed - inside[place]\n",
        "",
        "what_one_place_contains_is_not_owed_at_another",
    ),
    SalesMutant(
        "a source that joins contains everything",
        "s.included, s.joined = 0, true",
        "s.included, s.joined = state.open[s.place] or 0, true",
        "a_source_that_joins_alone_lacks_what_the_other_contained",
    ),
    SalesMutant(
        "a cancelled unit is free at once",
        "owed = math.max(0, owed - math.min(cancelled, processed))",
        "owed = math.max(0, owed - cancelled)",
        "cancelled_units_that_were_never_in_the_level_leave_the_rest_exact",
    ),
    SalesMutant(
        "a sale has one name",
        "  for _, name in ipairs(found) do\n    local line = line_named(name)\n",
        "  for _, name in ipairs({found[1]}) do\n    local line = line_named(name)\n",
        "another_accounts_copy_of_an_order_moves_nothing",
    ),
    SalesMutant(
        "an order that names a hold is another sale",
        "    if is_live(hold) then\n      sell_sku(",
        "    if false then\n      sell_sku(",
        "an_order_that_names_a_live_hold_is_its_commit",
    ),
    SalesMutant(
        "a hold that is over keeps its units",
        "    if hold and hold.status == 'held' then\n      give_back(hold, 'expired', 'deadline')\n",
        "    if hold and hold.status == 'held' then\n      redis.call('ZREM', holds_due, id)\n",
        "time_alone_ends_a_hold",
    ),
    SalesMutant(
        "a hold is alive a second after its deadline",
        "redis.call('ZRANGEBYSCORE', holds_due, '-inf', text(now), 'LIMIT'",
        "redis.call('ZRANGEBYSCORE', holds_due, '-inf', text(now - 1000), 'LIMIT'",
        "at_its_deadline_a_hold_is_over_in_every_verb",
    ),
    SalesMutant(
        "whoever pays late gets it",
        "local free = state.ats - line.buffer",
        "local free = math.huge - line.buffer",
        "who_pays_late_gets_it_if_it_is_still_there",
    ),
    SalesMutant(
        "per cent are of what there is now",
        "math.ceil(state.ref * line.buffer_bp / 10000)",
        "math.ceil(math.max(0, state.ats) * line.buffer_bp / 10000)",
        "a_share_is_taken_of_what_was_received",
    ),
    SalesMutant(
        "a hold that names a place is granted elsewhere",
        "if line.location ~= '' and units_here > here then",
        "if false then",
        "lines_of_one_place_are_summed",
    ),
    SalesMutant(
        "lines of one SKU are judged one by one",
        "units[line.sku] = (units[line.sku] or 0) + line.quantity",
        "units[line.sku] = line.quantity",
        "lines_of_one_sku_are_summed",
    ),
    SalesMutant(
        "a renewal shortens",
        "hold.deadline = math.max(hold.deadline, math.min(",
        "hold.deadline = (math.min(",
        "renewing_never_shortens_and_ends_at_three_lives",
    ),
    SalesMutant(
        "a commit takes the units again",
        "    state.ats = state.ats - line.quantity\n    for _, at_place",
        "    state.ats = state.ats - 2 * line.quantity\n    for _, at_place",
        "a_hold_lowers_what_others_may_have_and_a_commit_moves_nothing",
    ),
)


def killer_of(mutant: SalesMutant, client: Redis, example: Callable[[SalesDriver], None]) -> str:
    """Return the example's name when it notices the mutant; empty when the mutant survives."""
    with shipped_with(mutant):
        try:
            example(SalesDriver(client, "mutant"))
        except (AssertionError, LookupError, StopIteration):
            return mutant.killer
    return ""
