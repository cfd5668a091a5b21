"""All checks, in the order in which their findings help somebody who writes a connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from synchub.connector_kit.testing import client_checks, delivery_checks, folder_checks, page_checks
from synchub.connector_kit.testing.files import Shortcoming
from synchub.connector_kit.testing.subject import Subject, load_subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Check: TypeAlias = "Callable[[Subject], None]"

CHECKS: Final[tuple[Check, ...]] = (
    folder_checks.everything_is_filled_in,
    folder_checks.the_folder_is_complete,
    folder_checks.the_readme_answers_the_merchant,
    folder_checks.the_manifest_names_its_documents,
    folder_checks.every_topic_is_recorded,
    folder_checks.every_recording_names_its_document,
    folder_checks.no_file_is_left_over,
    folder_checks.expectations_are_events,
    folder_checks.the_quality_is_earned,
    delivery_checks.topics_are_found,
    delivery_checks.recordings_are_signed,
    delivery_checks.recordings_give_what_was_expected,
    delivery_checks.only_promised_kinds_are_emitted,
    delivery_checks.foreign_secrets_are_refused,
    delivery_checks.unsigned_deliveries_are_refused,
    delivery_checks.one_changed_byte_is_refused,
    delivery_checks.another_time_is_fine_or_stale,
    delivery_checks.equal_bytes_give_equal_events,
    delivery_checks.repeats_are_known_by_what_the_manifest_names,
    delivery_checks.unknown_topics_are_refused,
    delivery_checks.damaged_bodies_are_refused_or_read,
    delivery_checks.bodies_fit,
    delivery_checks.reading_is_quick,
)

CLIENT_CHECKS: Final[tuple[Check, ...]] = (
    client_checks.too_many_calls_is_throttled,
    client_checks.refused_credentials_are_refused,
    client_checks.platform_failures_are_failures,
    client_checks.unreadable_answers_are_failures,
    client_checks.nothing_asked_is_nothing_called,
    client_checks.what_is_left_is_read_or_not,
)
"""For connectors that call their platform."""

PAGE_CHECKS: Final[tuple[Check, ...]] = (
    page_checks.pages_are_recorded,
    page_checks.pages_give_what_was_expected,
    page_checks.pages_ask_for_what_they_should,
    page_checks.pages_keep_their_measure,
    page_checks.the_same_page_twice_is_the_same,
    page_checks.other_facts_have_other_keys,
    page_checks.cursors_only_go_forward,
    page_checks.foreign_cursors_are_refused,
    page_checks.polling_can_begin_at_a_time,
    page_checks.damaged_pages_are_failures_or_read,
)
"""For connectors whose manifest has ``[polling]``."""


def shortcomings(folder: Path) -> list[str]:
    """Return a sentence for each check that the connector in this folder does not pass."""
    try:
        subject = load_subject(folder)
    except Shortcoming as found:
        return [str(found)]
    return [sentence for check in checks_for(subject) if (sentence := _finding(check, subject))]


def checks_for(subject: Subject) -> tuple[Check, ...]:
    """Return the checks that concern a connector, by what its manifest offers."""
    called = CLIENT_CHECKS if subject.connector.client else ()
    polled = PAGE_CHECKS if subject.connector.pages_client else ()
    return (*CHECKS, *called, *polled)


def _finding(check: Check, subject: Subject) -> str:
    try:
        check(subject)
    except Shortcoming as found:
        return str(found)
    return ""
