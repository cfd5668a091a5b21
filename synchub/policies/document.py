"""The JSON in which a merchant writes its policies: checked here, and nowhere else.

The same form is read from people, stored, and shown again; what was not written is not filled in, so
that a later default reaches it. Per cent are written as per cent and kept as hundredths of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)

from synchub.connector_kit.payloads import identifier, read_json
from synchub.errors import InvalidRequest, PayloadRefused, PayloadTooLarge
from synchub.keyspace import check_name
from synchub.policies.model import (
    Conflict,
    Disclosure,
    General,
    OnStale,
    OnUnknown,
    Policies,
    Rule,
    Scope,
    Takeover,
)
from synchub.policies.rules import is_pattern

if TYPE_CHECKING:
    from synchub.policies.model import Edit, Stored

DOCUMENT_MAX_BYTES: Final = 262_144
RULES_MAX: Final = 500
SKUS_MAX: Final = 1000
"""SKUs and patterns of one rule."""
PATTERNS_MAX: Final = 500
"""Patterns of one document: a SKU seen for the first time is compared with all of them."""
LOCATIONS_MAX: Final = 1000
COUNTRIES_MAX: Final = 250
NEAR_MAX: Final = 50
"""Locations that one country is served from in order; every choice of a place looks through them."""
UNITS_MAX: Final = 1_000_000_000
ALLOWANCE_MAX_PERCENT: Final = 10
CONFIRM_MS: Final = (1000, 3000)
DAY_MS: Final = 86_400_000
SLOWEST_MS: Final = 1_800_000
"""Older evidence than half an hour is no ground for a sale, however slowly a SKU sells."""

_ERRORS_SHOWN: Final = 5
_ADVICE: Final = {
    "extra_forbidden": "there is no such field",
    "missing": "it is missing",
    "model_type": "write an object, {{…}}",
    "tuple_type": "write a list, […]",
    "string_type": "write text in quotes",
    "string_too_long": "at most {max_length} characters",
    "bool_type": "write true or false",
    "int_type": "write a whole number without quotes",
    "too_short": "name at least one, or leave it out",
    "too_long": "at most {max_length}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "decimal_max_places": "at most {decimal_places} digits after the point",
}
"""What to do, where pydantic's own words would not say it to a merchant."""

_IGNORED: Final = frozenset({"changed_at", "changed_by"})
"""Shown with a document, and no part of it: what was read may be sent back as it is."""


def _identifier(text: str) -> str:
    try:
        return identifier(text, "It")
    except PayloadRefused as refusal:
        raise ValueError(refusal.detail) from None


def _name(text: str) -> str:
    try:
        return check_name(text, "It")
    except InvalidRequest as refusal:
        raise ValueError(refusal.detail) from None


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        msg = "write a number without quotes, such as 12.5"
        raise ValueError(msg)  # noqa: TRY004 - what pydantic turns into an error of the field
    return value


def _plain(percent: Decimal) -> int | float:
    return int(percent) if percent == int(percent) else float(percent)


def _confirm(milliseconds: int) -> int:
    least, most = CONFIRM_MS
    if milliseconds and not least <= milliseconds <= most:
        msg = f"it is 0, or {least} to {most}"
        raise ValueError(msg)
    return milliseconds


def _step(step_ms: int) -> int:
    if 0 < step_ms < 1000:  # noqa: PLR2004 - a second
        msg = "it is 0, or at least 1000"
        raise ValueError(msg)
    return step_ms


def _unique(places: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(places)) < len(places):
        msg = "each location stands there once"
        raise ValueError(msg)
    return places


