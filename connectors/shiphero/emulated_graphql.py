"""The emulated GraphQL API: the few fields that the client asks for, and the credits they cost.

Like ShipHero it holds back what an answer may cost and charges what it did cost.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from connectors.shiphero.emulated_forms import no_credits, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from synchub.connector_kit.emulation import Bucket

ROW_CREDITS: Final = 2
NOT_FOUND: Final = 5
INVALID: Final = 3

_LISTING = re.compile(
    r"(?P<alias>\w+): (?P<field>warehouse_products|webhooks)(?:\((?P<arguments>[^)]*)\))? "
    r"\{ (?:request_id )?data\(first: (?P<first>\d+), after: \$(?P<after>\w+)\)"
)
_CHANGE = re.compile(r"(?P<alias>\w+): (?P<field>webhook_create|webhook_enable|webhook_delete)\(")
_ARGUMENT = re.compile(r"(\w+): \$(\w+)")
_NAMED = re.compile(r"^(?:query|mutation) (\w+)")


class Refused(Exception):
    """An answer that holds a problem instead of data."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem.get("message", ""))
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One listing that was asked for, with the values of its arguments."""

    alias: str
    field: str
    first: int
    after: str | None
    arguments: Mapping[str, Any]

    @property
    def cost_max(self) -> int:
        """Credits that are held back for it."""
        return self.first * ROW_CREDITS + 1


def operation_of(query: str) -> str:
    """Return the name that the client gives its request."""
    named = _NAMED.match(query)
    return named[1] if named else "unnamed"


def listings_in(query: str, variables: Mapping[str, Any]) -> list[Listed]:
    """Return the listings of a query."""
    return [
        Listed(
            alias=found["alias"],
            field=found["field"],
            first=int(found["first"]),
            after=variables.get(found["after"]),
            arguments={
                name: variables[variable]
                for name, variable in _ARGUMENT.findall(found["arguments"] or "")
                if variable in variables
            },
        )
        for found in _LISTING.finditer(query)
    ]


def change_in(query: str) -> tuple[str, str] | None:
    """Return alias and name of the mutation, if the request is one."""
    found = _CHANGE.search(query)
    return (found["alias"], found["field"]) if found else None


def answer_listings(
    query: str, listings: Sequence[Listed], credit: Bucket, rows_of: Callable[[Listed], Sequence[Any]]
) -> dict[str, Any]:
    """Return the data of a query, charged for what it holds.

    Raises:
        Refused: fewer credits are left than it may cost, or a cursor that is none.
    """
    hold_back(credit, sum(listing.cost_max for listing in listings))
    data = {listing.alias: _page(listing, rows_of(listing)) for listing in listings}
    credit.take(sum(answer["complexity"] for answer in data.values()))
    if "user_quota {" in query:
        data["user_quota"] = {
            "credits_remaining": int(credit.remaining),
            "max_available": int(credit.capacity),
            "increment_rate": int(credit.restored_per_s),
        }
    return data


def hold_back(credit: Bucket, wanted: int) -> None:
    """Return when so many credits are left.

    Raises:
        Refused: they are not; says in words when they will be.
    """
    left = credit.remaining
    if left < wanted:
        seconds = max(1, round((wanted - left) / credit.restored_per_s + 0.5))
        raise Refused(no_credits(wanted=wanted, left=int(left), seconds=seconds))


def refuse(message: str, code: int = INVALID) -> NoReturn:
    """Answer with a problem.

    Raises:
        Refused: always.
    """
    raise Refused({"message": message, "code": code, "request_id": _request_id()})


def _page(listing: Listed, rows: Sequence[Any]) -> dict[str, Any]:
    start = _start(listing.after)
    shown = rows[start : start + listing.first]
    last = uuid_of("arrayconnection", str(start + len(shown) - 1)) if shown else None
    page = {"hasNextPage": start + len(shown) < len(rows), "endCursor": last}
    return {
        "request_id": _request_id(),
        "complexity": len(shown) * ROW_CREDITS + 1,
        "data": {"pageInfo": page, "edges": [{"node": row} for row in shown]},
    }


def _start(after: str | None) -> int:
    if after is None:
        return 0
    try:
        return int(base64.b64decode(after, validate=True).decode().removeprefix("arrayconnection:")) + 1
    except (binascii.Error, ValueError):
        refuse("Invalid cursor")


def _request_id() -> str:
    return uuid.uuid4().hex[:24]
