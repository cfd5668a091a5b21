"""No setting without an effect: which tests would fail if a setting did nothing.

Whoever adds a setting writes the test of its effect first, and names it here.
"""

from __future__ import annotations

import ast
from typing import Final

import pytest
from pydantic import BaseModel

from synchub.settings import Settings
from tests.support.source import ROOT, tree


def _effects(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/settings/test_{section}_effects.py::{name}" for name in names)


_LIMITS: Final = ("tests/web/test_subscriptions.py::test_there_may_be_so_many_and_no_more",)

EFFECT_TESTS: Final[dict[str, tuple[str, ...]]] = {
    "redis.url": _effects("redis", "test_stock_lies_in_the_database_of_the_url"),
    "redis.queue_url": _effects(
        "redis",
        "test_jobs_are_put_where_the_queue_url_says",
        "test_a_worker_takes_its_jobs_from_where_the_queue_url_says",
    ),
    "redis.command_timeout_ms": _effects(
        "redis",
        "test_a_command_on_the_hot_path_is_given_up_after_the_command_timeout",
        "test_every_other_command_is_given_up_after_the_command_timeout",
    ),
    "redis.connect_timeout_ms": _effects(
        "redis", "test_a_connection_that_is_not_accepted_is_given_up_after_the_connect_timeout"
    ),
    "redis.waiting_max": (
        "tests/stores/test_redis_client.py::test_too_many_waiting_commands_are_refused_at_once",
    ),
    "redis.unsafe": _effects(
        "redis", "test_a_hub_told_to_report_only_starts_on_an_unsafe_server_and_is_ready"
    ),
    "server.host": _effects("server", "test_it_listens_at_the_host_and_nowhere_else"),
    "server.port": _effects("server", "test_it_listens_on_the_port"),
    "server.public_url": _effects(
        "server",
        "test_what_a_signature_covers_begins_with_the_public_url",
        "test_a_new_account_is_told_an_address_at_the_public_url",
    ),
    "server.header_timeout_ms": ("tests/web/test_hooks.py::test_a_head_that_does_not_end_is_cut_off",),
    "server.body_timeout_ms": ("tests/web/test_hooks.py::test_a_body_that_does_not_end_is_answered_408",),
    "server.keepalive_ms": _effects("server", "test_an_idle_connection_is_closed_after_the_keepalive_time"),
    "server.drain_ms": _effects(
        "server",
        "test_an_open_request_is_cut_off_after_the_drain_time",
        "test_readers_are_sent_away_within_the_drain_time",
    ),
    "ingress.stream_max": (
        "tests/web/test_hooks.py::test_a_full_ingest_stream_is_answered_503_until_it_is_worked_off",
    ),
    "ingress.max_body_bytes": ("tests/web/test_hooks.py::test_the_hubs_own_limit_is_above_every_connectors",),
    "ingress.batch_max": _effects(
        "ingress",
        "test_a_worker_takes_no_more_than_a_batch_at_once",
        "test_a_script_applies_no_more_changes_than_a_batch",
    ),
    "ingress.claim_idle_ms": _effects(
        "ingress", "test_a_failed_delivery_is_tried_again_as_soon_as_the_claim_times_say"
    ),
    "ingress.claim_every_ms": _effects(
        "ingress", "test_a_failed_delivery_is_tried_again_as_soon_as_the_claim_times_say"
    ),
    "ingress.tries_max": _effects("ingress", "test_a_delivery_that_failed_so_many_times_is_a_dead_letter"),
    "ingress.dead_max": _effects(
        "ingress", "test_no_more_dead_letters_are_kept_than_the_limit_and_these_are_the_newest"
    ),
    "ingress.quarantine_max": _effects(
        "ingress", "test_no_more_is_quarantined_than_the_limit_and_this_is_the_newest"
    ),
    "ingress.future_skew_ms": _effects(
        "ingress", "test_a_source_time_further_ahead_than_the_skew_is_quarantined"
    ),
    "stock.max_age_ms": _effects(
        "stock", "test_a_source_silent_for_longer_than_the_age_makes_the_answer_degraded"
    ),
    "stock.low_threshold": _effects(
        "stock", "test_below_the_threshold_an_item_is_low", "test_the_feed_calls_low_what_the_threshold_says"
    ),
    "stock.parked_max": _effects("stock", "test_so_many_items_may_wait_for_a_mapping_and_no_more"),
    "stock.ledger_max": ("tests/stores/test_archive.py::test_about_the_newest_entries_stay_in_the_store",),
    "stock.settle_memory_hours": _effects(
        "stock", "test_a_sale_that_all_sources_contain_is_kept_for_newcomers_for_so_long"
    ),
    "stock.settle_after_hours": (
        "tests/workers/test_upkeep.py::test_sales_that_no_level_contains_for_too_long_are_counted",
    ),
    "stock.names_days": _effects("stock", "test_the_names_of_a_sale_are_kept_for_so_many_days_more"),
    "stock.lapse_max": _effects("stock", "test_so_many_changes_by_time_alone_are_worked_off_in_one_step"),
    "stock.clock": _effects("stock", "test_a_caller_with_a_wrong_clock_does_not_set_the_merchants"),
    "stock.seen_hours": _effects(
        "stock",
        "test_a_repeat_long_after_the_hours_is_not",
        "test_ids_are_kept_in_the_store_no_longer_than_the_hours_and_two_days",
    ),
    "reservations.remember_hours": (
        "tests/stores/test_reservations.py::test_what_is_over_is_remembered_so_long_and_no_longer",
    ),
    "reservations.regrant_window_ms": (
        "tests/stores/test_history.py::test_after_the_window_holds_are_granted_again_under_the_new_name",
    ),
    "reservations.batch_max": _effects("reservation", "test_so_many_requests_are_decided_in_one_step"),
    "feed.retained": _effects("stock", "test_about_so_many_entries_of_the_feed_are_kept"),
    "feed.bound_ms": _effects("feed", "test_a_reader_that_asks_for_no_bound_is_granted_the_setting"),
    "feed.read_block_ms": _effects("feed", "test_an_idle_feed_is_verified_as_often_as_one_read_waits"),
    "feed.read_max": _effects("feed", "test_no_more_changes_are_taken_in_one_read_than_the_limit"),
    "feed.snapshot_part": _effects("feed", "test_a_part_of_a_snapshot_holds_no_more_items_than_the_limit"),
    "feed.skus_max": _effects("feed", "test_a_reader_may_name_so_many_skus_and_no_more"),
    "feed.set_skus_max": (
        "tests/web/test_feed_sets.py::TestKeeping::test_a_list_that_does_not_fit_is_refused_and_changes_nothing",
    ),
    "feed.sets_per_agent": ("tests/web/test_feed_sets.py::TestKeeping::test_an_agent_may_have_so_many_sets",),
    "feed.set_life_ms": ("tests/web/test_feed_sets.py::TestKeeping::test_a_set_dies_unless_it_is_used",),
    "feed.readers_max": (
        "tests/web/test_feed_ends.py::TestRefusals::test_a_process_may_have_so_many_readers",
    ),
    "feed.readers_per_merchant": (
        "tests/web/test_feed_limits.py::TestSeats::test_one_merchant_does_not_take_the_seats_of_another",
    ),
    "feed.readers_per_agent": (
        "tests/web/test_feed_ends.py::TestRefusals::test_an_agent_may_have_so_many_readers",
    ),
    "feed.wait_max_ms": (
        "tests/web/test_changes.py::TestWaiting::test_nobody_waits_longer_than_the_longest",
    ),
    "feed.ticket_ttl_ms": ("tests/web/test_feed_tickets.py::TestEnding::test_its_time_is_short",),
    "feed.tickets_per_agent": (
        "tests/web/test_feed_tickets.py::TestGiving::test_an_agent_gets_so_many_in_the_time_that_one_lives",
    ),
    "feed.buffer_max_bytes": _effects(
        "feed", "test_a_reader_that_lets_more_than_the_buffer_pile_up_is_put_aside"
    ),
    "feed.owed_max_ms": (
        "tests/web/test_feed_slow.py::test_one_that_takes_nothing_for_too_long_is_sent_away_and_resumes",
    ),
    "feed.owed_max": (
        "tests/web/test_feed_slow.py::test_one_of_everything_is_sent_away_when_too_much_is_owed",
    ),
    "feed.connection_age_ms": (
        "tests/web/test_feed_ends.py::TestLeaving::test_a_connection_ends_at_its_age",
    ),
    "subscriptions.per_agent": _LIMITS,
    "subscriptions.per_merchant": _LIMITS,
    "subscriptions.in_all": _LIMITS,
    "subscriptions.skus_max": _effects(
        "subscription", "test_a_subscription_may_name_so_many_skus_and_no_more"
    ),
    "subscriptions.grant_ms": _effects(
        "subscription", "test_no_more_is_granted_than_the_limit_and_that_when_nothing_is_asked"
    ),
    "subscriptions.items_max": _effects("subscription", "test_a_message_holds_no_more_items_than_the_limit"),
    "subscriptions.pending_max": _effects("subscription", "test_no_more_skus_wait_in_memory_than_the_limit"),
    "subscriptions.at_once": _effects("subscription", "test_so_many_endpoints_are_called_at_once"),
    "subscriptions.timeout_ms": _effects(
        "subscription", "test_an_endpoint_that_has_not_answered_by_the_timeout_has_failed"
    ),
    "subscriptions.retry_base_ms": _effects(
        "subscription", "test_the_first_pauses_are_as_long_as_the_base_says"
    ),
    "subscriptions.retry_max_ms": _effects("subscription", "test_no_pause_is_longer_than_the_longest"),
    "subscriptions.disable_after_ms": _effects(
        "subscription", "test_an_endpoint_that_takes_nothing_for_so_long_is_left_alone"
    ),
    "subscriptions.attempts_kept": _effects(
        "subscription", "test_so_many_lines_of_the_log_are_kept_and_these_are_the_newest"
    ),
    "subscriptions.private_targets": _effects(
        "subscription", "test_endpoints_in_networks_that_are_named_are_called_and_no_others"
    ),
    "refetch.confirm_after_ms": _effects("stock", "test_an_unversioned_fall_is_confirmed_after_so_long"),
    "refetch.sweep_every_ms": _effects("refetch", "test_what_is_due_is_found_by_the_next_sweep"),
    "refetch.backoff_base_ms": _effects(
        "refetch", "test_the_first_pause_after_a_failure_is_no_longer_than_the_base"
    ),
    "refetch.backoff_max_ms": _effects("refetch", "test_no_pause_after_failures_is_longer_than_the_longest"),
    "refetch.items_max": _effects("refetch", "test_when_more_items_wait_everything_is_read_instead"),
    "upstream.deadline_ms": _effects(
        "upstream", "TestAnswers::test_an_answer_that_is_not_complete_by_the_deadline_is_a_failure"
    ),
    "upstream.answer_max_bytes": _effects(
        "upstream", "TestAnswers::test_a_larger_answer_than_the_limit_is_a_failure"
    ),
    "upstream.wait_max_ms": _effects("upstream", "TestTurns::test_a_call_that_would_wait_longer_is_put_off"),
    "upstream.reserve_percent": _effects(
        "upstream", "TestTurns::test_sweeps_leave_the_reserve_to_single_items"
    ),
    "upstream.tries_max": _effects("upstream", "TestRepeating::test_a_call_is_sent_so_often_and_no_more"),
    "upstream.retry_percent": _effects(
        "upstream", "TestRepeating::test_so_many_of_a_hundred_calls_are_repeated"
    ),
    "upstream.backoff_base_ms": _effects(
        "upstream", "TestRepeating::test_the_first_pause_before_a_repetition_is_no_longer_than_the_base"
    ),
    "upstream.backoff_max_ms": _effects(
        "upstream", "TestRepeating::test_no_pause_before_a_repetition_is_longer_than_the_longest"
    ),
    "upstream.breaker_window_ms": _effects(
        "upstream", "TestBreaker::test_failures_before_the_window_are_forgotten"
    ),
    "upstream.breaker_calls_min": _effects(
        "upstream", "TestBreaker::test_so_many_calls_are_needed_for_a_conclusion"
    ),
    "upstream.breaker_failed_percent": _effects(
        "upstream", "TestBreaker::test_so_many_failures_of_a_hundred_open_it"
    ),
    "upstream.breaker_slow_ms": _effects("upstream", "TestBreaker::test_calls_that_take_so_long_open_it"),
    "upstream.breaker_slow_percent": _effects(
        "upstream", "TestBreaker::test_so_many_slow_calls_of_a_hundred_open_it"
    ),
    "upstream.breaker_open_ms": _effects(
        "upstream", "TestBreaker::test_it_stays_open_for_so_long_the_first_time"
    ),
    "upstream.breaker_open_max_ms": _effects("upstream", "TestBreaker::test_it_never_stays_open_for_longer"),
    "upstream.breaker_permits": _effects(
        "upstream", "TestBreaker::test_so_many_calls_are_tried_by_all_processes_together"
    ),
    "upstream.share_every_ms": _effects(
        "upstream", "TestBreaker::test_what_others_have_found_is_looked_at_so_often"
    ),
    "upstream.connections_max": _effects(
        "upstream", "TestAnswers::test_a_process_opens_so_many_connections_and_no_more"
    ),
    "upstream.private_targets": _effects(
        "upstream", "TestAnswers::test_platforms_in_networks_that_are_named_are_called_and_no_others"
    ),
    "polling.safety_every_ms": _effects(
        "polling", "test_a_healthy_account_is_polled_as_often_as_safety_says"
    ),
    "polling.busy_every_ms": _effects(
        "polling", "test_a_stalled_account_is_polled_as_often_as_its_hour_says"
    ),
    "polling.quiet_every_ms": _effects(
        "polling", "test_a_stalled_account_is_polled_as_often_as_its_hour_says"
    ),
    "polling.busy_hours": _effects("polling", "test_hours_that_are_told_count_more_than_learned_ones"),
    "polling.retry_base_ms": _effects(
        "polling", "test_the_first_pause_after_a_failure_is_no_longer_than_the_base"
    ),
    "polling.retry_max_ms": _effects("polling", "test_no_pause_is_longer_than_the_longest"),
    "polling.pages_max": (
        "tests/workers/test_polling.py::test_a_turn_that_is_cut_short_is_not_complete_and_goes_on_at_once",
    ),
    "polling.loss_bound_ms": ("tests/workers/test_polling.py::test_after_a_loss_the_poll_begins_before_it",),
    "polling.look_every_ms": _effects("polling", "test_due_polls_are_found_as_often_as_workers_look"),
    "sync.look_every_ms": _effects("sync", "test_silence_is_judged_as_often_as_it_says"),
    "sync.silence_floor_ms": _effects("sync", "test_silence_shorter_than_the_floor_is_no_sign"),
    "sync.false_alarm_weeks": _effects("sync", "test_the_rarer_silence_may_be_wrong_the_longer_it_must_be"),
    "sync.learn_hours": _effects("sync", "test_a_rhythm_observed_for_less_time_says_nothing"),
    "sync.canary_every_ms": _effects(
        "sync", "test_a_platform_is_asked_for_a_sign_of_life_as_often_as_it_says"
    ),
    "sync.canary_missed_max": _effects("sync", "test_so_many_signs_of_life_must_be_missing"),
    "sync.grace_ms": _effects("sync", "test_a_delivery_may_be_so_late_before_it_is_lost"),
    "sync.recover_deliveries": _effects(
        "sync", "test_so_many_deliveries_must_have_arrived_before_it_is_well"
    ),
    "sync.recover_polls": _effects("sync", "test_so_many_polls_must_have_found_nothing_before_it_is_well"),
    "hook_guard.check_every_ms": _effects(
        "hook_guard", "test_the_platform_is_asked_again_after_about_the_time_between_checks"
    ),
    "hook_guard.repairs_max": _effects("hook_guard", "test_no_more_is_repaired_in_a_day_than_the_limit"),
    "authority.after_ms": _effects(
        "authority", "test_sources_are_asked_when_the_store_has_been_away_for_so_long"
    ),
    "authority.deadline_ms": _effects(
        "authority", "test_a_source_is_waited_for_as_long_as_the_deadline_says"
    ),
    "authority.calls_per_s": _effects("authority", "test_an_account_is_called_so_often_in_a_second"),
    "authority.items_max": _effects("authority", "test_no_more_is_kept_than_the_limit"),
    "authority.refresh_every_ms": _effects("authority", "test_what_is_kept_is_read_again_so_often"),
    "archive.folder": _effects("archive", "test_the_archive_lies_in_the_folder"),
    "archive.every_ms": _effects(
        "archive", "test_a_worker_looks_for_something_to_archive_as_often_as_it_says"
    ),
    "archive.wait_ms": _effects(
        "archive", "test_a_few_entries_wait_for_others_as_long_as_it_says_and_no_longer"
    ),
    "archive.segment_max": _effects(
        "archive", "test_a_segment_holds_no_more_entries_than_the_limit_and_so_many_do_not_wait"
    ),
    "archive.checkpoint_every": _effects("archive", "test_a_checkpoint_stands_after_every_so_many_segments"),
    "archive.backlog_max": (
        "tests/workers/test_archive.py::test_when_too_many_wait_the_oldest_are_given_up_and_counted",
    ),
    "decisions.buffer_max": ("tests/stores/test_decisions.py::test_beyond_the_buffer_the_oldest_go_counted",),
    "decisions.flush_ms": _effects(
        "archive", "test_decisions_wait_as_long_as_it_says_for_others_to_be_written_with"
    ),
    "decisions.stream_max": ("tests/stores/test_decisions.py::test_the_store_holds_no_more_than_the_limit",),
    "limits.agent_rate_per_s": (
        "tests/web/test_limits.py::test_so_many_a_second_may_be_asked_as_the_rate_says",
    ),
    "limits.agent_burst": ("tests/web/test_limits.py::test_as_many_may_be_asked_at_once_as_the_burst_says",),
    "worker.port": _effects("server", "test_a_worker_with_a_port_answers_probes_there"),
    "secrets.key": _effects("secrets_and_log", "test_the_key_decides_what_opens_whatever_the_file_holds"),
    "secrets.key_file": _effects("secrets_and_log", "test_without_a_key_the_file_decides_what_opens"),
    "secrets.rotation_overlap_hours": _effects(
        "secrets_and_log", "test_the_old_secret_is_accepted_for_the_overlap_and_no_longer"
    ),
    "log.level": _effects("secrets_and_log", "test_nothing_below_the_level_is_written"),
    "log.form": _effects("secrets_and_log", "test_lines_of_the_console_form_are_for_a_person"),
    "log.sentry_dsn": _effects(
        "secrets_and_log", "test_faults_of_ours_are_reported_without_anything_a_request_carried"
    ),
}


def test_every_setting_is_proved_to_have_an_effect() -> None:
    assert list(EFFECT_TESTS) == [f"{section}.{name}" for section, name in _settings()]


@pytest.mark.parametrize("test", sorted({test for tests in EFFECT_TESTS.values() for test in tests}))
def test_a_test_of_an_effect_exists(test: str) -> None:
    path, *names = test.split("::")
    found: ast.AST = tree(ROOT / path)
    for name in names:
        found = _inside(found, name)
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)


def _settings() -> list[tuple[str, str]]:
    found = []
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        found += [(section, name) for name in field.annotation.model_fields]
    return found


def _inside(node: ast.AST, name: str) -> ast.AST:
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    [found] = [
        child for child in ast.iter_child_nodes(node) if isinstance(child, kinds) and child.name == name
    ]
    return found
