"""The compose file is valid, and it starts what ``tests/support/topology.py`` says."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from typing import Any, Final

import jsonschema
import pytest
import yaml

from tests.support.source import ROOT
from tests.support.topology import TOPOLOGY

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


def test_compose_file_follows_the_published_schema(compose: dict[str, Any]) -> None:
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.validators.validator_for(schema)(schema).validate(compose)


def test_published_schema_refuses_a_misspelt_key(compose: dict[str, Any]) -> None:
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    schema = json.loads(text)
    broken = {**compose, "services": {"api": {**compose["services"]["api"], "healtcheck": {}}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validators.validator_for(schema)(schema).validate(broken)


def test_compose_file_starts_exactly_the_known_services(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == set(TOPOLOGY)


@pytest.mark.parametrize("service", TOPOLOGY)
def test_service_runs_the_command_of_the_topology(compose: dict[str, Any], service: str) -> None:
    described = compose["services"][service]
    program = _entrypoint() if "build" in described else []
    assert tuple(program + described["command"]) == TOPOLOGY[service].argv


@pytest.mark.parametrize("service", TOPOLOGY)
def test_service_gets_the_environment_of_the_topology(compose: dict[str, Any], service: str) -> None:
    assert tuple(compose["services"][service].get("environment", {})) == TOPOLOGY[service].environment


@pytest.mark.parametrize("service", TOPOLOGY)
def test_service_waits_until_what_it_needs_is_healthy(compose: dict[str, Any], service: str) -> None:
    needs = compose["services"][service].get("depends_on", {})
    assert tuple(needs) == TOPOLOGY[service].after
    assert all(need == {"condition": "service_healthy"} for need in needs.values())


@pytest.mark.parametrize("service", TOPOLOGY)
def test_service_is_given_the_time_it_needs_to_end(compose: dict[str, Any], service: str) -> None:
    assert _seconds(compose["services"][service]["stop_grace_period"]) == TOPOLOGY[service].stop_s


def test_only_the_api_is_published_and_only_on_loopback(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert published == {"api": [f"127.0.0.1:8080:{TOPOLOGY['api'].port}"]}


def test_every_url_names_a_service_of_the_file(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for value in service.get("environment", {}).values():
            for host, port in re.findall(r"redis://([^:/]+):(\d+)", value):
                assert TOPOLOGY[host].port == int(port)


def test_secrets_have_no_default(compose: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        assert compose["services"][name]["environment"]["SYNCHUB_SECRETS__KEY"].startswith(
            "${SYNCHUB_SECRETS__KEY:?"
        )


def test_store_uses_the_shipped_configuration_and_keeps_its_data(compose: dict[str, Any]) -> None:
    volumes = compose["services"]["valkey"]["volumes"]
    assert f"./config/redis.conf:{TOPOLOGY['valkey'].argv[1]}:ro" in volumes
    assert "stock:/data" in volumes


def test_named_volumes_are_declared(compose: dict[str, Any]) -> None:
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith(".")}
    assert named == set(compose["volumes"])


def test_every_service_has_a_health_check(compose: dict[str, Any]) -> None:
    image_has_one = "HEALTHCHECK" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name, service in compose["services"].items():
        assert "healthcheck" in service or ("build" in service and image_has_one), name


def _entrypoint() -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ENTRYPOINT (\[.*\])$", text, flags=re.MULTILINE)
    assert found is not None
    words: list[str] = json.loads(found[1])
    return words


def _seconds(duration: str) -> int:
    (number, unit), *rest = re.findall(r"(\d+)([smh])", duration)
    assert not rest, shlex.quote(duration)
    return int(number) * _UNITS_S[unit]
