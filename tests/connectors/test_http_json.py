"""A merchant's own endpoint: settings, field paths, the four kinds of cursor, single SKUs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.http_json import Client, check_settings, normalize, read_quota, verify
from connectors.http_json.cursors import read_cursor
from connectors.http_json.paths import MISSING, look_up, read_path
from connectors.http_json.settings import read_settings
from synchub.connector_kit.contract import Access, Page, Quota
from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Level
from synchub.connector_kit.http import HttpAnswer
from synchub.errors import CursorRefused, PayloadRefused, SignatureRefused, UpstreamFailed, UpstreamRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

URL = "https://erp.example/stock"
SWEEP = {"url": URL, "sku_path": "sku", "quantity_path": "qty", "location": "WH1"}
UPDATED = {**SWEEP, "cursor_param": "since", "updated_path": "at", "time_form": "unix_s"}
EVENTS = {**SWEEP, "cursor_param": "after", "sequence_path": "id", "cursor_kind": "event_id"}
TOKENS = {**SWEEP, "items_path": "rows", "cursor_param": "token", "cursor_path": "token"}
HOUR_S = 3600


@dataclass
class Endpoint:
    """Answers in turn, the last for ever, and remembers what it was asked."""

    answers: list[object]
    urls: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **_others: object
    ) -> HttpAnswer:
        assert method == "GET"
        self.urls.append(url)
        self.headers.append(headers or {})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return HttpAnswer(status=200, headers={}, body=json.dumps(answer).encode())

    @property
    def asked(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(urlsplit(url).query)) for url in self.urls]


def client_of(settings: Mapping[str, str], *answers: object) -> tuple[Client, Endpoint]:
    endpoint = Endpoint(list(answers))
    return Client(Access(http=endpoint, credentials=settings)), endpoint


def rows(*levels: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        {"sku": sku, "qty": qty, **dict(zip(("at", "id"), rest, strict=False))} for sku, qty, *rest in levels
    ]


def levels_of(page: Page | Iterable[object]) -> dict[tuple[str, str], int | None]:
    events = [event for record in page.records for event in record.events] if isinstance(page, Page) else page
    return {(one.item, one.location): one.quantity for one in events if isinstance(one, Level)}


async def read_round(client: Client, cursor: str, pages_max: int = 30) -> tuple[list[Page], str]:
    pages = []
    for _ in range(pages_max):
        page = await client.fetch_page(cursor)
        pages.append(page)
        cursor = page.cursor
        if page.is_last:
            return pages, cursor
    pytest.fail(f"no last page among {pages_max}")


# Settings.


def test_four_settings_are_enough() -> None:
    assert check_settings(SWEEP) == ()
    assert read_settings(SWEEP).kind == "sweep"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"url": "erp.example/stock"}, "url is not an http or https address"),
        ({"url": "https://me:secret@erp.example/"}, "url is not an http or https address"),
        ({"url": "ftp://erp.example/"}, "url is not an http or https address"),
        ({"url": "https://erp.example/#top"}, "url is not an http or https address"),
        ({"url": "https://[erp/"}, "url is not an http or https address"),
        ({"url": "http://erp.example/", "auth_header": "Bearer x"}, "anybody on the way could read"),
        ({"auth_header": "Bearer x\r\nX-Other: y"}, "auth_header is not one line"),
        ({"sku_path": "a..b"}, "sku_path is no path"),
        ({"quantity_path": "a[x]"}, "quantity_path is no path"),
        ({"items_path": "a."}, "items_path ends with a dot"),
        ({"location_path": "wh"}, "Give either location"),
        ({"location": ""}, "Give either location"),
        ({"location": " WH1"}, "location begins or ends with a space"),
        ({"cursor_kind": "often"}, "cursor_kind is one of"),
        ({"cursor_kind": "opaque"}, "cursor_kind opaque needs cursor_param."),
        ({"cursor_param": "since", "cursor_kind": "updated_since"}, "needs updated_path"),
        ({"cursor_param": "a&b=c"}, "cursor_param is not the name of a query parameter"),
        ({"time_form": "local"}, "time_form is one of rfc3339, unix_s, unix_ms"),
        ({"page_size": "many"}, "page_size is not a number from 0"),
        ({"first_page": "2"}, "first_page is not a number from 0 to 1"),
        ({"tie_param": "after_id"}, "tie_param is for cursor_kind updated_since"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_without_its_value(
    changed: dict[str, str], sentence: str
) -> None:
    faults = check_settings({**SWEEP, **changed})
    assert any(sentence in fault for fault in faults)
    assert "secret" not in " ".join(faults)


def test_without_paths_the_faults_name_them() -> None:
    faults = check_settings({"url": URL})
    assert {"sku_path is missing.", "quantity_path is missing."} < set(faults)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/stock", "http://10.0.4.2/stock", "http://localhost/s"]
)
def test_a_secret_may_travel_in_the_clear_inside_a_private_network(url: str) -> None:
    assert check_settings({**SWEEP, "url": url, "auth_header": "Bearer x"}) == ()


@given(st.dictionaries(st.sampled_from([*UPDATED, *EVENTS, *TOKENS, "overlap_s", "page_size"]), st.text()))
def test_any_settings_are_usable_or_faulty_and_nothing_else(credentials: dict[str, str]) -> None:
    if check_settings(credentials):
        with pytest.raises(ValueError, match=r"\.$"):
            read_settings(credentials)
    else:
        assert read_settings(credentials).url == credentials["url"]


async def test_settings_that_cannot_work_are_for_the_merchant_to_mend() -> None:
    client, endpoint = client_of({**SWEEP, "url": "nowhere"}, [])
    with pytest.raises(UpstreamRefused, match="url is not"):
        await client.fetch_page("")
    with pytest.raises(UpstreamRefused, match="url is not"):
        await client.fetch_levels(["TEE-1"])
    assert client.cursor_at(1_000) == ""
    assert endpoint.urls == []


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ("Bearer abc.def", "Authorization", "Bearer abc.def"),
        ("Basic dXNlcjpwYXNz", "Authorization", "Basic dXNlcjpwYXNz"),
        ("X-Api-Key: abc", "X-Api-Key", "abc"),
    ],
)
async def test_the_secret_goes_into_its_header(auth: str, header: str, value: str) -> None:
    client, endpoint = client_of({**SWEEP, "auth_header": auth}, [])
    await client.fetch_page("")
    assert endpoint.headers[0][header] == value


# Field paths.


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("", ()),
        ("sku", ("sku",)),
        ("stock.levels[2].qty", ("stock", "levels", 2, "qty")),
        ("[0].qty", (0, "qty")),
        ('"on.hand".total', ("on.hand", "total")),
        ('levels["WH 1"]', ("levels", "WH 1")),
        ("Art Nr", ("Art Nr",)),
        (r'"say \"hi\""', ('say "hi"',)),
    ],
)
def test_a_path_names_what_stands_where(path: str, steps: tuple[str | int, ...]) -> None:
    assert read_path(path) == steps


@pytest.mark.parametrize(
    "path", [".", "a.", "a..b", "[", "a[", "a[-1]", "a[1000]", 'a"b"', '""', "a]b", "a" * 201]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is no path|ends with a dot|is longer"):
        read_path(path)


def test_a_path_of_too_many_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 16 steps"):
        read_path(".".join("a" * 17))


@given(st.text(alphabet='ab.[]"\\0 12é', max_size=30))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        steps = read_path(text)
    except ValueError:
        return
    assert all(step != "" for step in steps)
    assert look_up({}, steps) is MISSING or steps == ()


def test_null_is_not_missing() -> None:
    assert look_up({"a": {"b": None}}, ("a", "b")) is None
    assert look_up({"a": {"b": None}}, ("a", "c")) is MISSING
    assert look_up({"a": [1]}, ("a", 1)) is MISSING
    assert look_up({"a": [1]}, ("a", "0")) is MISSING
    assert look_up({"0": 1}, (0,)) is MISSING


# Rounds.


async def test_a_full_sweep_begins_anew_each_time() -> None:
    client, endpoint = client_of(SWEEP, rows(("TEE-1", 5), ("TEE-2", "0")))
    page = await client.fetch_page("")
    assert levels_of(page) == {("TEE-1", "WH1"): 5, ("TEE-2", "WH1"): 0}
    assert (page.is_last, page.cursor) == (True, "")
    assert endpoint.urls == [URL]


async def test_changes_since_a_time_are_asked_for_with_an_overlap() -> None:
    client, endpoint = client_of(UPDATED, rows(("TEE-1", 5, 1_700_000_000), ("TEE-2", 1, 1_700_000_100)), [])
    first = await client.fetch_page("")
    second = await client.fetch_page(first.cursor)
    assert endpoint.asked == [{}, {"since": str(1_700_000_100 - 60)}]
    assert second.cursor == first.cursor, "nothing new leaves the cursor where it was"


async def test_the_overlap_never_leads_back_before_where_a_poll_began() -> None:
    client, _ = client_of(UPDATED, rows(("TEE-1", 5, 1_700_000_001)))
    begun = client.cursor_at(1_700_000_060_000)
    assert (await client.fetch_page(begun)).cursor == begun


async def test_a_row_from_the_future_does_not_hide_what_changes_until_then() -> None:
    in_ten_years_s = 4_000_000_000
    client, endpoint = client_of(UPDATED, rows(("TEE-1", 5, in_ten_years_s)), [])
    await client.fetch_page((await client.fetch_page("")).cursor)
    assert int(endpoint.asked[1]["since"]) < in_ten_years_s - HOUR_S


def test_polling_can_begin_at_a_time_less_the_overlap() -> None:
    client, _ = client_of({**UPDATED, "overlap_s": "10"}, [])
    cursor = client.cursor_at(1_700_000_000_000)
    assert read_cursor(cursor, read_settings({**UPDATED, "overlap_s": "10"})).start == "1699999990000000"
    for other in (SWEEP, EVENTS, TOKENS):
        assert client_of(other, [])[0].cursor_at(1_700_000_000_000) == ""


async def test_full_pages_go_on_at_the_last_time_where_there_is_no_link() -> None:
    settings = {**UPDATED, "page_size": "2"}
    client, endpoint = client_of(
        settings, rows(("A", 1, 1_700_000_010), ("B", 1, 1_700_000_020)), rows(("B", 1, 1_700_000_020))
    )
    pages, cursor = await read_round(client, client.cursor_at(1_700_000_000_000))
    assert [len(page.records) for page in pages] == [2, 1]
    assert endpoint.asked[1] == {"since": "1700000020"}
    await client.fetch_page(cursor)
    assert endpoint.asked[2] == {"since": "1699999960"}, "the overlap is taken off after the last page"


async def test_more_rows_of_one_time_than_fit_a_page_are_told_apart_by_an_id() -> None:
    settings = {**UPDATED, "page_size": "2", "tie_param": "after_id", "id_path": "id"}
    same = 1_700_000_010
    client, endpoint = client_of(
        settings, rows(("A", 1, same, 1), ("B", 1, same, 2)), rows(("C", 1, same, 3))
    )
    pages, _ = await read_round(client, "")
    assert len(pages) == 2
    assert endpoint.asked[1] == {"since": str(same), "after_id": "2"}


async def test_without_an_id_they_are_a_failure_that_says_what_to_set() -> None:
    settings = {**UPDATED, "page_size": "2"}
    client, _ = client_of(settings, rows(("A", 1, 1_700_000_010), ("B", 1, 1_700_000_010)))
    first = await client.fetch_page("")
    with pytest.raises(UpstreamFailed, match="set tie_param"):
        await client.fetch_page(first.cursor)


async def test_full_pages_out_of_order_are_a_failure() -> None:
    settings = {**UPDATED, "page_size": "2"}
    client, _ = client_of(settings, rows(("A", 1, 1_700_000_020), ("B", 1, 1_700_000_010)))
    with pytest.raises(UpstreamFailed, match="oldest first"):
        await client.fetch_page("")


async def test_events_are_asked_for_until_nothing_newer_comes() -> None:
    first, second = rows(("A", 5, 0, 7), ("A", 4, 0, 8)), rows(("B", 1, 0, 9))
    client, endpoint = client_of(EVENTS, first, second, [])
    pages, cursor = await read_round(client, "")
    assert endpoint.asked == [{}, {"after": "8"}, {"after": "9"}]
    assert [len(page.records) for page in pages] == [1, 1, 0], "of one item only the newest counts"
    versions = [
        event.version.number
        for page in pages
        for one in page.records
        for event in one.events
        if isinstance(event, Level) and event.version
    ]
    assert versions == [8, 9]
    assert read_cursor(cursor, read_settings(EVENTS)).start == "9"


async def test_of_an_item_told_twice_the_newest_counts() -> None:
    told = rows(("A", 5, 1_700_000_020), ("B", 1, 1_700_000_020), ("A", 9, 1_700_000_010))
    page = await client_of(UPDATED, told)[0].fetch_page("")
    assert levels_of(page) == {("A", "WH1"): 5, ("B", "WH1"): 1}
    assert len(page.records) == 2


async def test_the_same_row_told_twice_is_no_contradiction() -> None:
    page = await client_of(SWEEP, rows(("A", 5), ("A", 5), ("B", 1), ("B", 2)))[0].fetch_page("")
    assert levels_of(page) == {("A", "WH1"): 5}
    assert page.refused == ("B at WH1 has rows that contradict each other.",)


async def test_an_endpoint_that_ignores_the_number_is_not_asked_for_ever() -> None:
    client, endpoint = client_of(EVENTS, rows(("A", 5, 0, 7)))
    pages, _ = await read_round(client, "")
    assert len(pages) == len(endpoint.urls) == 2


async def test_a_token_is_handed_back_until_nothing_comes() -> None:
    client, endpoint = client_of(
        TOKENS,
        {"rows": rows(("A", 5)), "token": "t1"},
        {"rows": [], "token": "t2"},
        {"rows": [], "token": "t2"},
    )
    _, cursor = await read_round(client, "")
    await client.fetch_page(cursor)
    assert endpoint.asked == [{}, {"token": "t1"}, {"token": "t2"}]


async def test_a_token_that_is_no_longer_given_stays_the_last_one() -> None:
    client, endpoint = client_of(TOKENS, {"rows": [], "token": "t1"}, {"rows": rows(("A", 1))})
    first = await client.fetch_page("")
    second = await client.fetch_page(first.cursor)
    assert second.cursor == first.cursor
    assert second.is_last
    assert endpoint.asked[1] == {"token": "t1"}


@pytest.mark.parametrize("status", [400, 410])
async def test_an_expired_token_is_a_refused_cursor(status: int) -> None:
    client, _ = client_of(TOKENS, {"rows": [], "token": "t1"}, UpstreamRefused("no", answered=status))
    first = await client.fetch_page("")
    with pytest.raises(CursorRefused):
        await client.fetch_page(first.cursor)


@pytest.mark.parametrize("status", [401, 403, 404, 422])
async def test_other_refusals_of_a_token_are_refusals(status: int) -> None:
    client, _ = client_of(TOKENS, {"rows": [], "token": "t1"}, UpstreamRefused("no", answered=status))
    first = await client.fetch_page("")
    with pytest.raises(UpstreamRefused):
        await client.fetch_page(first.cursor)


async def test_what_is_refused_without_a_token_is_no_matter_of_cursors() -> None:
    client, _ = client_of(TOKENS, UpstreamRefused("no", answered=400))
    with pytest.raises(UpstreamRefused):
        await client.fetch_page("")


async def test_a_time_that_the_endpoint_no_longer_knows_is_a_refused_cursor() -> None:
    client, _ = client_of(UPDATED, UpstreamRefused("no", answered=410))
    with pytest.raises(CursorRefused):
        await client.fetch_page(client.cursor_at(1_700_000_000_000))


@pytest.mark.parametrize(
    "changed", [{"url": "https://erp.example/other"}, {"cursor_kind": "event_id", "sequence_path": "id"}]
)
async def test_a_cursor_of_other_settings_is_refused(changed: dict[str, str]) -> None:
    cursor = client_of(UPDATED, [])[0].cursor_at(1_700_000_000_000)
    client, endpoint = client_of({**UPDATED, **changed}, [])
    with pytest.raises(CursorRefused):
        await client.fetch_page(cursor)
    assert endpoint.urls == []


@given(
    st.one_of(st.text(max_size=80), st.dictionaries(st.text(max_size=8), st.text(max_size=8)).map(json.dumps))
)
def test_no_text_but_our_own_is_a_cursor(text: str) -> None:
    if text:
        with pytest.raises(CursorRefused):
            read_cursor(text, read_settings(UPDATED))


async def test_a_damaged_cursor_of_ours_is_refused() -> None:
    cursor = client_of(UPDATED, [])[0].cursor_at(1_700_000_000_000)
    for place in range(len(cursor)):
        damaged = cursor[:place] + "x" + cursor[place + 1 :]
        client, _ = client_of(UPDATED, [])
        with pytest.raises(CursorRefused):
            await client.fetch_page(damaged)


# Pages.


async def test_pages_are_counted_from_the_first_number_until_one_is_not_full() -> None:
    settings = {**SWEEP, "page_param": "page", "first_page": "0", "page_size": "1"}
    client, endpoint = client_of(settings, rows(("A", 1)), rows(("B", 1)), [])
    pages, _ = await read_round(client, "")
    assert [asked["page"] for asked in endpoint.asked] == ["0", "1", "2"]
    assert [len(page.records) for page in pages] == [1, 1, 0]


async def test_a_page_parameter_that_is_not_understood_is_a_failure() -> None:
    client, _ = client_of({**SWEEP, "page_param": "page"}, rows(("A", 1)))
    with pytest.raises(UpstreamFailed, match="page_param is not understood"):
        await read_round(client, "")


@pytest.mark.parametrize("link", ["https://erp.example/stock?p=2", "/stock?p=2", "?p=2"])
async def test_a_link_is_followed_at_home(link: str) -> None:
    settings = {**SWEEP, "items_path": "rows", "next_path": "next"}
    client, endpoint = client_of(settings, {"rows": rows(("A", 1)), "next": link}, {"rows": [], "next": None})
    await read_round(client, "")
    assert endpoint.urls == [URL, f"{URL}?p=2"]


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/stock?p=2",
        "//elsewhere.example/stock",
        "http://erp.example/stock",
        "https://erp.example:8443/stock",
        "https://erp.example@elsewhere.example/",
        "https://[/",
    ],
)
async def test_a_link_to_somewhere_else_is_not_followed(link: str) -> None:
    settings = {**SWEEP, "items_path": "rows", "next_path": "next", "auth_header": "Bearer x"}
    client, endpoint = client_of(settings, {"rows": [], "next": link})
    first = await client.fetch_page("")
    with pytest.raises(UpstreamFailed, match="another host"):
        await client.fetch_page(first.cursor)
    assert endpoint.urls == [URL]


async def test_a_page_that_is_its_own_next_is_a_failure() -> None:
    settings = {**SWEEP, "items_path": "rows", "next_path": "next", "page_param": "page"}
    client, _ = client_of(settings, {"rows": rows(("A", 1)), "next": "p2"})
    with pytest.raises(UpstreamFailed, match="page itself"):
        await read_round(client, "")


async def test_a_token_too_long_to_be_kept_is_a_failure() -> None:
    client, _ = client_of(TOKENS, {"rows": [], "token": "t" * 1001})
    with pytest.raises(UpstreamFailed, match="at most 1000 characters"):
        await client.fetch_page("")


def many(count: int, quantity: int = 1, at: int = 1_700_000_000) -> list[dict[str, Any]]:
    return [{"sku": f"TEE-{number:05d}", "qty": quantity, "at": at + number % 7} for number in range(count)]


@pytest.mark.parametrize("settings", [SWEEP, UPDATED])
async def test_an_answer_larger_than_a_page_is_handed_on_in_parts(settings: dict[str, str]) -> None:
    client, endpoint = client_of(settings, many(2500))
    pages, _ = await read_round(client, "")
    assert [len(page.records) for page in pages] == [1000, 1000, 500]
    assert len({item for page in pages for item, _ in levels_of(page)}) == 2500
    assert len(set(endpoint.urls)) == 1


async def test_what_changes_while_a_large_answer_is_read_in_parts_is_not_missed() -> None:
    before = many(1500)
    shifted = [
        {"sku": "AAA", "qty": 1, "at": 1_700_000_500},
        *reversed(many(1500, quantity=2, at=1_700_000_400)),
    ]
    client, endpoint = client_of({**UPDATED, "overlap_s": "0"}, before, shifted)
    pages, cursor = await read_round(client, "")
    told = {item for page in pages for item, _ in levels_of(page)}
    assert told >= {row["sku"] for row in before}
    await client.fetch_page(cursor)
    assert int(endpoint.asked[-1]["since"]) <= 1_700_000_006, "it goes on after what was read first"


async def test_bad_rows_of_a_large_answer_are_told_once() -> None:
    client, _ = client_of(SWEEP, [*many(1500), {"sku": "TEE-X", "qty": "half"}])
    pages, _ = await read_round(client, "")
    assert [page.refused for page in pages] == [("Row 1501 (TEE-X): qty is not a whole number.",), ()]


async def test_a_list_too_long_to_be_held_is_a_failure() -> None:
    client, _ = client_of(SWEEP, [{}] * 50_001)
    with pytest.raises(UpstreamFailed, match="more than 50000 rows"):
        await client.fetch_page("")


# Single SKUs.


async def test_single_skus_are_asked_for_one_by_one_and_unknown_ones_are_absent() -> None:
    client, endpoint = client_of(
        {**UPDATED, "items_param": "sku"},
        rows(("A&B", 5, 1_700_000_000), ("OTHER", 1, 1_700_000_000)),
        UpstreamRefused("no", answered=404),
    )
    found = await client.fetch_levels(["A&B", "GONE", "A&B"])
    assert levels_of(found) == {("A&B", "WH1"): 5}
    assert endpoint.asked == [{"sku": "A&B"}, {"sku": "GONE"}]


async def test_they_can_be_asked_for_together() -> None:
    client, endpoint = client_of({**SWEEP, "items_param": "skus", "items_join": "comma"}, rows(("A", 1)))
    await client.fetch_levels(["A", "B", "C,D"])
    assert endpoint.asked == [{"skus": "C,D"}, {"skus": "A,B"}]
    client, endpoint = client_of({**SWEEP, "items_param": "sku", "items_join": "repeat"}, rows(("A", 1)))
    await client.fetch_levels(["A", "B"])
    assert endpoint.urls == [f"{URL}?sku=A&sku=B"]


async def test_a_refused_question_about_several_is_a_refusal() -> None:
    settings = {**SWEEP, "items_param": "sku", "items_join": "repeat"}
    client, _ = client_of(settings, UpstreamRefused("no", answered=404))
    with pytest.raises(UpstreamRefused):
        await client.fetch_levels(["A", "B"])


async def test_without_a_parameter_for_them_everything_is_read() -> None:
    client, endpoint = client_of(EVENTS, rows(("A", 5, 0, 7), ("B", 1, 0, 8)), rows(("A", 4, 0, 9)), [])
    assert levels_of(await client.fetch_levels(["A"])) == {("A", "WH1"): 4}
    assert len(endpoint.urls) == 3


async def test_but_not_without_end() -> None:
    pages = [rows((f"S{number}", 1)) for number in range(40)]
    client, endpoint = client_of({**SWEEP, "page_param": "page"}, *pages)
    with pytest.raises(UpstreamFailed, match="more than 20 pages"):
        await client.fetch_levels(["S39"])
    assert len(endpoint.urls) == 20


# What it says of its limits, and what it never does.


@pytest.mark.parametrize(
    ("headers", "quota"),
    [
        ({}, None),
        ({"ratelimit-remaining": "7", "ratelimit-limit": "60"}, Quota(remaining=7, capacity=60)),
        ({"x-ratelimit-remaining": "0"}, Quota(remaining=0)),
        ({"ratelimit": '"default";r=50;t=30'}, Quota(remaining=50)),
        (
            {"ratelimit": '"d";r=5;t=3', "ratelimit-policy": '"d";q=100;w=60'},
            Quota(remaining=5, capacity=100),
        ),
        ({"ratelimit": "limit=100, remaining=42, reset=5"}, Quota(remaining=42, capacity=100)),
        ({"ratelimit-remaining": "plenty"}, None),
        ({"ratelimit-remaining": "5", "ratelimit-limit": "0"}, Quota(remaining=5)),
    ],
)
def test_what_is_left_is_read_of_the_headers(headers: dict[str, str], quota: Quota | None) -> None:
    assert read_quota(HttpAnswer(status=200, headers=headers, body=b"")) == quota


def test_whatever_is_posted_for_it_is_refused() -> None:
    arrived = Delivery(account="acc_1", headers={}, body=b"{}", arrived_at_us=1)
    with pytest.raises(SignatureRefused):
        verify(arrived, ["", "any"], now_ms=1)
    with pytest.raises(PayloadRefused):
        normalize("", arrived)
