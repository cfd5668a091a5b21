"""Accounts in a real store: added, rotated, mapped, removed; and what somebody who reads the store learns."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from redis import Redis

from synchub import keyspace, sync_keys
from synchub.accounts import operations as accounts
from synchub.accounts.model import Added, NewAccount, Place, Role
from synchub.accounts.vault import Vault
from synchub.connector_kit.events import Level, Version
from synchub.connector_kit.events import Scale as VersionScale
from synchub.errors import InvalidRequest, Misconfigured, NotFound, SynchubError
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.mappings import operations as mappings
from synchub.settings import SecretsSettings
from synchub.stock import operations as stock
from synchub.stock.rules import Circumstances, rows_of
from tests.support.registry import KEY, MANIFESTS, OTHER_KEY, SHOP_CREDENTIALS, open_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from synchub.accounts.operations import Registry
    from synchub.stock.model import Answer

CANARY = "canary-secret-0123456789"
PLACE = Place(merchant="acme", account="acme-shop", credential="client_secret")
ACME = MerchantKeys("acme")


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    async with open_registry(redis_url) as opened:
        yield opened


def standard(**changes: object) -> NewAccount:
    return NewAccount(**({"platform": "standard", "merchant": "acme"} | changes))  # type: ignore[arg-type]  # a builder


def shop(**changes: object) -> NewAccount:
    return standard(**({"platform": "shop", "credentials": SHOP_CREDENTIALS} | changes))


async def report(
    registry: Registry, account: str, item: str, place: str, quantity: int, number: int = 1
) -> None:
    event = Level(
        item=item,
        location=place,
        quantity=quantity,
        version=Version(scale=VersionScale.SEQUENCE, number=number),
    )
    about = Circumstances(account=account, at_ms=now_ms(), is_read=False, op=f"op{number}", cause="test")
    await stock.apply(registry.redis, ACME, rows_of([event], about), settings=registry.settings)


async def answer(registry: Registry, sku: str) -> Answer:
    return (await stock.read(registry.redis, ACME, [sku])).answers[0]


def everything_in(url: str) -> str:
    """The whole store as a thief would have it: every key with its value, and as it lies on disk."""
    with Redis.from_url(url) as client:
        return repr([(key, client.dump(key)) for key in client.scan_iter()]) + repr(
            [
                client.hgetall(key) if client.type(key) == b"hash" else client.dump(key)
                for key in client.scan_iter()
            ]
        )


# Adding


async def test_the_first_account_brings_its_merchant_into_being(registry: Registry) -> None:
    added = await accounts.add_account(registry, standard())
    assert (added.account.name, added.account.role, added.account.rank) == (
        "acme-standard",
        Role.AUTHORITY,
        1,
    )
    assert added.secret is not None
    assert added.secret.startswith("whsec_")
    assert added.warnings == ()
    role = await registry.redis.execute("HGET", ACME.roles, "acme-standard")
    assert role.startswith(b"A|1|900000|s|m|0|0|1|")
    epoch = (await stock.read_head(registry.redis, ACME)).epoch
    assert len(epoch) >= 11


async def test_a_second_account_leaves_the_epoch_alone_and_ranks_behind(registry: Registry) -> None:
    await accounts.add_account(registry, standard())
    epoch = (await stock.read_head(registry.redis, ACME)).epoch
    second = await accounts.add_account(registry, standard())
    assert (second.account.name, second.account.rank) == ("acme-standard-2", 2)
    assert (await stock.read_head(registry.redis, ACME)).epoch == epoch


async def test_names_are_unique_across_merchants(registry: Registry) -> None:
    await accounts.add_account(registry, standard(name="main"))
    with pytest.raises(InvalidRequest, match="already is an account main"):
        await accounts.add_account(registry, standard(merchant="other", name="main"))
    assert await registry.redis.execute("EXISTS", MerchantKeys("other").head) == 0


async def test_of_two_that_add_the_same_name_at_once_one_is_told(registry: Registry) -> None:
    wanted = [accounts.add_account(registry, standard(name="main")) for _ in range(8)]
    outcomes = await asyncio.gather(*wanted, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Added"] + ["InvalidRequest"] * 7


async def test_an_unknown_platform_is_answered_with_those_there_are(registry: Registry) -> None:
    with pytest.raises(InvalidRequest, match="depot, shop, standard"):
        await accounts.add_account(registry, standard(platform="nowhere"))


async def test_a_refused_account_leaves_nothing_behind(registry: Registry, redis_url: str) -> None:
    for wanted in (
        shop(credentials={}),
        standard(merchant="Not a name"),
        standard(name="a/b"),
        standard(role=Role.AUTHORITY, rank=0),
        standard(credentials={"signing_secret": "whsec_short"}),
    ):
        with pytest.raises(InvalidRequest):
            await accounts.add_account(registry, wanted)
    with Redis.from_url(redis_url) as client:
        assert set(client.keys()) <= {keyspace.registry_key().encode()}


async def test_a_crash_before_the_record_is_repaired_by_adding_again(registry: Registry) -> None:
    await accounts.add_account(registry, standard(name="a"))
    await registry.redis.execute("HDEL", keyspace.accounts(), "a")
    await accounts.add_account(registry, standard(name="a"))
    assert (await accounts.check_account(registry, "a")).is_sound


# Secrets


async def test_no_secret_is_readable_in_the_store(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, shop(credentials={**SHOP_CREDENTIALS, "client_secret": CANARY}))
    added = await accounts.add_account(registry, standard())
    await accounts.rotate_credential(registry, "acme-shop", value=CANARY + "2")
    stored = everything_in(redis_url)
    assert "acme-shop" in stored
    assert CANARY not in stored
    assert str(added.secret) not in stored


async def test_no_secret_is_readable_in_what_is_logged_printed_or_raised(
    registry: Registry, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    wanted = shop(credentials={**SHOP_CREDENTIALS, "client_secret": CANARY})
    added = await accounts.add_account(registry, wanted)
    view = accounts.open_view(registry.vault, added.account, MANIFESTS["shop"], at_ms=now_ms())
    texts = [repr(thing) for thing in (wanted, added, added.account, view, view.signing, registry.vault)]
    for wrong in (
        shop(name="x", credentials={"client_secret": CANARY}),
        shop(name="x", credentials={CANARY: "x"}),
        standard(name="x", credentials={"signing_secret": CANARY}),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await accounts.add_account(registry, wrong)
        texts.append(str(refused.value) + refused.value.detail)
    checked = await accounts.check_account(registry, "acme-shop")
    captured = capfd.readouterr()
    text = "".join((*texts, *checked.sentences, captured.out, captured.err, caplog.text))
    assert CANARY not in text
    assert added.account.credentials["client_secret"][0].ciphertext not in text


async def test_a_ciphertext_moved_to_another_account_does_not_open(registry: Registry) -> None:
    await accounts.add_account(registry, shop())
    await accounts.add_account(registry, shop())
    records = {
        name: await registry.redis.execute("HGET", keyspace.accounts(), name)
        for name in ("acme-shop", "acme-shop-2")
    }
    await registry.redis.execute("HSET", keyspace.accounts(), "acme-shop-2", records["acme-shop"])
    checked = await accounts.check_account(registry, "acme-shop-2")
    assert not checked.is_sound
    assert "does not open" in checked.sentences[0]


def test_a_ciphertext_opens_at_its_own_place_only() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(CANARY, PLACE)
    assert vault.unseal(sealed, PLACE) == CANARY
    for place in (
        Place(merchant="other", account="acme-shop", credential="client_secret"),
        Place(merchant="acme", account="acme-shop2", credential="client_secret"),
        Place(merchant="acme", account="acme-shop", credential="access_token"),
        Place(merchant="acmeacme-shop", account="", credential="client_secret"),
    ):
        with pytest.raises(Misconfigured, match="does not open"):
            vault.unseal(sealed, place)


def test_sealing_twice_gives_two_texts_and_a_changed_one_does_not_open() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(CANARY, PLACE)
    assert vault.seal(CANARY, PLACE) != sealed
    other = "A" if sealed[-5] != "A" else "B"
    for text in (sealed[:-5] + other + sealed[-4:], sealed[:20], "", "v1.", "v1.é", sealed + "A"):
        with pytest.raises(Misconfigured):
            vault.unseal(text, PLACE)


def test_another_key_does_not_open_and_says_so_without_the_secret() -> None:
    sealed = Vault(KEY).seal(CANARY, PLACE)
    with pytest.raises(Misconfigured, match="another key") as refused:
        Vault(OTHER_KEY).unseal(sealed, PLACE)
    assert CANARY not in str(refused.value)
    assert refused.value.__context__ is None or CANARY not in repr(refused.value.__context__)


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "secret.key"
    first = Vault.open(SecretsSettings(key_file=path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault.open(SecretsSettings(key_file=path)).fingerprint == first.fingerprint
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]
    assert path.read_text(encoding="ascii").strip() not in repr(first)


async def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    settings = SecretsSettings(key_file=tmp_path / "secret.key")
    opened = await asyncio.gather(*(asyncio.to_thread(Vault.open, settings) for _ in range(16)))
    assert len({vault.fingerprint for vault in opened}) == 1


@pytest.mark.parametrize("content", ["", "short", "!" * 44, "\xff" * 10, "QUJD\nQUJD"])
def test_a_key_file_without_a_key_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret.key"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(Misconfigured, match=r"secret\.key does not hold a key"):
        Vault.open(SecretsSettings(key_file=path))


def test_a_malformed_key_from_the_environment_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"secrets\.key does not hold a key") as refused:
        Vault.open(SecretsSettings(key=SecretStr(CANARY), key_file=tmp_path / "unused"))
    assert CANARY not in str(refused.value)
    assert not (tmp_path / "unused").exists()


def test_a_key_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match="cannot be used"):
        Vault.open(SecretsSettings(key_file=tmp_path / "file" / "secret.key"))


async def test_a_process_with_another_key_writes_nothing(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, standard())
    async with open_registry(redis_url, key=OTHER_KEY) as stranger:
        with pytest.raises(Misconfigured, match="another key"):
            await accounts.add_account(stranger, standard())
        with pytest.raises(Misconfigured, match="another key"):
            await accounts.rotate_credential(stranger, "acme-standard")
    assert len(await accounts.list_accounts(registry.redis)) == 1


async def test_a_lost_key_is_dealt_with_by_removing_everything(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, standard())
    async with open_registry(redis_url, key=OTHER_KEY) as stranger:
        await accounts.remove_account(stranger, "acme-standard")
        await accounts.add_account(stranger, standard())
        assert (await accounts.check_account(stranger, "acme-standard")).is_sound


# Rotating


async def test_old_and_new_secret_are_both_valid_until_the_overlap_ends(registry: Registry) -> None:
    first = (await accounts.add_account(registry, standard())).secret
    rotated = await accounts.rotate_credential(registry, "acme-standard", overlap_hours=1)
    stored = await accounts.find_account(registry.redis, "acme-standard")
    now = now_ms()
    view = accounts.open_view(registry.vault, stored, MANIFESTS["standard"], at_ms=now)
    assert view.secrets_at(now) == (rotated.secret, first)
    assert view.secrets_at(now + 3_600_001) == (rotated.secret,)
    assert view.credentials["signing_secret"] == rotated.secret


async def test_an_optional_credential_may_come_later_and_makes_the_account_fetchable(
    registry: Registry,
) -> None:
    await accounts.add_account(registry, shop())
    assert (await registry.redis.execute("HGET", ACME.roles, "acme-shop")).split(b"|")[5] == b"0"
    rotated = await accounts.rotate_credential(registry, "acme-shop", "access_token", value="token")
    assert rotated.secret is None
    assert (await registry.redis.execute("HGET", ACME.roles, "acme-shop")).split(b"|")[5] == b"1"


async def test_of_a_credential_that_signs_nothing_the_old_value_ends_at_once(registry: Registry) -> None:
    await accounts.add_account(registry, shop(credentials={**SHOP_CREDENTIALS, "access_token": "a"}))
    changed = (await accounts.rotate_credential(registry, "acme-shop", "access_token", value="b")).account
    assert len(changed.credentials["access_token"]) == 1


async def test_a_platform_that_chooses_its_secret_needs_the_new_value(registry: Registry) -> None:
    await accounts.add_account(registry, shop())
    with pytest.raises(InvalidRequest, match="give the new value"):
        await accounts.rotate_credential(registry, "acme-shop")
    with pytest.raises(InvalidRequest, match="no credential colour"):
        await accounts.rotate_credential(registry, "acme-shop", "colour", value="x")
    with pytest.raises(NotFound):
        await accounts.rotate_credential(registry, "nobody")


async def test_of_two_rotations_at_once_none_is_lost_silently(registry: Registry) -> None:
    await accounts.add_account(registry, standard())
    wanted = [accounts.rotate_credential(registry, "acme-standard") for _ in range(4)]
    outcomes = await asyncio.gather(*wanted, return_exceptions=True)
    done = [outcome for outcome in outcomes if isinstance(outcome, Added)]
    told = [outcome for outcome in outcomes if isinstance(outcome, SynchubError)]
    assert len(done) + len(told) == 4
    view = accounts.open_view(
        registry.vault,
        await accounts.find_account(registry.redis, "acme-standard"),
        MANIFESTS["standard"],
        at_ms=now_ms(),
    )
    assert {str(rotated.secret) for rotated in done} <= set(view.secrets_at(now_ms()))


# Mapping


async def test_a_mapped_location_releases_what_waited_for_it(registry: Registry) -> None:
    await accounts.add_account(
        registry, standard(platform="depot", credentials={"shared_secret": "hush"}, name="depot")
    )
    await report(registry, "depot", "TEE", "7", 12)
    await report(registry, "depot", "CAP", "7", 3)
    waiting = await mappings.list_parked(registry.redis, ACME, "depot")
    assert {(one.item, one.levels, one.locations) for one in waiting.items} == {
        ("CAP", 1, ("7",)),
        ("TEE", 1, ("7",)),
    }
    assert not (await answer(registry, "TEE")).exists
    tried = await mappings.map_location(registry.redis, ACME, "depot", "7", "WH1", settings=registry.settings)
    assert tried == 2
    assert (await answer(registry, "TEE")).ats == 12
    assert (await mappings.list_parked(registry.redis, ACME, "depot")).total == 0


async def test_a_mapped_item_releases_what_waited_for_it(registry: Registry) -> None:
    await accounts.add_account(registry, shop(role=Role.AUTHORITY))
    await report(registry, "acme-shop", "gid-1", "L1", 4)
    await mappings.map_location(registry.redis, ACME, "acme-shop", "L1", "WH1", settings=registry.settings)
    assert (await mappings.list_parked(registry.redis, ACME, "acme-shop")).total == 1
    for _ in range(2):
        await mappings.map_item(registry.redis, ACME, "acme-shop", "gid-1", "TEE", settings=registry.settings)
    assert (await answer(registry, "TEE")).ats == 4
    found = await mappings.list_mappings(registry.redis, ACME, "acme-shop")
    assert (found.items, found.locations) == ({"gid-1": "TEE"}, {"L1": "WH1"})


async def test_an_item_mapped_anew_takes_its_stock_away_from_the_old_sku(registry: Registry) -> None:
    await accounts.add_account(registry, shop(role=Role.AUTHORITY))
    for theirs, ours in (("gid-1", "OLD"), ("gid-1", "NEW")):
        await mappings.map_location(
            registry.redis, ACME, "acme-shop", "L1", "WH1", settings=registry.settings
        )
        await mappings.map_item(registry.redis, ACME, "acme-shop", theirs, ours, settings=registry.settings)
        await report(registry, "acme-shop", "gid-1", "L1", 4, number=1 if ours == "OLD" else 2)
    assert not (await answer(registry, "OLD")).known
    assert (await answer(registry, "NEW")).ats == 4


async def test_odd_names_cannot_be_taken_for_patterns_or_other_accounts(registry: Registry) -> None:
    await accounts.add_account(registry, shop(name="a"))
    await accounts.add_account(registry, shop(name="a-b"))
    await mappings.map_location(registry.redis, ACME, "a-b", "*", "WH1", settings=registry.settings)
    assert (await mappings.list_mappings(registry.redis, ACME, "a")).locations == {}
    await accounts.remove_account(registry, "a")
    assert (await mappings.list_mappings(registry.redis, ACME, "a-b")).locations == {"*": "WH1"}


# Checking and removing


async def test_a_sound_account_says_how_far_it_is(registry: Registry) -> None:
    await accounts.add_account(registry, shop(role=Role.AUTHORITY))
    await report(registry, "acme-shop", "gid-1", "L1", 4)
    checked = await accounts.check_account(registry, "acme-shop")
    assert checked.is_sound
    assert "1 items wait for a mapping." in checked.sentences


async def test_an_interrupted_add_is_seen_by_a_check_and_mended_at_start(registry: Registry) -> None:
    await accounts.add_account(registry, standard())
    await registry.redis.execute("HDEL", ACME.roles, "acme-standard")
    assert not (await accounts.check_account(registry, "acme-standard")).is_sound
    assert await accounts.align_roles(registry) == 1
    assert (await accounts.check_account(registry, "acme-standard")).is_sound


async def test_a_removed_account_counts_for_nothing_at_once(registry: Registry) -> None:
    await accounts.add_account(registry, standard(name="first"))
    await accounts.add_account(registry, standard(name="second"))
    for number in range(150):
        await report(registry, "first", f"SKU-{number:03d}", "WH1", 10)
    await report(registry, "second", "SKU-000", "WH2", 5)
    assert (await answer(registry, "SKU-000")).ats == 15
    await accounts.remove_account(registry, "first")
    assert (await answer(registry, "SKU-000")).ats == 5
    assert not any([(await answer(registry, f"SKU-{number:03d}")).ats for number in range(1, 150)])
    with pytest.raises(NotFound):
        await accounts.find_account(registry.redis, "first")


async def test_a_removed_account_leaves_no_key_of_its_own(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, shop())
    await mappings.map_location(registry.redis, ACME, "acme-shop", "L1", "WH1", settings=registry.settings)
    await mappings.map_item(registry.redis, ACME, "acme-shop", "gid-1", "TEE", settings=registry.settings)
    await report(registry, "acme-shop", "gid-2", "L1", 4)
    await registry.redis.execute("SADD", ACME.group("acme-shop", "p1"), "gid-1")
    await stock.advance_watermark(
        registry.redis, ACME, account="acme-shop", complete_to_ms=5, settings=registry.settings
    )
    spoken = (
        sync_keys.cursors("acme"),
        sync_keys.polls("acme"),
        sync_keys.hook_guard("acme"),
        sync_keys.watched(),
    )
    for key in spoken:
        await registry.redis.execute("HSET", key, "acme-shop", "something")
    for key in (sync_keys.budget("acme", "acme-shop"), sync_keys.breaker("acme", "acme-shop")):
        await registry.redis.execute("HSET", key, "field", "something")
    await accounts.remove_account(registry, "acme-shop")
    with Redis.from_url(redis_url, decode_responses=True) as client:
        left = {key for key in client.scan_iter() if "acme-shop" in key}
        fields = [client.hgetall(key) for key in (ACME.roles, ACME.locations, ACME.watermarks, *spoken)]
    assert left == set()
    assert fields == [{}] * 7


async def test_removing_goes_on_where_it_was_interrupted(registry: Registry) -> None:
    await accounts.add_account(registry, standard())
    await report(registry, "acme-standard", "TEE", "WH1", 4)
    await accounts._forget_merchant_part(registry.redis, ACME, "acme-standard")
    await accounts.remove_account(registry, "acme-standard")
    assert await accounts.list_accounts(registry.redis, "acme") == ()
