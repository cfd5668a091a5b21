"""What ``synchub doctor`` says of the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.commands.doctor import findings
from tests.support.archive import Ledger
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import add_merchant

if TYPE_CHECKING:
    from pathlib import Path


async def test_an_archive_that_is_many_segments_behind_wants_somebody(redis_url: str, tmp_path: Path) -> None:
    await add_merchant(redis_url, "acme")
    settings = settings_with(redis_url, archive={"folder": tmp_path, "segment_max": 2})
    async with opened_hub(settings) as hub:
        ledger = Ledger(redis=hub.redis, folder=tmp_path)
        await ledger.write(20)
        notes, complaints = await findings(hub)
        assert "20 ledger entries wait for the archive." in notes
        assert not [one for one in complaints if "archived" in one]
        await ledger.write(1)
        _, complaints = await findings(hub)
        assert "21 ledger entries of acme are not archived: the workers' logs say why." in complaints
        await ledger.archive_all()
        notes, _ = await findings(hub)
        assert "0 ledger entries wait for the archive." in notes
