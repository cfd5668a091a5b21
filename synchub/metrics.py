"""Every number of ``/metrics``, in one place and under one prefix.

No label carries a SKU, an agent or a merchant: connectors are few, those are
not. The first 200 accounts that call are named, all others together are ``other``.
Points in time are exported as timestamps, so that an age is correct even when
nobody updates it.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from synchub import __version__
from synchub.kit.labels import BoundedLabels

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_LATENCY_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"synchub_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"synchub_{name}", text, labels, registry=REGISTRY)


def _latency(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(f"synchub_{name}", text, labels, buckets=_LATENCY_S, registry=REGISTRY)


build_info: Final = _gauge("build_info", "1, with the version as label", "version")
build_info.labels(__version__).set(1)

# Ingress
deliveries: Final = _counter("deliveries_total", "Deliveries answered", "connector", "answer")


@cache
def delivery_answered(connector: str, answer: str) -> Counter:
    """Return one line of ``deliveries``; looking it up anew for each request is measurable."""
    return deliveries.labels(connector, answer)


signature_failures: Final = _counter(
    "signature_failures_total", "Deliveries refused before the store was touched", "connector", "reason"
)
replays_rejected: Final = _counter("replays_rejected_total", "Events recognized as repeats", "connector")
deliveries_quarantined: Final = _counter("deliveries_quarantined_total", "Deliveries put into quarantine")
dead_letters_total: Final = _counter("dead_letters_total", "Deliveries given up after their last try")
deliveries_taken_over: Final = _counter(
    "deliveries_taken_over_total", "Deliveries taken over from a silent worker"
)
queue_depth: Final = _gauge("queue_depth", "Deliveries or jobs waiting", "stage")
queue_oldest_age: Final = _gauge("queue_oldest_age_seconds", "Age of the oldest waiting delivery", "stage")
workers_present: Final = _gauge("workers", "Workers that have given a sign of life in the last ten seconds")
dlq_depth: Final = _gauge("dlq_depth", "Deliveries on the dead-letter list")
dlq_oldest: Final = _gauge(
    "dlq_oldest_timestamp_seconds", "When the oldest dead letter was put there; 0: none"
)
quarantine_depth: Final = _gauge("quarantine_depth", "Deliveries in quarantine")
header_timeouts: Final = _counter("header_timeouts_total", "Connections cut off before a whole request head")

# Stock
events: Final = _counter("events_total", "Events by what became of them", "connector", "outcome")
webhook_to_cache: Final = _latency(
    "webhook_to_cache_seconds", "From the arrival of a delivery to its effect", "connector"
)
webhook_to_agent: Final = _latency(
    "webhook_to_agent_seconds",
    "From the arrival of a report to its change being written to readers",
    "transport",
)
source_event_timestamp: Final = _gauge(
    "source_event_timestamp_seconds", "Newest source time seen", "connector"
)
open_sales_overdue: Final = _gauge(
    "open_sales_overdue", "Sales that some source's level lacks for longer than stock.settle_after_hours"
)
parked_items: Final = _gauge("parked_items", "Items whose events wait for a mapping or a decision")
evidence_suspended: Final = _gauge(
    "evidence_suspended", "Lags that count for nothing newer because an importer stands still"
)
evidence_disproved: Final = _gauge(
    "evidence_disproved", "How often a level lacked what its lag promised, of all pairs of accounts"
)

# Fetching
poll_requests: Final = _counter("poll_requests_total", "Calls to platforms", "connector", "result")
refetch_due: Final = _gauge("refetch_due", "Items waiting to be fetched", "connector")
refetch_oldest: Final = _gauge(
    "refetch_oldest_timestamp_seconds",
    "Since when the item that waits longest is to be fetched; 0: none",
    "connector",
)
refetch_overflows: Final = _counter(
    "refetch_overflows_total", "Times that everything was read because too many items waited", "connector"
)

# Polling
polls: Final = _counter("polls_total", "Turns of polling by what came of them", "connector", "mode", "result")
poll_pages: Final = _counter("poll_pages_total", "Pages that were polled", "connector")
poll_records: Final = _counter(
    "poll_records_total", "Facts on polled pages, those read again too", "connector"
)
poll_put_aside: Final = _counter(
    "poll_put_aside_total", "Polled facts that were put aside, or could not be used at all", "connector"
)
poll_rewinds: Final = _counter(
    "poll_rewinds_total", "Polls that began earlier than the last one ended", "connector", "reason"
)
poll_turns_cut: Final = _counter(
    "poll_turns_cut_total", "Turns that ended before the platform had no more", "connector"
)

# Subscriptions at platforms
hook_checks: Final = _counter(
    "hook_checks_total", "Times that a platform was asked whether it sends to us", "connector", "result"
)
hook_repairs: Final = _counter(
    "hook_repairs_total", "Subscriptions at platforms that were made or enabled again", "connector", "outcome"
)
hook_accounts: Final = _gauge(
    "hook_accounts", "Accounts by what their platform last said of our subscription", "connector", "state"
)
hooks_need_person: Final = _gauge(
    "hooks_need_person", "Accounts whose subscription the hub cannot repair by itself", "connector"
)

# Calls to platforms
upstream_accounts: Final = BoundedLabels(200)
"""Accounts that are named in metrics; more would make more lines than anybody reads."""
upstream_calls: Final = _counter(
    "upstream_calls_total", "Calls to platforms by what came of them", "connector", "operation", "result"
)
upstream_call_seconds: Final = _latency(
    "upstream_call_seconds", "How long platforms took to answer, without the wait for the turn", "connector"
)
upstream_wait: Final = _latency(
    "upstream_wait_seconds", "How long calls waited for their turn in a platform's limits", "priority"
)
upstream_in_flight: Final = _gauge("upstream_in_flight", "Calls to platforms that have not been answered yet")
upstream_put_off: Final = _counter(
    "upstream_put_off_total",
    "Calls not made because a platform's limits had no room in time",
    "connector",
    "limit",
)
upstream_retries: Final = _counter(
    "upstream_retries_total",
    "Calls to platforms made again, or not because there were enough of them",
    "connector",
    "outcome",
)
upstream_budget: Final = _gauge(
    "upstream_budget_remaining",
    "What was left of an account's limits after the last call of this process",
    "account",
)
upstream_capacity: Final = _gauge(
    "upstream_budget_capacity", "What an account's limits hold at most, as its platform last said", "account"
)
upstream_breaker: Final = _gauge(
    "upstream_breaker_state",
    "0: calls are made; 1: a few are tried; 2: none are made",
    "account",
    "operation",
)
upstream_trips: Final = _counter(
    "upstream_breaker_trips_total", "Times that an account's breaker has opened", "account", "operation"
)
upstream_store_away: Final = _gauge(
    "upstream_store_away", "1 while this process counts calls to platforms by itself"
)

# Deliveries that stop
connector_state: Final = _gauge(
    "connector_state",
    "1 for the state that an account's deliveries are in; of those not named, how many are",
    "account",
    "state",
)
connector_suspicion: Final = _gauge(
    "connector_suspicion",
    "What speaks against an account's deliveries; from 1 on they are stalled",
    "account",
)
source_freshest: Final = _gauge(
    "source_freshest_timestamp_seconds", "The newest time that an account's platform has told", "account"
)
canary_last_received: Final = _gauge(
    "canary_last_received_timestamp_seconds", "When an account's last sign of life came", "account"
)
sync_coverage: Final = _gauge(
    "sync_coverage_ratio",
    "The share of what polls found within a day of which deliveries had told",
    "account",
)
sync_found: Final = _counter("sync_found_total", "Changes that polls found", "connector")
sync_unseen: Final = _counter(
    "sync_unseen_total", "Changes that polls found and no delivery had told", "connector"
)
sync_all_silent: Final = _gauge(
    "sync_all_silent", "1 while nobody is heard, or deliveries wait here: the cause is ours"
)
sync_judged: Final = _gauge(
    "sync_judged_timestamp_seconds", "When accounts were last judged, by whichever worker does it"
)

# Feed
feed_readers: Final = _gauge("feed_readers", "Connections that follow a feed in this process")
feed_frames: Final = _counter("feed_frames_total", "Frames written to feed connections", "kind")
feed_resets: Final = _counter("feed_resets_total", "Readers told to drop everything", "reason")
feed_stalls: Final = _counter(
    "feed_stalls_total", "Times that a reader was put aside because it took too little"
)
feed_byes: Final = _counter("feed_byes_total", "Feed connections ended by the hub", "reason")
feed_refusals: Final = _counter(
    "feed_refusals_total", "Feed connections refused because there were as many as there may be", "limit"
)
feed_polls: Final = _counter("feed_polls_total", "Polls for changes that were answered", "outcome")
feed_tickets: Final = _counter(
    "feed_tickets_total", "Tickets for browsers: given, used, or refused when they were presented", "outcome"
)
feed_lag_sequences: Final = _gauge(
    "feed_lag_sequences", "Changes not yet told, of the merchant furthest behind"
)

# Subscriptions
subscriptions: Final = _gauge("subscriptions", "Subscriptions that this worker tells, by status", "status")
subscriptions_refused: Final = _counter(
    "subscriptions_refused_total", "Subscriptions not made because there are enough", "limit"
)
subscriptions_over: Final = _counter(
    "subscriptions_over_total", "Subscriptions that were disabled, expired or ended", "reason"
)
push_attempts: Final = _counter("push_attempts_total", "Requests to endpoints of subscribers", "outcome")
push_seconds: Final = _latency("push_seconds", "How long endpoints took to answer")
push_in_flight: Final = _gauge("push_in_flight", "Requests to endpoints that have not been answered yet")
push_breakers_open: Final = _gauge("push_breakers_open", "Endpoints that are not tried at present")
push_truncated: Final = _counter(
    "push_truncated_total", "Messages that told states because the changes were no longer known"
)
push_oldest: Final = _gauge(
    "push_oldest_timestamp_seconds",
    "Since when the endpoint that waits longest has been told nothing of what there is; 0: none waits",
)

# History
epochs_renewed: Final = _counter(
    "epochs_renewed_total", "Histories renamed by this process because the store had lost their ends"
)
store_away: Final = _gauge(
    "store_away", "1 while this process does without the store, because it has been away for too long"
)
authority_answers: Final = _counter(
    "authority_answers_total",
    "SKUs asked for while the store was away, answered from their sources",
    "outcome",
)
authority_waiting: Final = _gauge("authority_waiting_items", "Items that wait for their sources' answers")
authority_items: Final = _gauge("authority_items", "SKUs and mapped items kept for the store's absence")
merchants_frozen: Final = _gauge("merchants_frozen", "Merchants for whom nothing new is granted at present")
tokens_restored: Final = _counter("tokens_restored_total", "Tokens presented again after a loss", "outcome")

# Ledger, archive, decisions
ledger_unarchived: Final = _gauge(
    "ledger_unarchived_entries", "Ledger entries that are not in the archive yet, of all merchants"
)
archive_segments: Final = _counter("archive_segments_total", "Segments written to the archive", "log")
archived_seq: Final = _gauge("archived_seq", "Archived ledger sequences, the merchants' added up")
archive_last_written: Final = _gauge(
    "archive_last_written_timestamp_seconds", "When this process last wrote a segment; 0: never"
)
archive_failures: Final = _counter(
    "archive_failures_total", "Turns in which the archive could not be written"
)
archive_dropped: Final = _counter(
    "archive_dropped_total", "Ledger entries given up unarchived because too many waited"
)
decisions_noted: Final = _counter("decisions_total", "Decisions noted", "kind")
decisions_dropped: Final = _counter("decisions_dropped_total", "Decisions lost because too many waited")

# Availability
questions_at_once: Final = Histogram(
    "synchub_questions_at_once",
    "Questions about stock read in one step of the store",
    buckets=(1, 2, 4, 8, 16, 32),
    registry=REGISTRY,
)

# Reservations
grants_at_once: Final = Histogram(
    "synchub_grants_at_once",
    "Requests for holds decided in one step of the store",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)

# Time
deadlines: Final = _counter("deadlines_total", "Changes by time alone that were made events")
deadlines_waiting: Final = _gauge(
    "deadlines_waiting", "Changes by time alone that were due and not yet made events after the last turn"
)

# Policies and limits
policy_edits: Final = _counter("policy_edits_total", "Versions of policies written")
requests_limited: Final = _counter("requests_limited_total", "Requests of agents refused over their rate")

# Store
redis_config_safe: Final = _gauge("redis_config_safe", "1 when the store's configuration cannot lose stock")
redis_clock_skew: Final = _gauge("redis_clock_skew_seconds", "The store's clock minus ours")
redis_waiting: Final = _gauge("redis_waiting_commands", "Commands of this process not yet sent")

# Process
event_loop_lag: Final = _latency("event_loop_lag_seconds", "How late the event loop wakes a task")
