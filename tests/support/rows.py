"""Rows as the apply script takes them, with a default for everything that does not matter."""

from __future__ import annotations

import json
from typing import Any, Final

Row = tuple[str, ...]

ITEM: Final = "TEE-0001"
WMS: Final = "wms"
PLACE: Final = "WH1"


def push(
    quantity: int = 0,
    *,
    at: int,
    version: int | None = None,
    account: str = WMS,
    item: str = ITEM,
    location: str = PLACE,
    status: str = "K",
    scale: str = "S",
    resolution: int = 0,
    evidence: int | None = None,
    op: str | None = None,
) -> Row:
    """A level that the platform sent, arrived at ``at``."""
    return row(
        "L", account, item, location, status=status, number=quantity, version=version, scale=scale,
        resolution=resolution, at=at, evidence=evidence, op=op,
    )  # fmt: skip


def read(
    quantity: int = 0,
    *,
    at: int,
    version: int | None = None,
    account: str = WMS,
    item: str = ITEM,
    location: str = PLACE,
    status: str = "K",
    scale: str = "S",
    resolution: int = 0,
) -> Row:
    """A level that the hub asked for at ``at``."""
    return row(
        "R", account, item, location, status=status, number=quantity, version=version, scale=scale,
        resolution=resolution, at=at,
    )  # fmt: skip


def delta(
    amount: int,
    *,
    at: int,
    version: int | None = None,
    account: str = WMS,
    item: str = ITEM,
    location: str = PLACE,
    scale: str = "S",
    evidence: int | None = None,
    op: str | None = None,
) -> Row:
    """A change by an amount, arrived at ``at``."""
    return row(
        "D",
        account,
        item,
        location,
        number=amount,
        version=version,
        scale=scale,
        at=at,
        evidence=evidence,
        op=op,
    )


def tickle(*, at: int, account: str = WMS, item: str = ITEM) -> Row:
    """Something about the item changed."""
    return row("T", account, item, at=at)


def watermark(to: int, *, account: str = WMS) -> Row:
    """Everything of the account up to ``to`` has been seen."""
    return row("W", account, "", at=to)


def guard(moves: int, *, epoch: str, account: str = WMS, at: int = 0) -> Row:
    """What follows was asked for when the account's cursor had moved so often."""
    return row("P", account, "", status="G", number=moves, at=at, sku=epoch)


def position(
    moves: int,
    cursor: str,
    *,
    at: int,
    epoch: str,
    account: str = WMS,
    began: int = 0,
    complete_to: int = 0,
) -> Row:
    """A page that was asked for at ``at`` ends here: the next one begins at the cursor."""
    return row(
        "P", account, "", status="M", number=moves, at=at, evidence=complete_to, sku=epoch, group=cursor,
        extra=str(began),
    )  # fmt: skip


def catalogue(
    *,
    at: int = 1,
    status: str = "",
    account: str = WMS,
    item: str = ITEM,
    sku: str = "",
    group: str = "",
    backorder: bool | None = None,
    substitutes: list[str] | None = None,
    op: str = "",
) -> Row:
    """What an item is; with nothing but its name, a second try for its waiting events."""
    extra: dict[str, object] = {}
    if backorder is not None:
        extra["backorder"] = backorder
    if substitutes is not None:
        extra["substitutes"] = json.dumps(substitutes)
    text = json.dumps(extra) if extra else ""
    return row("C", account, item, status=status, at=at, sku=sku, group=group, extra=text, op=op)


def row(
    kind: str,
    account: str,
    item: str,
    location: str = "",
    *,
    status: str = "",
    number: int = 0,
    version: int | None = None,
    scale: str = "",
    resolution: int = 0,
    at: int,
    evidence: int | None = None,
    op: str | None = None,
    sku: str = "",
    group: str = "",
    extra: str = "",
) -> Row:
    """Any row. Without an ``op`` it is known by what it says: the same again is a repeat."""
    digits = "" if version is None else f"{version:020d}"
    own_op = "/".join([kind, item, location, status, str(number), digits, str(at), group, extra])
    return (
        kind, account, item, location, status, str(number), scale if digits else "", digits, str(resolution),
        str(at), str(at if evidence is None else evidence), own_op if op is None else op, f"test:{kind}",
        sku, group, extra,
    )  # fmt: skip


def order(
    quantity: int = 1,
    *,
    at: int,
    version: int | None = None,
    account: str = "shop",
    item: str = ITEM,
    location: str = "",
    status: str = "P",
    name: str = "1001",
    line: str = "1",
    references: tuple[str, ...] = (),
    happened: int | None = None,
    ordered: int = 0,
    scale: str = "S",
    resolution: int = 0,
    op: str | None = None,
) -> Row:
    """The state of an order's line, as it came to the hub at ``at``.

    ``ordered`` is when the order was placed (0: not said); ``happened`` the last moment at which
    this state can have come about, in microseconds.
    """
    return row(
        "O", account, item, location, status=status, number=quantity, version=version, scale=scale,
        resolution=resolution, at=at, evidence=ordered, op=op, sku="" if happened is None else str(happened),
        group=f"{name}\x1f{line}", extra="\x1e".join(references),
    )  # fmt: skip


def cancel(*, at: int, **rest: Any) -> Row:
    """The line is cancelled as a whole."""
    return order(0, at=at, status="X", **rest)


def ack(
    quantity: int = 1,
    *,
    at: int,
    version: int | None = None,
    account: str = WMS,
    item: str = ITEM,
    location: str = "",
    dropped: bool = False,
    name: str = "",
    line: str = "",
    references: tuple[str, ...] = (),
    scale: str = "S",
    resolution: int = 0,
    key: str | None = None,
) -> Row:
    """A source's word that its number contains units of a sale, or (less than none) contains them no more."""
    return row(
        "A", account, item, location, status="X" if dropped else "", number=quantity, version=version,
        scale=scale, resolution=resolution, at=at, op=key, group=f"{name}\x1f{line}" if name else "",
        extra="\x1e".join(references),
    )  # fmt: skip
