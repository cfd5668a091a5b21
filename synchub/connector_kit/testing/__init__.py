"""The suite that every connector's folder passes, inside this repository or outside.

A recording is one delivery of the platform, three files in ``fixtures/``, the topic
written with ``__`` for ``/`` and ``_`` for a space::

    inventory_levels__update__null.json            the body, byte for byte
    inventory_levels__update__null.headers.json    the headers as sent, and two notes
    inventory_levels__update__null.expected.json   what normalize returns, written by hand

The notes in the headers file are ``"_document"``, the public document that the shape
comes from, and ``"_now_ms"``, the hub's clock when it arrived. The expectation is a
list of events, each ``{"kind": "level", …}`` with the fields of that class in
``events.py`` (those left out have their default; a version is ``{"scale", "number",
"resolution"}``), or ``{"refused": "part of the sentence"}``.

A page of a platform that is polled is recorded as ``page__CASE.json``, ``page__CASE.headers.json``
and ``page__CASE.expected.json``; ``docs/adding-a-connector.md`` describes them.

``fixtures/secrets.json`` holds what all recordings share; none of it is a real secret::

    {"secrets": ["the one that signed", "another active one"],
     "other": "a valid secret that signed nothing",
     "scheme": {"kind": "hmac-sha256-base64", "header": "X-Example-Hmac"},
     "credentials": {"shop_domain": "…"},
     "items": ["271878346596884015"]}

``scheme`` (the other kind is ``standard-webhooks``) lets ``python -m
synchub.connector_kit.testing sign FOLDER`` write the signature headers;
``credentials`` and ``items`` are what the checks of a client use.
``python -m synchub.connector_kit.testing check FOLDER`` runs the suite.
"""

from __future__ import annotations

from synchub.connector_kit.testing.files import Shortcoming
from synchub.connector_kit.testing.subject import Subject, load_subject
from synchub.connector_kit.testing.suite import (
    CHECKS,
    CLIENT_CHECKS,
    PAGE_CHECKS,
    Check,
    checks_for,
    shortcomings,
)

__all__ = [
    "CHECKS",
    "CLIENT_CHECKS",
    "PAGE_CHECKS",
    "Check",
    "Shortcoming",
    "Subject",
    "checks_for",
    "load_subject",
    "shortcomings",
]