Identifier = Annotated[str, AfterValidator(_identifier)]
Country = Annotated[str, Field(pattern="^[A-Z]{2}$")]
"""As ISO 3166 has it in two letters."""
Near = Annotated[tuple[Identifier, ...], AfterValidator(_unique), Field(min_length=1, max_length=NEAR_MAX)]
Name = Annotated[str, AfterValidator(_name)]
Units = Annotated[StrictInt, Field(ge=0, le=UNITS_MAX)]
Least = Annotated[StrictInt, Field(ge=1, le=UNITS_MAX)]
Duration = Annotated[StrictInt, Field(ge=0, le=DAY_MS)]
MaxAge = Annotated[StrictInt, Field(ge=1000, le=SLOWEST_MS)]
Percent = Annotated[
    Decimal, BeforeValidator(_number), Field(ge=0, le=100, decimal_places=2), PlainSerializer(_plain)
]
Allowance = Annotated[Percent, Field(le=ALLOWANCE_MAX_PERCENT)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScopeForm(_Part):
    """Whom a rule is about."""

    skus: tuple[Identifier, ...] | None = Field(default=None, min_length=1, max_length=SKUS_MAX)
    tier: Name | None = None
    channel: Name | None = None


class TermsForm(_Part):
    """What a rule sets; the names are those of the terms, but for the per cent."""

    buffer_units: Units | None = None
    buffer_percent: Percent | None = None
    lag_units: Units | None = None
    allowance_percent: Allowance | None = None
    channel_cap: Units | None = None
    low_threshold: Least | None = None
    disclosure: Disclosure | None = None
    on_stale: OnStale | None = None
    on_unknown: OnUnknown | None = None
    takeover: Takeover | None = None
    split: StrictBool | None = None
    units_per_agent: Least | None = None
    units_per_buyer: Least | None = None
    transactions_per_session: Least | None = None
    confirm_ms: Annotated[StrictInt, AfterValidator(_confirm)] | None = None
    conflict: Conflict | None = None
    backpressure_below: Units | None = None

    @model_validator(mode="after")
    def _says_something(self) -> TermsForm:
        if not self.model_fields_set:
            msg = "set at least one field"
            raise ValueError(msg)
        emptied = [
            name for name in sorted(self.model_fields_set - _MAY_BE_NULL) if getattr(self, name) is None
        ]
        if emptied:
            msg = f"{emptied[0]} cannot be null; leave it out"
            raise ValueError(msg)
        return self


_MAY_BE_NULL: Final = frozenset(
    {"channel_cap", "units_per_agent", "units_per_buyer", "transactions_per_session", "backpressure_below"}
)
"""Null takes away the limit that a less specific rule sets."""


class RuleForm(_Part):
    """One rule."""

    note: str | None = Field(default=None, max_length=200)
    scope: ScopeForm = ScopeForm()
    set: TermsForm

    @model_validator(mode="after")
    def _suits_its_scope(self) -> RuleForm:
        if self.set.takeover is not None and not _scope_of(self.scope).is_everything:
            msg = "takeover is one for all stock and all askers; set it in a rule without a scope"
            raise ValueError(msg)
        return self


class AgesForm(_Part):
    """How old evidence may be, by how fast a SKU sells."""

    fast_ms: MaxAge
    slow_ms: MaxAge

    @model_validator(mode="after")
    def _fast_is_younger(self) -> AgesForm:
        if self.fast_ms > self.slow_ms:
            msg = "fast_ms is at most slow_ms"
            raise ValueError(msg)
        return self


class GeneralForm(_Part):
    """What holds for all stock and all askers alike."""

    lag_step_ms: Annotated[Duration, AfterValidator(_step)] | None = None
    lag_grace_ms: Duration | None = None
    max_age_by_velocity: AgesForm | None = None
    confirm_new_sources: StrictBool | None = None
    locations: Annotated[tuple[Identifier, ...], AfterValidator(_unique)] | None = Field(
        default=None, max_length=LOCATIONS_MAX
    )
    destinations: dict[Country, Near] | None = Field(default=None, max_length=COUNTRIES_MAX)


class PoliciesForm(_Part):
    """The whole document."""

    version: Annotated[StrictInt, Field(ge=0)] | None = None
    """The version that was edited, when the document says it itself."""
    rules: tuple[RuleForm, ...] = Field(default=(), max_length=RULES_MAX)
    general: GeneralForm = GeneralForm()

    @model_validator(mode="after")
    def _is_cheap_to_resolve(self) -> PoliciesForm:
        patterns = {text for rule in self.rules for text in rule.scope.skus or () if is_pattern(text)}
        if len(patterns) > PATTERNS_MAX:
            msg = f"all rules together have at most {PATTERNS_MAX} different patterns; name SKUs instead"
            raise ValueError(msg)
        return self


def read_form(body: bytes) -> PoliciesForm:
    """Return the document that somebody has written.

    Raises:
        PayloadTooLarge: more than ``DOCUMENT_MAX_BYTES``.
        InvalidRequest: it does not fit; the sentence names each place and what would fit there, and
            repeats nothing else of the document.
    """
    if len(body) > DOCUMENT_MAX_BYTES:
        msg = f"A document of policies has at most {DOCUMENT_MAX_BYTES} bytes; patterns make it shorter."
        raise PayloadTooLarge(msg)
    try:
        told = read_json(body)
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None
    try:
        return PoliciesForm.model_validate(
            {name: part for name, part in told.items() if name not in _IGNORED}
        )
    except ValidationError as problem:
        _refuse(problem)


def text_of(form: PoliciesForm) -> bytes:
    """Return the document as it is stored: without its version, and without what was not written."""
    return orjson.dumps(form.model_dump(mode="json", exclude={"version"}, exclude_unset=True))


def policies_of(form: PoliciesForm, version: int) -> Policies:
    """Return what the document says."""
    general = form.general
    ages = general.max_age_by_velocity
    return Policies(
        version=version,
        rules=tuple(Rule(scope=_scope_of(rule.scope), changes=_changes(rule.set)) for rule in form.rules),
        general=General(
            lag_step_ms=general.lag_step_ms or 0,
            lag_grace_ms=general.lag_grace_ms or 0,
            fast_max_age_ms=ages.fast_ms if ages else None,
            slow_max_age_ms=ages.slow_ms if ages else None,
            confirm_new_sources=general.confirm_new_sources or False,
            locations=general.locations or (),
            destinations=tuple((general.destinations or {}).items()),
        ),
    )


def shown(stored: Stored | None) -> dict[str, Any]:
    """Return a version as people read it, in the form that :func:`read_form` takes back."""
    if stored is None:
        return {"version": 0, "rules": [], "general": {}, "changed_at": None, "changed_by": None}
    document: dict[str, Any] = {"rules": [], "general": {}} | orjson.loads(stored.document)
    about = shown_edit(stored.edit)
    return {
        "version": stored.edit.version,
        **document,
        "changed_at": about["changed_at"],
        "changed_by": about["changed_by"],
    }


def shown_edit(edit: Edit) -> dict[str, Any]:
    """Return who made a version and when."""
    moment = datetime.fromtimestamp(edit.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "version": edit.version,
        "changed_at": moment.replace("+00:00", "Z"),
        "changed_by": edit.author,
    }


def _scope_of(form: ScopeForm) -> Scope:
    return Scope(skus=form.skus or (), tier=form.tier, channel=form.channel)


def _changes(form: TermsForm) -> Mapping[str, object]:
    changes: dict[str, object] = {}
    for name in TermsForm.model_fields:
        if name in form.model_fields_set:
            value = getattr(form, name)
            is_percent = name.endswith("_percent")
            changes[name.replace("_percent", "_bp")] = int(value * 100) if is_percent else value
    return changes


def _refuse(problem: ValidationError) -> NoReturn:
    errors = problem.errors(include_input=False, include_url=False, include_context=True)
    sentences = [f"{_place(error['loc'])}: {_advice(error)}" for error in errors[:_ERRORS_SHOWN]]
    left = len(errors) - len(sentences)
    more = f" And {left} more." if left > 0 else ""
    msg = f"These policies do not fit. {'; '.join(sentences)}.{more} docs/policies.md lists the fields."
    raise InvalidRequest(msg)


def _place(loc: tuple[int | str, ...]) -> str:
    place = ""
    for step in loc:
        place += f"[{step}]" if isinstance(step, int) else f".{step[:40]}"
    return place.lstrip(".") or "the document"


def _advice(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _ADVICE:
        return _ADVICE[kind].format(**context)
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should ").rstrip(".")
    return text[0].lower() + text[1:]
