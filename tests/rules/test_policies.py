"""Which terms hold for whom, and what a document of policies may say."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.errors import InvalidRequest, PayloadTooLarge
from synchub.policies import document as module
from synchub.policies.document import policies_of, read_form, shown, text_of
from synchub.policies.model import (
    Conflict,
    Disclosure,
    Edit,
    OnStale,
    OnUnknown,
    Policies,
    Rule,
    Scope,
    Stored,
    Takeover,
    Terms,
)
from synchub.policies.rules import REMEMBERED_MAX, Compiled, is_pattern, regex_of, resolve, unescaped

if TYPE_CHECKING:
    from collections.abc import Sequence

THRESHOLD: Final = 5


def compiled(*rules: dict[str, Any], low_threshold: int = THRESHOLD, version: int = 1) -> Compiled:
    body = json.dumps({"rules": rules}).encode()
    return Compiled(policies_of(read_form(body), version), low_threshold=low_threshold)


def rule(units: int, *, skus: Sequence[str] = (), tier: str = "", channel: str = "") -> dict[str, Any]:
    scope: dict[str, Any] = {"skus": list(skus)} if skus else {}
    scope |= {"tier": tier} if tier else {}
    scope |= {"channel": channel} if channel else {}
    return {"scope": scope, "set": {"buffer_units": units}}


def buffer(policies: Compiled, sku: str = "TEE", tier: str | None = None, channel: str | None = None) -> int:
    return resolve(policies, sku, tier, channel).buffer_units


# ------------------------------------------------------------------------------------------------- resolution


def test_without_policies_the_defaults_hold() -> None:
    nothing = Compiled(Policies(version=0), low_threshold=7)
    assert resolve(nothing, "TEE", "gold", "chat") == Terms(version=0, low_threshold=7)


def test_the_defaults_are_those_that_are_promised() -> None:
    terms = Terms(version=0)
    assert (terms.disclosure, terms.buffer_units, terms.buffer_bp, terms.allowance_bp) == (
        Disclosure.EXACT,
        0,
        0,
        0,
    )
    assert (terms.on_stale, terms.on_unknown) == (OnStale.ANSWER, OnUnknown.ASSUME_OUT)
    assert (terms.takeover, terms.conflict, terms.confirm_ms) == (Takeover.CAUTIOUS, Conflict.HONOUR, 0)
    limits = (terms.units_per_agent, terms.units_per_buyer, terms.transactions_per_session)
    assert limits == (None, None, None)


# From the least specific to the most: each of them wins over all before it, in whatever order they stand.
LADDER: Final = (
    rule(1),
    rule(2, channel="chat"),
    rule(3, tier="gold"),
    rule(4, tier="gold", channel="chat"),
    rule(5, skus=["T*"]),
    rule(6, skus=["T*"], channel="chat"),
    rule(7, skus=["T*"], tier="gold"),
    rule(8, skus=["T*"], tier="gold", channel="chat"),
    rule(9, skus=["TEE"]),
    rule(10, skus=["TEE"], channel="chat"),
    rule(11, skus=["TEE"], tier="gold"),
    rule(12, skus=["TEE"], tier="gold", channel="chat"),
)


@pytest.mark.parametrize("steps", range(1, len(LADDER) + 1))
def test_of_all_rules_that_fit_the_most_specific_counts(steps: int) -> None:
    upwards = compiled(*LADDER[:steps])
    downwards = compiled(*reversed(LADDER[:steps]))
    assert buffer(upwards, "TEE", "gold", "chat") == buffer(downwards, "TEE", "gold", "chat") == steps


@pytest.mark.parametrize(
    ("sku", "tier", "channel", "units"),
    [
        ("TEE", "gold", None, 11),
        ("TEE", None, "chat", 10),
        ("TEE", "silver", "shop", 9),
        ("TOP", "gold", "chat", 8),
        ("TOP", None, None, 5),
        ("CAP", "gold", None, 3),
        ("CAP", None, "chat", 2),
        ("CAP", None, None, 1),
    ],
)
def test_a_rule_for_others_does_not_count(
    sku: str, tier: str | None, channel: str | None, units: int
) -> None:
    assert buffer(compiled(*LADDER), sku, tier, channel) == units


def test_of_two_equally_specific_rules_the_later_one_counts() -> None:
    assert buffer(compiled(rule(1), rule(2))) == 2
    assert buffer(compiled(rule(1, skus=["T*"]), rule(2, skus=["*E"]))) == 2
    assert buffer(compiled(rule(2, skus=["*E"]), rule(1, skus=["T*"]))) == 1


def test_a_rule_that_names_a_sku_beside_a_pattern_is_about_that_sku() -> None:
    both = compiled(rule(1, skus=["C*", "TEE"]), rule(2, skus=["T*", "C*"]))
    assert (buffer(both, "TEE"), buffer(both, "CAP")) == (1, 2)


def test_every_field_goes_its_own_way() -> None:
    policies = compiled(
        {"set": {"buffer_percent": 10, "disclosure": "bucket", "channel_cap": 50}},
        {"scope": {"skus": ["TEE"]}, "set": {"disclosure": "none", "channel_cap": None}},
    )
    terms = resolve(policies, "TEE", None, None)
    assert (terms.buffer_bp, terms.disclosure, terms.channel_cap) == (1000, Disclosure.NONE, None)
    assert resolve(policies, "CAP", None, None).channel_cap == 50


def test_every_field_of_the_terms_can_be_set() -> None:
    chosen: dict[str, Any] = {
        "buffer_units": 1,
        "buffer_percent": 12.34,
        "lag_units": 2,
        "allowance_percent": 2.5,
        "channel_cap": 3,
        "low_threshold": 4,
        "disclosure": "bucket",
        "on_stale": "escalate",
        "on_unknown": "assume_in",
        "takeover": "trusting",
        "split": False,
        "units_per_agent": 5,
        "units_per_buyer": 6,
        "transactions_per_session": 7,
        "confirm_ms": 3000,
        "conflict": "void",
        "backpressure_below": 8,
    }
    terms = resolve(compiled({"set": chosen}), "TEE", None, None)
    default = Terms(version=1)
    assert [one.name for one in fields(Terms) if getattr(terms, one.name) == getattr(default, one.name)] == [
        "version"
    ]
    assert (terms.buffer_bp, terms.allowance_bp, terms.slow_below) == (1234, 250, 8)


def test_without_a_threshold_of_its_own_the_low_one_slows_agents_down() -> None:
    assert resolve(compiled({"set": {"low_threshold": 9}}), "TEE", None, None).slow_below == 9


def test_terms_say_which_version_they_follow_from() -> None:
    assert resolve(compiled(rule(1), version=12), "TEE", None, None).version == 12


def test_what_was_resolved_is_the_same_object_the_next_time() -> None:
    policies = compiled(*LADDER)
    assert resolve(policies, "CAP", "gold", None) is resolve(policies, "CAP", "gold", None)
    assert resolve(policies, "CAP", "made-up", "made-up-too") is resolve(policies, "CAP", None, None)


def test_more_skus_than_are_remembered_are_resolved_all_the_same() -> None:
    policies = compiled(rule(1, skus=["A-*"]))
    for number in range(REMEMBERED_MAX + 10):
        policies.terms(f"A-{number}", None, None)
    assert len(policies._group_of) <= REMEMBERED_MAX
    assert (buffer(policies, "A-1"), buffer(policies, "B-1")) == (1, 0)


names = st.sampled_from(["", "gold", "silver"])
scopes = st.builds(
    lambda skus, tier, channel: Scope(skus=skus, tier=tier or None, channel=channel or None),
    st.sampled_from([(), ("TEE",), ("T*",), ("C*", "TEE")]),
    names,
    names,
)


@given(
    st.lists(scopes, max_size=6, unique_by=lambda one: (one.skus, one.tier, one.channel)),
    st.randoms(use_true_random=False),
)
def test_rules_that_differ_in_specificity_may_stand_in_any_order(drawn: list[Scope], chance: Any) -> None:
    by_rank = {_rank(scope): scope for scope in drawn if _fits(scope)}
    rules = [Rule(scope=scope, changes={"buffer_units": _number(scope)}) for scope in by_rank.values()]
    shuffled = rules[:]
    chance.shuffle(shuffled)
    before, after = (
        Compiled(Policies(version=1, rules=tuple(order)), low_threshold=5) for order in (rules, shuffled)
    )
    assert buffer(before, "TEE", "gold", "gold") == buffer(after, "TEE", "gold", "gold")
    best = max(by_rank, default=None)
    assert buffer(before, "TEE", "gold", "gold") == (0 if best is None else _number(by_rank[best]))


@given(st.lists(scopes, max_size=8))
def test_of_rules_in_any_number_the_last_of_the_most_specific_counts(drawn: list[Scope]) -> None:
    rules = tuple(
        Rule(scope=scope, changes={"buffer_units": number}) for number, scope in enumerate(drawn, 1)
    )
    fitting = [(_rank(scope), number) for number, scope in enumerate(drawn, 1) if _fits(scope)]
    expected = max(fitting)[1] if fitting else 0
    policies = Compiled(Policies(version=1, rules=rules), low_threshold=5)
    assert buffer(policies, "TEE", "gold", "gold") == expected


def _fits(scope: Scope) -> bool:
    return scope.tier in {None, "gold"} and scope.channel in {None, "gold"}


def _rank(scope: Scope) -> tuple[int, bool, bool]:
    named = 2 if "TEE" in scope.skus else 1 if "T*" in scope.skus else 0
    return (named, scope.tier is not None, scope.channel is not None)


def _number(scope: Scope) -> int:
    named, tier, channel = _rank(scope)
    return 1 + named * 4 + tier * 2 + channel


# --------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("T*", ["T", "TEE", "T*"], ["", "ATEE"]),
        ("*-RED", ["-RED", "A-RED", "-RED-RED"], ["A-REDS", "RED"]),
        ("A*B*C", ["ABC", "AxBxC", "ABCBC"], ["ACB", "ABCx"]),
        ("A?C", ["ABC", "A?C"], ["AC", "ABBC"]),
        (r"A\*?", ["A*B"], ["AB", "AxB", "A*"]),
        (r"\\*", [r"\TEE"], ["TEE"]),
        ("a.c*", ["a.c1"], ["abc1"]),
        ("**", ["", "x"], []),
        ("*a*a*", ["aa", "xaxax"], ["a", "xax"]),
    ],
)
def test_a_pattern_fits_what_it_says(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    matches = regex_of(pattern).fullmatch
    assert is_pattern(pattern)
    assert [text for text in fits if not matches(text)] == []
    assert [text for text in fits_not if matches(text)] == []


def test_a_sku_with_wildcards_in_its_name_can_be_named() -> None:
    assert not is_pattern(r"A\*B\?")
    assert unescaped(r"A\*B\?\\") == "A*B?\\"
    assert not is_pattern("[a-z]")
    policies = compiled(rule(1, skus=[r"A\*B"]), rule(2, skus=["A*"]))
    assert (buffer(policies, "A*B"), buffer(policies, "AxB")) == (1, 2)


@pytest.mark.timeout(20)
def test_no_pattern_takes_long_however_it_is_made() -> None:
    pattern = regex_of("*a" * 64)
    for _ in range(100):
        assert pattern.fullmatch("a" * 63 + "b" * 65) is None


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=8))
def test_patterns_are_what_a_slow_reading_of_them_says(pattern: str, text: str) -> None:
    assert (regex_of(pattern).fullmatch(text) is not None) == _slowly(pattern, text)


def _slowly(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_slowly(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in {"?", text[0]} and _slowly(pattern[1:], text[1:])


# --------------------------------------------------------------------------------------------------- document


def refusal(document: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_form(document if isinstance(document, bytes) else json.dumps(document).encode())
    return caught.value.detail


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({}, "rules[0].set: set at least one field"),
        ({"bufer_units": 1}, "rules[0].set.bufer_units: there is no such field"),
        ({"buffer_units": -1}, "rules[0].set.buffer_units: at least 0"),
        ({"buffer_units": 2.5}, "rules[0].set.buffer_units: write a whole number without quotes"),
        ({"buffer_units": "2"}, "rules[0].set.buffer_units: write a whole number without quotes"),
        ({"buffer_units": True}, "rules[0].set.buffer_units: write a whole number without quotes"),
        ({"buffer_percent": 101}, "rules[0].set.buffer_percent: at most 100"),
        ({"buffer_percent": 1.234}, "rules[0].set.buffer_percent: at most 2 digits after the point"),
        ({"buffer_percent": "10"}, "rules[0].set.buffer_percent: write a number without quotes"),
        ({"allowance_percent": 10.5}, "rules[0].set.allowance_percent: at most 10"),
        ({"low_threshold": 0}, "rules[0].set.low_threshold: at least 1"),
        ({"units_per_agent": 0}, "rules[0].set.units_per_agent: at least 1"),
        ({"disclosure": "all"}, "'exact', 'bucket' or 'none'"),
        ({"on_stale": "maybe"}, "'answer', 'assume_out', 'assume_in' or 'escalate'"),
        ({"on_unknown": "answer"}, "'assume_out', 'assume_in' or 'escalate'"),
        ({"split": 1}, "rules[0].set.split: write true or false"),
        ({"split": None}, "split cannot be null; leave it out"),
        ({"confirm_ms": 500}, "rules[0].set.confirm_ms: it is 0, or 1000 to 3000"),
        ({"confirm_ms": 3001}, "rules[0].set.confirm_ms: it is 0, or 1000 to 3000"),
    ],
)
def test_what_a_rule_may_not_set_is_refused_with_what_to_do(chosen: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal({"rules": [{"set": chosen}]})


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"[]", "not a JSON object"),
        (b'{"rules":[],"rules":[]}', "twice"),
        ({"rule": []}, "rule: there is no such field"),
        ({"rules": {}}, "rules: write a list"),
        ({"rules": [{}]}, "rules[0].set: it is missing"),
        ({"rules": [rule(1, skus=["T"]) | {"scope": {"skus": []}}]}, "name at least one, or leave it out"),
        ({"rules": [rule(1) | {"scope": {"skus": "TEE"}}]}, "rules[0].scope.skus: write a list"),
        ({"rules": [rule(1) | {"scope": {"skus": [" TEE"]}}]}, "rules[0].scope.skus[0]: "),
        ({"rules": [rule(1, tier="A B")]}, "rules[0].scope.tier: it must have 1 to 63 characters"),
        ({"rules": [rule(1) | {"scope": {"sku": "TEE"}}]}, "rules[0].scope.sku: there is no such field"),
        ({"rules": [rule(1) | {"note": "x" * 201}]}, "rules[0].note: at most 200 characters"),
        ({"rules": [rule(1)] * 501}, "rules: at most 500"),
        ({"rules": [rule(1, skus=[f"S{number}" for number in range(1001)])]}, "at most 1000"),
        ({"rules": [rule(1, skus=[f"S{number}*" for number in range(501)])]}, "500 different patterns"),
        (
            {"rules": [{"scope": {"tier": "gold"}, "set": {"takeover": "trusting"}}]},
            "set it in a rule without a scope",
        ),
        ({"general": {"lag_step_ms": 999}}, "general.lag_step_ms: it is 0, or at least 1000"),
        ({"general": {"lag_grace_ms": -1}}, "general.lag_grace_ms: at least 0"),
        ({"general": {"locations": ["A", "A"]}}, "each location stands there once"),
        (
            {"general": {"max_age_by_velocity": {"fast_ms": 5000, "slow_ms": 4000}}},
            "fast_ms is at most slow_ms",
        ),
        (
            {"general": {"max_age_by_velocity": {"fast_ms": 5000, "slow_ms": 1_800_001}}},
            "slow_ms: at most 1800000",
        ),
        ({"version": -1}, "version: at least 0"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_the_place(document: Any, sentence: str) -> None:
    assert sentence in refusal(document)


def test_a_document_with_many_mistakes_names_the_first_few() -> None:
    detail = refusal({"rules": [{"set": {"split": "x"}}] * 20})
    assert detail.count("rules[") == 5
    assert "And 15 more." in detail


def test_no_refusal_repeats_a_value() -> None:
    canary = "canary-0123456789"
    for document in (
        {"rules": [{"set": {"disclosure": canary, "buffer_units": canary, "split": canary}}]},
        {"rules": [{"scope": {"tier": canary.upper(), "skus": canary}, "set": {"split": True}}]},
    ):
        assert canary not in refusal(document).lower()


def test_a_document_that_is_too_long_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        read_form(b" " * (module.DOCUMENT_MAX_BYTES + 1))


def test_what_is_stored_is_what_was_written_and_nothing_more() -> None:
    document = {
        "rules": [
            {"note": "dear", "scope": {"skus": ["T*"]}, "set": {"buffer_percent": 12.5, "channel_cap": None}}
        ],
        "general": {"locations": ["B", "A"]},
    }
    form = read_form(json.dumps({"version": 3, **document}).encode())
    assert form.version == 3
    assert json.loads(text_of(form)) == document


def test_what_is_shown_can_be_sent_back() -> None:
    text = text_of(read_form(json.dumps({"rules": [rule(1, tier="gold")]}).encode()))
    told = shown(Stored(edit=Edit(version=4, author="anna", at_ms=1_795_255_200_123), document=text))
    assert told == {
        "version": 4,
        "rules": [rule(1, tier="gold")],
        "general": {},
        "changed_at": "2026-11-21T10:00:00.123Z",
        "changed_by": "anna",
    }
    again = read_form(json.dumps(told).encode())
    assert (again.version, policies_of(again, 4).rules) == (4, policies_of(read_form(text), 4).rules)


def test_before_the_first_edit_an_empty_document_is_shown() -> None:
    told = shown(None)
    assert (told["version"], told["rules"]) == (0, [])
    assert read_form(json.dumps(told).encode()).version == 0


def test_what_holds_for_all_stock_is_read_too() -> None:
    general = policies_of(
        read_form(
            b'{"general": {"lag_step_ms": 60000, "lag_grace_ms": 5000, "locations": ["B", "A"],'
            b' "max_age_by_velocity": {"fast_ms": 120000, "slow_ms": 1800000}}}'
        ),
        1,
    ).general
    assert (general.lag_step_ms, general.lag_grace_ms, general.locations) == (60_000, 5000, ("B", "A"))
    assert (general.fast_max_age_ms, general.slow_max_age_ms) == (120_000, 1_800_000)
