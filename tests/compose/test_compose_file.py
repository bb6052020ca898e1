"""compose.yaml and compose.gpu.yaml as Compose reads them; needs no engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compose.deployment import COMPOSE, command
from paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Compose is packaged for Linux")

DOCKERFILES = [*ROOT.glob("services/*/Dockerfile"), ROOT / "cli/Dockerfile"]


def configuration(*files: str, **variables: str) -> dict[str, Any]:
    named = [part for name in files for part in ("-f", str(ROOT / name))]
    told = command(
        *(str(COMPOSE), *named, "--profile", "*", "config", "--format", "json"),
        environment={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
    )
    services: dict[str, Any] = json.loads(told)["services"]
    return services


def test_every_container_is_bounded_and_can_be_scaled() -> None:
    services = configuration("compose.yaml")
    for name, service in services.items():
        assert "container_name" not in service, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["init"], name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name
        if name != "secrets":
            limits = service["deploy"]["resources"]["limits"]
            assert limits.keys() == {"cpus", "memory", "pids"}, name
    workers = ("gateway", "reconstructor", "sampler", "recorder", "trainer")
    for name in workers:
        assert services[name]["depends_on"]["redis"]["condition"] == "service_healthy"
        assert services[name]["stop_grace_period"] == ("1m0s" if name == "trainer" else "15s")
        assert services[name]["develop"]["watch"]


@pytest.mark.parametrize("file", DOCKERFILES)
def test_what_is_copied_as_it_is_can_be_read_by_the_services_user(file: Path) -> None:
    """A checkout under `umask 077` is for its owner alone, and COPY keeps that."""
    *before, last = re.split(r"^FROM ", file.read_text(), flags=re.MULTILINE)
    own = re.findall(r"^COPY --from=code /src/(\w+) ", last, re.MULTILINE)
    assert "conf" in own
    assert not re.findall(r"^COPY (?!--from)", last, re.MULTILINE)
    assert f"RUN chmod -R a+rX {' '.join(own)}\n" in before[-1]


@pytest.mark.parametrize("file", DOCKERFILES)
def test_how_many_threads_start_does_not_depend_on_the_host(file: Path) -> None:
    """On a host of 66 processors numpy and OpenCV would start more than compose.yaml lets live."""
    last = re.split(r"^FROM ", file.read_text(), flags=re.MULTILINE)[-1]
    assert re.search(r"^ENV (.*\\\n)*.*\bOPENBLAS_NUM_THREADS=1\b", last, re.MULTILINE)


@pytest.mark.parametrize("folder", ["mysecrets", "./mysecrets", str(ROOT / "mysecrets")])
def test_secrets_are_written_to_the_folder_that_is_named(folder: str) -> None:
    services = configuration("compose.yaml", SGAPS_SECRETS_DIR=folder)
    (volume,) = services["secrets"]["volumes"]
    assert volume["type"] == "bind"
    assert (volume["source"], volume["target"]) == (str(ROOT / "mysecrets"), "/secrets")
    assert volume["bind"].get("create_host_path", True), "Compose tells only of False"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What `make secrets` did."""

    status: int
    ran: list[str]
    """The arguments of the container; none where it was not run."""


def make_secrets(checkout: Path, **variables: str) -> Made:
    """In a checkout of its own, with a program in Docker's place that runs no container."""
    tools = checkout / "bin"
    tools.mkdir()
    for name in ("Makefile", "compose.yaml"):
        (checkout / name).symlink_to(ROOT / name)
    docker = f'case "$*" in *" config "*) shift; exec {COMPOSE} "$@";; esac; echo "$@" >{tools}/ran'
    for name, does in {"docker": docker, "id": "echo 4711"}.items():  # whoever it is
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": "/nonexistent", **variables}
    done = subprocess.run(["make", "secrets"], cwd=checkout, env=environment, check=False)
    ran = tools / "ran"
    return Made(status=done.returncode, ran=ran.read_text().split() if ran.exists() else [])


@pytest.mark.parametrize(
    ("env_file", "variables", "folder"),
    [
        ("", {}, "secrets"),
        ("SGAPS_SECRETS_DIR='elsewhere/a folder'\n", {}, "elsewhere/a folder"),
        ("SGAPS_SECRETS_DIR=elsewhere\n", {"SGAPS_SECRETS_DIR": "./here"}, "here"),
    ],
)
def test_make_secrets_makes_the_folder_that_compose_mounts(
    env_file: str, variables: dict[str, str], folder: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(env_file)
    made = make_secrets(tmp_path, **variables)
    assert (made.status, made.ran[-1]) == (0, "secrets")
    left = {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / folder).is_dir()
    assert left == {".env", "Makefile", "compose.yaml", "bin", folder.partition("/")[0]}


def test_make_secrets_writes_as_the_owner_of_the_folder(tmp_path: Path) -> None:
    """Root has no rights in that container: not under `sudo`, not where Docker made the folder."""
    made = make_secrets(tmp_path)
    owner = (tmp_path / "secrets").stat()
    assert made.ran[made.ran.index("--user") + 1] == f"{owner.st_uid}:{owner.st_gid}"


def test_make_secrets_ends_where_compose_does(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SGAPS_SECRETS_DIR='no end\n")
    made = make_secrets(tmp_path)
    assert (made.status != 0, made.ran) == (True, [])


def test_only_the_edge_has_a_way_out() -> None:
    services = configuration("compose.yaml")
    outside = {name for name, service in services.items() if "edge" in service.get("networks", {})}
    assert outside == {"gateway", "client", "prometheus", "grafana"}


def test_replicas_are_a_variable() -> None:
    services = configuration("compose.yaml", RECONSTRUCTOR_REPLICAS="4")
    assert services["reconstructor"]["deploy"]["replicas"] == 4


def test_a_broker_with_more_memory_has_a_container_with_more() -> None:
    services = configuration("compose.yaml", REDIS_MAXMEMORY="2gb", REDIS_MEMORY_LIMIT="4g")
    command = services["redis"]["command"]
    assert command[command.index("--maxmemory") + 1] == "2gb"
    assert services["redis"]["deploy"]["resources"]["limits"]["memory"] == str(4 * 2**30)


def test_each_gpu_replica_sees_all_and_leases_one() -> None:
    reconstructor = configuration("compose.yaml", "compose.gpu.yaml")["reconstructor"]
    (device,) = reconstructor["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == -1
    leases = reconstructor["environment"]["SGAPS__RECONSTRUCTOR__GPU_LEASES_DIR"]
    assert leases in [volume["target"] for volume in reconstructor["volumes"]]
