"""All checks, in the order in which their findings help somebody who writes a connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from synchub.connector_kit.testing import client_checks, delivery_checks, folder_checks
from synchub.connector_kit.testing.subject import Shortcoming, Subject, load_subject

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
)
"""For connectors whose manifest has a ``[client]``."""


def shortcomings(folder: Path) -> list[str]:
    """Return a sentence for each check that the connector in this folder does not pass."""
    try:
        subject = load_subject(folder)
    except Shortcoming as found:
        return [str(found)]
    checks = CHECKS if subject.connector.client is None else (*CHECKS, *CLIENT_CHECKS)
    return [sentence for check in checks if (sentence := _finding(check, subject))]


def _finding(check: Check, subject: Subject) -> str:
    try:
        check(subject)
    except Shortcoming as found:
        return str(found)
    return ""
