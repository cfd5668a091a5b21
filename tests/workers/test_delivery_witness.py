"""What is sent is accepted by implementations of Standard Webhooks that are not ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import standardwebhooks
import svix.webhooks

from synchub.subscriptions import occurrences
from synchub.subscriptions.model import Spot
from tests.support.endpoints import open_town, telling

if TYPE_CHECKING:
    from tests.support.endpoints import Taken

# The secret, the message and its signature that the specification's libraries are tested with.
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY: Final = b'{"test": 2432232314}'
SIGNATURE: Final = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def _told(redis_url: str) -> tuple[Taken, list[str]]:
    """One occurrence, and the secrets that it is signed with."""
    async with open_town(redis_url, tells=False) as town:
        made = await town.subscribe()
        rotated = json.loads((await town.ask("POST", f"/{made['id']}/rotate")).body)
        await town.change(Tölpel=7)
        async with telling(town.hub):
            await town.endpoint.reached(1)
        return town.endpoint.taken[0], [rotated["secret"], made["secret"]]


def test_the_published_vector_is_signed_as_published() -> None:
    headers = occurrences.headers(
        BODY, [SECRET], name="msg_p5jXN8AQM9LWM0D4loKWxJek", at_ms=1_614_265_330_999
    )
    assert headers["webhook-signature"] == SIGNATURE
    assert headers["webhook-timestamp"] == "1614265330"


def test_several_signatures_stand_apart_by_one_space_and_hold_one_comma_each() -> None:
    headers = occurrences.headers(BODY, [SECRET, SECRET], name="msg_1", at_ms=1_614_265_330_000)
    first, second = headers["webhook-signature"].split(" ")
    assert first == second
    assert first.count(",") == 1


def test_a_test_holds_no_items() -> None:
    body = json.loads(occurrences.test("msg_1", Spot(epoch="one", seq=3), 1_614_265_330_123))
    assert body == {
        "eventId": "msg_1",
        "name": "subscription.test",
        "timestamp": "2021-02-25T15:02:10.123Z",
        "data": {"items": []},
        "cursor": "one:3",
        "truncated": False,
    }


@pytest.mark.parametrize("webhook", [standardwebhooks.Webhook, svix.webhooks.Webhook])
async def test_python_libraries_accept_it_under_both_secrets_and_refuse_what_was_changed(
    redis_url: str, webhook: Any
) -> None:
    told, secrets = await _told(redis_url)
    headers = dict(told.headers)
    for secret in secrets:
        webhook(secret).verify(told.body, headers)
    errors = (standardwebhooks.WebhookVerificationError, svix.webhooks.WebhookVerificationError)
    for body, changed in (
        (told.body.replace(b"7", b"8"), {}),
        (told.body, {"webhook-id": "msg_other"}),
        (told.body, {"webhook-timestamp": str(int(told.headers["webhook-timestamp"]) - 1)}),
    ):
        names = {name.lower(): value for name, value in headers.items()}
        with pytest.raises(errors):
            webhook(secrets[0]).verify(body, {**names, **changed})
