"""Structured log lines, and Sentry when it is wanted.

Fields are snake_case names; bodies, headers and secrets have no place in any of
them. A line is one JSON object, so nothing a platform sends can forge another.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson
import sentry_sdk
import structlog

from synchub import __version__
from synchub.errors import SynchubError

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint
    from structlog.types import EventDict, Processor

    from synchub.settings import LogSettings

_FIELD_MAX: Final = 500
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def get_logger(**fields: str) -> structlog.stdlib.BoundLogger:
    """Return a logger with these fields on each of its lines."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(**fields)
    return logger


def set_up_logs(settings: LogSettings) -> None:
    """Send all log lines, also those of libraries, to standard error in one form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _bounded,
    ]
    form: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
        if settings.form == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, *form],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=form[-1], foreign_pre_chain=[*shared, *form[:-1]])
    )
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[settings.level], logging.WARNING), force=True)
    _set_up_sentry(settings)


def _set_up_sentry(settings: LogSettings) -> None:
    dsn = settings.sentry_dsn.get_secret_value()
    if dsn:
        sentry_sdk.init(
            dsn=dsn,
            release=__version__,
            send_default_pii=False,
            max_request_body_size="never",
            include_local_variables=False,
            before_send=scrub,
        )


def scrub(event: Event, hint: Hint) -> Event | None:
    """Let only faults of ours leave the process, without anything a request carried."""
    problem = (hint.get("exc_info") or (None, None, None))[1]
    if isinstance(problem, SynchubError) and problem.status < 500:  # noqa: PLR2004 - HTTP's own border
        return None
    request = event.get("request")
    if request:
        event["request"] = {key: request[key] for key in ("method", "url") if key in request}
    for key in ("breadcrumbs", "extra", "user", "logentry", "message"):
        event.pop(key, None)  # type: ignore[misc]  # a TypedDict wants literal keys
    for one in event.get("exception", {}).get("values", []):
        # Libraries repeat in their messages what they could not read; ours hold no secret.
        if one.get("module") != SynchubError.__module__:
            one.pop("value", None)
    return event


def _bounded(_: Any, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _FIELD_MAX:
            event[name] = value[:_FIELD_MAX] + "…"
    return event


def _json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()
