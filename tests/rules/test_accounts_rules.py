"""What accounts and agents may be called, count for, and prove themselves with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from synchub.accounts import rules
from synchub.accounts.model import Account, Role, SealedValue
from synchub.agents import rules as agent_rules
from synchub.agents.model import Agent, Scope
from synchub.agents.model import Kind as KeyKind
from synchub.connector_kit.manifest import Kind
from synchub.errors import InvalidRequest
from synchub.keyspace import check_name
from synchub.mappings import rules as mapping_rules
from synchub.settings import LimitSettings
from tests.support.registry import SHOP_CREDENTIALS, a_manifest, a_shop

HOUR_MS = 3_600_000


def an_account(**changes: Any) -> Account:
    told: dict[str, Any] = {
        "name": "acme-standard",
        "merchant": "acme",
        "platform": "standard",
        "role": Role.AUTHORITY,
        "rank": 1,
        "max_age_ms": None,
        "credentials": {},
        "created_at_ms": 1,
    }
    return Account(**(told | changes))


def a_value(text: str = "x", *, until_ms: int | None = None) -> SealedValue:
    return SealedValue(ciphertext=text, not_before_ms=0, not_after_ms=until_ms)


@pytest.mark.parametrize("name", ["", "Acme", "-a", "a b", "a/b", "a:b", "a{b}", "ä", "a" * 64, "a\n"])
def test_names_that_could_break_a_url_or_a_key_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"The name must have 1 to 63 characters"):
        check_name(name, "The name")


def test_an_account_is_named_after_merchant_and_platform_and_then_numbered() -> None:
    assert rules.default_name("acme", "shop", set()) == "acme-shop"
    assert rules.default_name("acme", "shop", {"acme-shop", "acme-shop-2"}) == "acme-shop-3"


def test_a_merchant_with_a_long_name_has_to_name_the_account() -> None:
    with pytest.raises(InvalidRequest, match="--name"):
        rules.default_name("m" * 60, "shop", set())


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        (Kind.WMS, Role.AUTHORITY),
        (Kind.THREE_PL, Role.AUTHORITY),
        (Kind.ERP, Role.AUTHORITY),
        (Kind.CUSTOM, Role.AUTHORITY),
        (Kind.MARKETPLACE, Role.CONTRIBUTOR),
        (Kind.POS, Role.CONTRIBUTOR),
        (Kind.DTC, Role.CONTRIBUTOR),
    ],
)
def test_warehouses_hold_stock_and_shops_sell_it(kind: Kind, role: Role) -> None:
    assert rules.default_role(kind) is role


def test_a_second_authority_takes_the_first_free_rank() -> None:
    present = [an_account(rank=1), an_account(rank=3), an_account(rank=2, role=Role.MIRROR)]
    assert rules.default_rank(Role.AUTHORITY, present) == 2
    assert rules.default_rank(Role.CONTRIBUTOR, present) == 1


def test_an_account_that_is_written_to_cannot_be_the_authority() -> None:
    rules.check_role(Role.MIRROR, 1, is_written_to=True)
    with pytest.raises(InvalidRequest, match="writes stock to"):
        rules.check_role(Role.AUTHORITY, 1, is_written_to=True)


@pytest.mark.parametrize("rank", [0, -1, 100])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(InvalidRequest, match="rank"):
        rules.check_role(Role.AUTHORITY, rank, is_written_to=False)


def test_missing_credentials_are_named_with_their_titles() -> None:
    with pytest.raises(InvalidRequest, match=r"client_secret \(Client secret\), shop_domain \(Domain\)"):
        rules.credentials_to_generate(a_shop(), {})


def test_an_unknown_credential_is_named_together_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"no credential api_key; it has client_secret, shop_domain"):
        rules.credentials_to_generate(a_shop(), {**SHOP_CREDENTIALS, "api_key": "x"})


def test_a_secret_given_where_the_name_belongs_is_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as refused:
        rules.credentials_to_generate(a_shop(), {**SHOP_CREDENTIALS, "shpss_SECRET/canary": "x"})
    assert "canary" not in str(refused.value)


def test_a_secret_is_generated_only_where_the_scheme_lets_us_choose() -> None:
    assert rules.credentials_to_generate(a_manifest(), {}) == ("signing_secret",)
    assert rules.credentials_to_generate(a_shop(), SHOP_CREDENTIALS) == ()


def test_a_given_secret_of_a_scheme_with_a_form_is_checked_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as refused:
        rules.credentials_to_generate(a_manifest(), {"signing_secret": "whsec_canary"})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("value", ["", "  ", "a\x00b", "x" * 8193, "\ud800"])
def test_values_that_cannot_be_a_credential_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="Credential client_secret"):
        rules.check_credential(a_shop(), "client_secret", value)


def test_rotation_leaves_the_old_value_valid_for_the_overlap() -> None:
    values = rules.rotated((a_value("old"),), a_value("new"), overlap_ms=HOUR_MS, now_ms=1000)
    assert [value.ciphertext for value in values] == ["old", "new"]
    assert values[0].is_valid(1000 + HOUR_MS - 1)
    assert not values[0].is_valid(1000 + HOUR_MS)
    assert values[1].is_valid(10**15)


def test_a_second_rotation_does_not_prolong_the_first_value() -> None:
    first = rules.rotated((a_value("a"),), a_value("b"), overlap_ms=HOUR_MS, now_ms=0)
    second = rules.rotated(first, a_value("c"), overlap_ms=10 * HOUR_MS, now_ms=1)
    assert [value.not_after_ms for value in second] == [HOUR_MS, 1 + 10 * HOUR_MS, None]


def test_rotation_without_overlap_ends_everything_else_at_once() -> None:
    values = rules.rotated((a_value("a"), a_value("b")), a_value("c"), overlap_ms=0, now_ms=0)
    assert [value.ciphertext for value in values] == ["c"]


def test_ended_values_are_dropped_and_too_many_valid_ones_are_refused() -> None:
    ended = (a_value("a", until_ms=5), a_value("b", until_ms=5))
    assert len(rules.rotated(ended, a_value("c"), overlap_ms=HOUR_MS, now_ms=5)) == 1
    many = tuple(a_value(str(number)) for number in range(rules.VALUES_MAX))
    with pytest.raises(InvalidRequest, match="still valid"):
        rules.rotated(many, a_value("new"), overlap_ms=HOUR_MS, now_ms=0)


@pytest.mark.parametrize("hours", [-1, 721, float("nan")])
def test_an_overlap_out_of_range_is_refused(hours: float) -> None:
    with pytest.raises(InvalidRequest, match="overlap"):
        rules.overlap_ms(hours)


def test_the_role_line_says_whose_identifiers_the_account_uses() -> None:
    assert rules.role_row(an_account(), a_manifest(), default_max_age_ms=9) == "A|1|9|s|m|0|0|1|1"
    shop = an_account(role=Role.CONTRIBUTOR, rank=2, max_age_ms=7)
    assert rules.role_row(shop, a_shop(), default_max_age_ms=9) == "C|2|7|p|p|0|0|1|1"


def test_an_account_is_fetched_from_only_when_it_has_every_secret_its_client_needs() -> None:
    shop = an_account(credentials={"client_secret": (a_value(),), "access_token": (a_value(),)})
    assert rules.role_row(shop, a_shop(), default_max_age_ms=9).split("|")[5] == "1"
    without = replace(shop, credentials={"client_secret": (a_value(),)})
    assert rules.role_row(without, a_shop(), default_max_age_ms=9).split("|")[5] == "0"


def test_a_secret_that_the_client_does_without_need_not_be_there_to_fetch() -> None:
    token = {"title": "Access token", "required": False, "client_does_without": True}
    offers = {"client_secret": {"title": "Client secret", "signing": True}, "access_token": token}
    open_to_all = an_account(credentials={"client_secret": (a_value(),)})
    row = rules.role_row(open_to_all, a_shop(credentials=offers), default_max_age_ms=9)
    assert row.split("|")[5] == "1"


def test_a_demoted_account_counts_for_nothing_and_keeps_its_identifiers() -> None:
    assert rules.demoted("A|1|900|s|m|1|0|1|77") == "C|1|900|s|m|0|0|1|77"


def test_a_merchant_without_an_authority_is_warned() -> None:
    seller = an_account(role=Role.CONTRIBUTOR)
    assert "no authority" in rules.warnings(seller, a_manifest(), [])[0]
    assert rules.warnings(seller, a_manifest(), [an_account()]) == ()


def test_a_platform_with_locations_of_its_own_asks_for_a_map() -> None:
    assert "synchub account map acme-standard" in rules.warnings(an_account(), a_shop(), [])[0]


def test_a_key_holds_256_bits_and_only_its_form_is_ever_hashed() -> None:
    key = agent_rules.key_from(bytes(32))
    assert key == "sak_" + "A" * 43
    kinds = {kind: agent_rules.key_from(bytes(32), kind) for kind in KeyKind}
    assert [one[:4] for one in kinds.values()] == ["sak_", "smk_", "sok_"]
    assert all(agent_rules.is_key(one) for one in kinds.values())
    for other in ("", "sak_", key + "A", key[:-1], "sxk_" + "A" * 43, "sak_" + "A" * 42 + "\n", key + "\n"):
        assert not agent_rules.is_key(other)


def test_scopes_default_to_reading_and_unknown_ones_are_refused() -> None:
    assert agent_rules.scopes_from([]) == {Scope.STOCK_READ, Scope.FEED_READ, Scope.RESERVATIONS}
    assert agent_rules.scopes_from(["reservations"]) == {Scope.RESERVATIONS}
    with pytest.raises(InvalidRequest, match="feed:read, reservations, stock:read"):
        agent_rules.scopes_from(["root"])


@pytest.mark.parametrize(("kind", "prefix"), [(KeyKind.MERCHANT, "merchant:"), (KeyKind.OPERATOR, "ops:")])
def test_a_key_has_scopes_of_its_own_kind_only(kind: KeyKind, prefix: str) -> None:
    assert agent_rules.scopes_from([], kind) == {scope for scope in Scope if scope.startswith(prefix)}
    for scope in agent_rules.SCOPES[KeyKind.AGENT]:
        with pytest.raises(InvalidRequest):
            agent_rules.scopes_from([scope], kind)


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, (2000, 2000)), ({"rate_per_s": 3}, (333_334, 2000)), ({"burst": 7}, (2000, 7))],
)
def test_an_agents_own_limits_come_before_those_of_the_settings(
    own: dict[str, int], expected: tuple[int, int]
) -> None:
    plain = Agent(
        name="a",
        merchant="m",
        tier="t",
        channels=frozenset(),
        scopes=frozenset(),
        key_hash="",
        created_at_ms=1,
    )
    agent = replace(plain, rate_per_s=own.get("rate_per_s"), burst=own.get("burst"))
    rate = agent_rules.rate_of(agent, LimitSettings())
    assert (rate.interval_us, rate.burst) == expected


def test_a_location_cannot_move_while_its_stock_is_counted_elsewhere() -> None:
    assert not mapping_rules.is_mapped("L1", "WH1", {})
    assert mapping_rules.is_mapped("L1", "WH1", {"L1": "WH1"})
    with pytest.raises(InvalidRequest, match="mapped to WH1"):
        mapping_rules.is_mapped("L1", "WH2", {"L1": "WH1"})


def test_two_locations_of_an_account_cannot_be_one_of_the_merchants() -> None:
    with pytest.raises(InvalidRequest, match="Location L1 is mapped to WH1 already"):
        mapping_rules.is_mapped("L2", "WH1", {"L1": "WH1"})


@pytest.mark.parametrize("text", ["", " a", "a\x1fb", "a\u202eb", "x" * 129])
def test_identifiers_that_could_deceive_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        mapping_rules.check_identifier(text, "The SKU")


def test_a_client_can_call_with_every_secret_or_what_stands_for_it() -> None:
    def secret(**about: object) -> dict[str, object]:
        return {"title": "Secret", "required": False, **about}

    manifest = a_shop(
        credentials={
            "client_secret": {"title": "Client secret", "signing": True},
            "access_token": secret(),
            "refresh_token": secret(instead_of="access_token"),
            "proxy_password": secret(client_does_without=True),
        }
    )
    assert not rules.can_call(manifest, {"client_secret"})
    assert rules.can_call(manifest, {"access_token"})
    assert rules.can_call(manifest, {"refresh_token"})
