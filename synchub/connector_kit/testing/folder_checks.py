"""What a connector's folder must hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.testing.expectations import event_from
from synchub.connector_kit.testing.files import (
    EXPECTED,
    FILL_IN,
    HEADERS,
    demand,
    further_bodies,
    page_bodies,
    recorded_bodies,
)

if TYPE_CHECKING:
    from synchub.connector_kit.testing.pages import PageRecording
    from synchub.connector_kit.testing.subject import Recording, Subject

README_HEADINGS: Final = ("Set up", "Permissions", "What the numbers mean", "Limits", "Removal")
FILES: Final = ("manifest.toml", "__init__.py", "mapping.py", "README.md")
FILES_OF_A_RECEIVER: Final = ("signature.py", "payloads.py")
FILES_OF_A_CALLER: Final = ("client.py", "emulator.py")

_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def everything_is_filled_in(subject: Subject) -> None:
    """No file still asks its author for something."""
    places = [
        f"{path.relative_to(subject.folder)}:{number}"
        for path in sorted(subject.folder.rglob("*"))
        if path.is_file() and path.suffix in {".toml", ".py", ".json", ".md"}
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FILL_IN in line
    ]
    demand(not places, f"Fill in what is asked for in {', '.join(places)}.")


def the_folder_is_complete(subject: Subject) -> None:
    """Every file of the contract is there, an emulator too where there is a client to try."""
    received = FILES_OF_A_RECEIVER if subject.connector.manifest.topics else ()
    called = FILES_OF_A_CALLER if subject.connector.client else ()
    for name in (*FILES, *received, *called):
        demand((subject.folder / name).is_file(), f"{name} is missing.")


def the_readme_answers_the_merchant(subject: Subject) -> None:
    """The README has a section for each question a merchant asks."""
    readme = subject.folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    headings = {heading.lower() for heading in _HEADING.findall(text)}
    for heading in README_HEADINGS:
        demand(heading.lower() in headings, f'README.md has no section "{heading}".')


def the_manifest_names_its_documents(subject: Subject) -> None:
    """The manifest links to the platform's public documents."""
    docs = subject.connector.manifest.docs
    demand(docs, "manifest.toml: docs names no public document.")
    for link in docs:
        demand(link.startswith("https://"), "manifest.toml: docs are https links to public documents.")


def every_topic_is_recorded(subject: Subject) -> None:
    """Each declared topic has a recording that is read, and each kind it emits is in one."""
    for topic, offer in subject.connector.manifest.topics.items():
        mine = [recording for recording in subject.recordings if recording.topic == topic]
        demand(mine, f"The topic {topic} has no recording in fixtures/.")
        emitted = {row.get("kind") for recording in mine for row in recording.expected}
        for kind in offer.emits:
            demand(kind in emitted, f"No recording of {topic} shows the {kind} that the manifest promises.")


def every_recording_names_its_document(subject: Subject) -> None:
    """Each recording says which public document its shape comes from."""
    recordings: list[Recording | PageRecording] = [*subject.recordings, *subject.pages]
    for recording in recordings:
        demand(
            recording.document.strip(),
            f'{recording.name}{HEADERS} needs "_document": the public document its shape comes from.',
        )


def no_file_is_left_over(subject: Subject) -> None:
    """No headers or expectation without its body."""
    pages = page_bodies(subject.folder)
    answers = [further for page in pages for further in further_bodies(page)]
    bodies = {path.name.removesuffix(".json") for path in (*recorded_bodies(subject.folder), *pages)}
    for ending in (HEADERS, EXPECTED):
        for path in (subject.folder / "fixtures").glob(f"*{ending}"):
            demand(path.name.removesuffix(ending) in bodies, f"{path.name} belongs to no recorded body.")
    for path in (subject.folder / "fixtures").glob("page__*.[0-9]*.json"):
        demand(path in answers, f"{path.name} follows no recorded answer.")


def expectations_are_events(subject: Subject) -> None:
    """Each expectation is a list of events, or one refusal."""
    for recording in subject.recordings:
        if recording.refused is not None:
            demand(len(recording.expected) == 1, f"{recording.name}{EXPECTED}: a refusal stands alone.")
            continue
        for row in recording.expected:
            event_from(row, f"{recording.name}{EXPECTED}")


def the_quality_is_earned(subject: Subject) -> None:
    """Bronze receives or is polled; silver is also polled, and its subscriptions are looked after."""
    manifest = subject.connector.manifest
    if manifest.quality == "bronze":
        demand(manifest.topics or manifest.polling, "manifest.toml: bronze needs topics or [polling].")
        return
    guarded = manifest.subscription.check or not manifest.topics
    earned = manifest.polling is not None and guarded
    demand(earned, f"manifest.toml: quality {manifest.quality} needs [polling] and a subscription's check.")
    demand(manifest.quality == "silver", "manifest.toml: gold needs write-back, which no connector can yet.")
