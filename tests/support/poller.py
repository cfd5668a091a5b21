"""An agent that polls for changes as the documentation tells it to, and notes every broken promise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.hub import Heard, Site


class Poller:
    """Holds what it was told; ``items`` is the state at ``seq``."""

    def __init__(self, site: Site, query: str = "", *, key: str = "") -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.seq: int | None = None
        """None before the first whole state."""
        self.position = ""
        self.resets = 0
        self.broken: list[str] = []
        self._site = site
        self._query = query
        self._key = key or site.merchant.key
        self._pages: dict[str, dict[str, Any]] = {}
        self._part = 0

    @property
    def levels(self) -> dict[str, int]:
        """What is held, in short."""
        return {sku: item["available"] for sku, item in self.items.items()}

    async def ask(self, **parameters: object) -> Heard:
        """Send one poll from here."""
        given = {"since": self.position, **parameters} if self.position else parameters
        query = "&".join([self._query, *(f"{name}={value}" for name, value in given.items())]).strip("&")
        headers = {"Authorization": f"Bearer {self._key}"}
        return await self._site.ask("GET", f"/v1/changes?{query}", headers=headers)

    async def poll(self, **parameters: object) -> dict[str, Any]:
        """Poll once and take what is told; empty when everything has to be fetched anew."""
        heard = await self.ask(**parameters)
        if heard.status == 410:
            assert heard.problem["code"] == "cursor_too_old"
            self.items, self.seq, self.position, self.resets = {}, None, "", self.resets + 1
            return {}
        assert heard.status == 200, heard
        told: dict[str, Any] = json.loads(heard.body)
        self._take(told)
        return told

    async def catch_up(self, **parameters: object) -> dict[str, Any]:
        """Poll until there is no more at the moment."""
        while not (told := await self.poll(**parameters)) or told["more"]:
            pass
        return told

    def _take(self, told: dict[str, Any]) -> None:
        if told["more"] is not (told["asof"] is None):
            self.broken.append("a time of completeness for what is not complete, or none for what is")
        if told["asof"] is not None and told["asof"] < told["st"]:
            self.broken.append("a time of completeness from before the question")
        if told["snapshot"] is None:
            self._cover(told)
        else:
            self._page(told)
        self.position = told["id"]

    def _page(self, told: dict[str, Any]) -> None:
        if told["snapshot"]["part"] == 0:
            self._pages, self._part = {}, 0
        if told["snapshot"]["part"] != self._part:
            self.broken.append(f"page {told['snapshot']['part']} where {self._part} was to come")
        self._part += 1
        self._pages |= {item["sku"]: item for item in told["items"]}
        if told["snapshot"]["last"]:
            self.items, self.seq = self._pages, told["seq"]

    def _cover(self, told: dict[str, Any]) -> None:
        if self.seq is None or told["prev"] > self.seq or told["seq"] < told["prev"]:
            covered = f"({told['prev']}, {told['seq']}]"
            self.broken.append(f"changes in {covered} where {self.seq} had been reached")
        self.seq = told["seq"]
        for item in told["items"]:
            if item["ver"] >= self.items.get(item["sku"], item)["ver"]:
                self.items[item["sku"]] = item
