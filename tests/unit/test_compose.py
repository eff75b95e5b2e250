"""The containers' file, without an engine: what it may say, what it names, and that it holds no secret."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.errors import UsageError
from pipeline.parts import open_tables
from pipeline.settings import load_settings
from pipeline.stack.services import POOL
from tests.contract.rest_catalog import lend_namespace
from tests.stack import require_stack

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
# The files that say which images there are.
BUILDS = [DEPLOY / "Dockerfile", *sorted((DEPLOY / "compose").rglob("Dockerfile"))]

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
# Of the Compose specification what is used here; whatever else stands in the file is a mistake until it is added.
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "mem_limit", "restart"],
    "properties": {
        "image": TEXT,
        "build": {
            "oneOf": [
                TEXT,
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["context"],
                    "properties": {"context": TEXT, "dockerfile": TEXT},
                },
            ]
        },
        "command": TEXTS,
        # Numbers and truth values would be read differently by different engines.
        "environment": {"type": "object", "additionalProperties": TEXT},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:/[^:]+(:ro)?$"}},
        "ports": {"type": "array", "items": {"type": "string"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {"condition": {"enum": ["service_healthy", "service_completed_successfully"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test", "interval", "timeout", "retries"],
            "properties": {
                "test": {**TEXTS, "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}], "minItems": 2},
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "start_interval": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "mem_limit": {"type": "string", "pattern": r"^\d+[mg]$"},
        "stop_grace_period": DURATION,
        "init": {"type": "boolean"},
        "cap_drop": TEXTS,
        "security_opt": TEXTS,
        "logging": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"driver": TEXT, "options": {"type": "object", "additionalProperties": TEXT}},
        },
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "patternProperties": {"^[a-z][a-z0-9-]*$": SERVICE},
            "additionalProperties": False,
        },
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def services(compose) -> dict[str, Any]:
    return compose["services"]


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    lines = [line for line in (DEPLOY / "env.example").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def list_mounts(services: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, *volume.split(":")[:2]) for name, one in services.items() for volume in one.get("volumes", [])]


def list_environment(services: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, *pair) for name, one in services.items() for pair in one.get("environment", {}).items()]


def read_properties(file: str) -> dict[str, str]:
    lines = [line for line in (DEPLOY / "compose" / file).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_says_only_what_the_specification_knows(compose):
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(compose)] == []


def test_a_mistyped_key_is_noticed(compose):
    broken = json.loads(json.dumps(compose))
    broken["services"]["presto"]["enviroment"] = {}
    broken["services"]["kafka"]["depends_on"] = {"presto": {"condition": "service_is_fine"}}
    assert len(list(Draft202012Validator(SCHEMA).iter_errors(broken))) == 2


def test_every_mounted_file_exists_and_every_named_volume_is_declared_and_used(compose, services):
    files = {source for _, source, _ in list_mounts(services) if source.startswith(".")}
    named = {source for _, source, _ in list_mounts(services) if not source.startswith(".")}
    assert [source for source in sorted(files) if not (DEPLOY / source).exists()] == []
    assert named == set(compose["volumes"])


def test_no_service_file_lies_about_unused(services):
    mounted = [DEPLOY / source for _, source, _ in list_mounts(services) if source.startswith(".")]
    built = [DEPLOY / one["build"] for one in services.values() if isinstance(one.get("build"), str)]
    used = [*mounted, *built]
    unused = [
        file
        for file in (DEPLOY / "compose").rglob("*")
        if file.is_file() and not any(place == file or place in file.parents for place in used)
    ]
    assert unused == []


def test_who_is_waited_for_can_be_waited_for(services):
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
            else:
                assert services[other]["restart"] == "no", f"{name} waits for the end of {other}"


def test_every_service_that_stays_restarts_and_says_whether_it_works(services):
    staying = {name: one for name, one in services.items() if one["restart"] != "no"}
    assert set(services) - set(staying) == {"deploy"}
    assert {name for name, one in staying.items() if "healthcheck" not in one} == {"reader"}


def test_the_memory_limits_add_up_to_what_the_file_says(services):
    units = {"m": 1 / 1024, "g": 1}
    total = sum(int(one["mem_limit"][:-1]) * units[one["mem_limit"][-1]] for one in services.values())
    said = int(re.search(r"limits of memory add up to (\d+) GiB", FILE.read_text())[1])
    assert round(total) == said


def test_every_image_is_pinned(services):
    images = {one["image"] for one in services.values()}
    for file in BUILDS:
        images |= set(re.findall(r"^FROM (\S+)", file.read_text(), re.MULTILINE))
    assert [image for image in sorted(images) if not re.search(r":v?\d+\.\d+[\w.-]*$", image)] == []


def test_our_own_image_carries_our_version(services):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ours = {one["image"] for one in services.values() if isinstance(one.get("build"), dict)}
    assert ours == {f"oddframe:{version}"}
    assert f"oddframe:{version}" in (DEPLOY / "Dockerfile").read_text()


def test_milvus_has_no_open_management_port(services):
    version = services["milvus"]["image"].partition(":v")[2].split(".")
    assert tuple(map(int, version)) >= (2, 6, 10)
    assert "ports" not in services["milvus"]


def test_every_variable_of_ours_is_a_setting(services, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("ODDFRAME_")]:
        monkeypatch.delenv(name)
    given = {key: value for _, key, value in list_environment(services) if key.startswith("ODDFRAME_")}
    assert len(given) >= 10
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings = load_settings(tmp_path)
    assert settings.profile == "full"
    assert settings.catalog.s3_endpoint == "http://s3:7070"
    monkeypatch.setenv("ODDFRAME_CATALOG__S3_ENDPIONT", "http://s3:7070")
    with pytest.raises(UsageError, match="no setting"):
        load_settings(tmp_path)


def test_addresses_name_services_at_the_ports_they_listen_on(services):
    ports = {"catalog": {8181}, "s3": {7070}, "presto": {8080}, "milvus": {19530, 9091}, "kafka": {9092}}
    ports |= {"prefect": {4200}, "postgres": {5432}, "prometheus": {9090}, "kafka-exporter": {9308}}
    texts = [value for _, _, value in list_environment(services)]
    texts += [word for one in services.values() for word in one.get("command", [])]
    texts += [file.read_text() for file in (DEPLOY / "compose").rglob("*") if file.is_file()]
    pattern = re.compile(rf"(?<![\w.-])({'|'.join(services)}):(\d{{4,5}})\b")
    found = {(name, int(port)) for text in texts for name, port in pattern.findall(text)}
    assert {pair for pair in found if pair[1] not in ports.get(pair[0], set())} == set()
    assert {name for name, _ in found} == set(ports)


def test_nothing_is_published_beyond_loopback_by_default(services, variables):
    published = [port for one in services.values() for port in one.get("ports", [])]
    assert len(published) == 4
    assert [port for port in published if not port.startswith("${BIND:-127.0.0.1}:")] == []
    assert variables["BIND"] == "127.0.0.1"


def test_no_secret_is_in_the_file(services):
    secret = re.compile(r"PASSWORD|SECRET|_KEY(_ID)?$|TOKEN")
    held = {(name, key): value for name, key, value in list_environment(services) if secret.search(key)}
    held |= {
        (name, key): value for name, key, value in list_environment(services) if re.search(r"://[^/@]*:[^/@]*@", value)
    }
    assert len(held) >= 8
    assert [where for where, value in held.items() if not re.search(r"\$\{[A-Z0-9_]+:\?", value)] == []
    for file in [FILE, *(f for f in (DEPLOY / "compose").rglob("*") if f.is_file())]:
        assert not re.search(r"(?i)(password|secret[_-]?key)\s*[=:]\s*['\"]?[A-Za-z0-9]{6,}\s*$", file.read_text())


def test_the_example_has_a_blank_for_every_secret_and_nothing_else_that_is_missing(variables):
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", FILE.read_text()))
    must = set(re.findall(r"\$\{([A-Z0-9_]+):\?", FILE.read_text()))
    assert asked == set(variables)
    assert {name for name, value in variables.items() if not value} == must


def test_git_and_the_image_leave_the_filled_in_file_alone():
    assert "deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/.env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_worker_serves_the_pool_that_the_flows_are_deployed_to(services):
    command = services["worker"]["command"]
    assert command[command.index("--pool") + 1] == POOL


def test_presto_and_we_mean_the_same_warehouse(services):
    lake, ours = read_properties("presto/lake.properties"), services["reader"]["environment"]
    assert f"{ours['ODDFRAME_PRESTO__CATALOG']}.properties" in "".join(services["presto"]["volumes"])
    assert lake["iceberg.rest.uri"] == ours["ODDFRAME_CATALOG__URI"]
    assert lake["iceberg.catalog.warehouse"] == ours["ODDFRAME_CATALOG__WAREHOUSE"]
    assert lake["hive.s3.endpoint"] == ours["ODDFRAME_CATALOG__S3_ENDPOINT"]
    assert services["catalog"]["environment"]["CATALOG_WAREHOUSE"] == ours["ODDFRAME_CATALOG__WAREHOUSE"]


def test_buckets_are_the_directories_that_the_gateway_serves(services):
    served = {target for name, _, target in list_mounts(services) if name == "s3"}
    ours = services["reader"]["environment"]
    wanted = {ours["ODDFRAME_CATALOG__WAREHOUSE"], ours["ODDFRAME_ARCHIVE__S3_URI"]}
    assert {f"/data/{uri.removeprefix('s3://').partition('/')[0]}" for uri in wanted} == served


def test_kafka_takes_large_frames_and_hands_out_addresses_that_lead_to_it(services):
    settings = read_properties("kafka/server.properties")
    assert int(settings["message.max.bytes"]) > 33_554_432
    handed_out = dict(entry.split("://") for entry in settings["advertised.listeners"].split(","))
    assert handed_out["INTERNAL"] == services["reader"]["environment"]["ODDFRAME_KAFKA__BOOTSTRAP"]
    assert services["kafka"]["ports"] == ["${BIND:-127.0.0.1}:19092:" + handed_out["HOST"].partition(":")[2]]


def test_presto_would_start_with_its_memory():
    settings = read_properties("presto/config.properties")
    sizes = [settings[f"{name}-per-node"] for name in ("query.max-total-memory", "memory.heap-headroom")]
    assert sum(int(size.removesuffix("MB")) for size in sizes) < 900


def test_milvus_settings_are_those_of_the_local_stack():
    user = yaml.safe_load((DEPLOY / "compose/milvus/user.yaml").read_text())
    assert user["queryNode"]["segcore"]["interimIndex"]["enableIndex"] is False
    assert user["proxy"]["timeTickInterval"] == 20


def test_the_dashboard_asks_what_is_scraped(services):
    scraped = yaml.safe_load((DEPLOY / "compose/prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = [target for job in scraped for one in job["static_configs"] for target in one["targets"]]
    assert {target.partition(":")[0] for target in targets} <= set(services)
    sources = yaml.safe_load((DEPLOY / "compose/grafana/provisioning/datasources/prometheus.yaml").read_text())
    dashboard = json.loads((DEPLOY / "compose/grafana/dashboards/oddframe.json").read_text())
    asked = [
        (panel["datasource"]["uid"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]
    ]
    assert {uid for uid, _ in asked} == {source["uid"] for source in sources["datasources"]}
    jobs = {job for _, text in asked for job in re.findall(r'job="(\w+)"', text)}
    assert jobs <= {job["job_name"] for job in scraped}
    reader = services["reader"]["environment"]
    topics = {topic for _, text in asked for topic in re.findall(r'topic="([\w-]+)"', text)}
    assert topics == {reader["ODDFRAME_KAFKA__TOPIC"], f"{reader['ODDFRAME_KAFKA__TOPIC']}-dead"}


def test_the_image_is_built_from_files_that_are_sent_and_runs_as_nobody_special():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert sent == set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert text.index("--require-hashes -r requirements.lock") < text.index("COPY pipeline")
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["oddframe"]


def test_the_script_that_makes_the_databases_is_run_and_not_read():
    assert os.access(DEPLOY / "compose/postgres/databases.sh", os.X_OK)


@pytest.mark.parametrize(("endpoint", "region"), [("http://s3:7070", "eu-north-1"), (None, None)])
def test_the_place_of_the_warehouse_reaches_who_reads_its_files(monkeypatch, tmp_path, endpoint, region):
    stack = require_stack()
    with lend_namespace(stack) as namespace:
        for key, value in {
            "PROFILE": "full",
            "STORES__NAMESPACE": namespace,
            "CATALOG__URI": f"http://127.0.0.1:{stack.port('catalog')}",
            "CATALOG__WAREHOUSE": f"file://{stack.warehouse}",
            "CATALOG__S3_ENDPOINT": endpoint or "",
            "CATALOG__S3_REGION": region or "",
        }.items():
            monkeypatch.setenv(f"ODDFRAME_{key}", value)
        tables = open_tables(load_settings(tmp_path))
        properties = tables.raw("frames").io.properties
        tables.close()
    assert (properties.get("s3.endpoint"), properties.get("s3.region")) == (endpoint, region)


def test_the_sketch_of_a_backfill_names_what_there_is():
    text = (ROOT / "docs/scaling.md").read_text()
    sketches = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(sketches) == 1
    imports = [node for node in ast.parse(sketches[0]).body if isinstance(node, ast.ImportFrom)]
    ours = [(node.module, alias.name) for node in imports for alias in node.names if node.module != "prefect_dask"]
    assert len(ours) >= 10
    assert [pair for pair in ours if not hasattr(importlib.import_module(pair[0]), pair[1])] == []
