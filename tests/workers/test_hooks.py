"""Real processes and an emulated platform that forgets us: it is put right, and what was missed is polled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.hooked_platform import TOPICS, HookedPlatform, a_platform
from tests.support.processes import Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("hooks")]

QUICK: Final = {
    "SERVER__PUBLIC_URL": "{url}",
    "UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
    "HOOK_GUARD__CHECK_EVERY_MS": "500",
    "POLLING__LOOK_EVERY_MS": "100",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two workers, of which one at a time asks."""
    with Deployment(tmp_path_factory.mktemp("hub"), settings=QUICK, workers=2) as started:
        yield started
        sys.stdout.write(started.logs())


@pytest.fixture
async def platform(hub: Deployment) -> AsyncIterator[HookedPlatform]:
    async with a_platform(hub) as one:
        await one.is_in("sound", repairs=0)
        yield one


async def test_what_was_switched_off_is_on_again_and_what_it_withheld_is_there(
    platform: HookedPlatform,
) -> None:
    assert await platform.change(7) == 200
    await platform.shows(7)
    for topic in TOPICS:
        await platform.post("/_emulator/health", name=topic, health="UNHEALTHY")
    await platform.change(5)
    await platform.is_in("sound", repairs=1)
    await platform.shows(5)
    assert await platform.change(9) == 200


async def test_what_was_deleted_is_registered_anew_and_its_new_secret_is_accepted(
    platform: HookedPlatform,
) -> None:
    for topic in TOPICS:
        await platform.delete(topic)
    await platform.is_in("sound", repairs=1)
    assert await platform.change(3) == 200
    await platform.shows(3)
