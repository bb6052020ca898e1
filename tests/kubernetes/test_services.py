"""The manifests and what they start: images, settings, secrets, limits, probes."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes.manifests import SERVICES, Manifests
from paths import ROOT
from ports import free_port
from sgaps.service import DRAIN_SECS
from sgaps.settings import load_settings
from waiting import wait_until

SECRETS = Path("/run/secrets/sgaps")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


def default_of(text: object) -> str:
    """What Compose makes of `${NAME:-default}` where the variable is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def test_all_run_as_their_images_users_and_may_do_nothing_else(manifests: Manifests) -> None:
    for name, pod in manifests.pods():
        told = pod["securityContext"]
        user = f"{told['runAsUser']}:{told['runAsGroup']}"
        assert user == (
            COMPOSE["redis"]["user"] if name == "redis" else f"{_user_of(dockerfile(name))}"
        )
        assert told["runAsNonRoot"]
        assert told["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def _user_of(text: str) -> str:
    (user,) = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    return str(user)


@pytest.mark.parametrize("name", SERVICES)
def test_the_image_starts_itself_and_listens_where_the_manifest_says(
    manifests: Manifests, name: str
) -> None:
    container = manifests.container(name)
    assert not container.keys() & {"command", "args"}
    assert f'ENTRYPOINT ["python", "-m", "{name}"]' in dockerfile(name)
    settings = load_settings(environment=manifests.environment(name))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expected = {"metrics": settings.metrics_port}
    assert ports == (expected | {"http": settings.server.port} if name == "gateway" else expected)
    annotations = manifests.named(name)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.metrics_port)


@pytest.mark.parametrize("name", SERVICES)
def test_settings_are_those_of_compose(base: Manifests, name: str) -> None:
    variables = base.environment(name)
    assert set(variables) == {v for v in variables if v.startswith("SGAPS__")}
    for variable, value in COMPOSE[name]["environment"].items():
        if variable.endswith("_FILE"):
            assert Path(variables[variable]).name == Path(value).name
        else:
            assert variables[variable] == default_of(value)


@pytest.mark.parametrize("name", SERVICES)
def test_heartbeat_and_consumer_are_named_after_the_pod(base: Manifests, name: str) -> None:
    variables = {each["name"]: each for each in base.container(name)["env"]}
    after_the_pod = {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["SGAPS__INSTANCE"]["valueFrom"] == after_the_pod
    if name == "gateway":
        assert variables["SGAPS__SERVER__GATEWAY_ID"]["valueFrom"] == after_the_pod
        assert base.named(name)["kind"] == "StatefulSet"


@pytest.mark.parametrize("name", SERVICES)
def test_folders_are_where_the_settings_look_and_read_only_but_for_one_writer(
    base: Manifests, name: str
) -> None:
    data = load_settings(environment=base.environment(name)).data
    mounts = {m["name"]: m for m in base.container(name)["volumeMounts"]}
    writers = {"recordings": "recorder", "checkpoints": "trainer"}
    for volume, folder in (
        ("recordings", data.recordings_dir),
        ("checkpoints", data.checkpoints_dir),
    ):
        if volume in mounts:
            assert mounts[volume]["mountPath"] == str(Path("/app") / folder)
            assert mounts[volume].get("readOnly", False) == (writers[volume] != name)
    in_compose = {volume.split(":")[0] for volume in COMPOSE[name].get("volumes", ())}
    assert in_compose == mounts.keys() & writers


def test_each_pod_has_its_own_secrets_and_no_others(base: Manifests) -> None:
    passwords = set()
    for name, pod in base.pods():
        (volume,) = (v for v in pod["volumes"] if "secret" in v)
        held = base.one("Secret", volume["secret"]["secretName"])["data"].keys()
        wanted = {
            "redis": {"users.acl", "monitor_password"},
            "gateway": {"bus_password", "auth_token"},
        }
        assert held == wanted.get(name, {"bus_password"})
        for variable, value in _environment(base, name):
            if variable.endswith("_FILE"):
                assert Path(value).parent == SECRETS
                assert Path(value).name in held
        secret = base.one("Secret", volume["secret"]["secretName"])["data"]
        passwords.add(secret.get("bus_password", secret.get("monitor_password")))
    assert len(passwords) == len(SERVICES) + 1


def _environment(manifests: Manifests, name: str) -> Iterator[tuple[str, str]]:
    if name != "redis":
        yield from manifests.environment(name).items()


def test_the_brokers_users_have_these_passwords(base: Manifests) -> None:
    def secret(prefix: str) -> dict[str, str]:
        (found,) = (
            s["data"] for s in base.of_kind("Secret") if s["metadata"]["name"].startswith(prefix)
        )
        return {key: base64.b64decode(value).decode() for key, value in found.items()}

    users = secret("redis-")["users.acl"]
    for name in SERVICES:
        digest = hashlib.sha256(secret(f"{name}-")["bus_password"].strip().encode()).hexdigest()
        assert f"user {name} on #{digest} " in users


def test_the_broker_is_started_as_in_compose(base: Manifests) -> None:
    container = base.container("redis")
    ours = [argument.replace("/sgaps/", "/") for argument in container["args"]]
    assert ours == [default_of(argument) for argument in COMPOSE["redis"]["command"]]
    assert container["image"] == default_of(COMPOSE["redis"]["image"])
    probe = container["readinessProbe"]["exec"]["command"][-1].replace("/sgaps/", "/")
    assert probe == COMPOSE["redis"]["healthcheck"]["test"][-1].replace("$$", "$")


def test_limits_and_time_to_stop_are_those_of_compose(base: Manifests) -> None:
    for name, pod in base.pods():
        limits = pod["containers"][0]["resources"]["limits"]
        told = COMPOSE[name]["deploy"]["resources"]["limits"]
        assert limits["cpu"] == default_of(told["cpus"])
        assert limits["memory"] == re.sub(
            "([mg])$", lambda m: m[1].upper() + "i", default_of(told["memory"])
        )
        stop_secs = pod["terminationGracePeriodSeconds"]
        assert stop_secs == int(COMPOSE[name]["stop_grace_period"].rstrip("s"))
        assert stop_secs > DRAIN_SECS


def test_one_writer_of_recordings_and_one_trainer_beside_it(base: Manifests) -> None:
    for name in ("recorder", "trainer"):
        assert (base.named(name)["kind"], base.named(name)["spec"]["replicas"]) == (
            "StatefulSet",
            1,
        )
    modes = {
        claim["metadata"]["name"]: claim["spec"]["accessModes"]
        for claim in base.of_kind("PersistentVolumeClaim")
    }
    assert modes == {"recordings": ["ReadWriteOnce"], "checkpoints": ["ReadWriteMany"]}
    (term,) = base.named("trainer")["spec"]["template"]["spec"]["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": "recorder"}


def test_services_and_budgets_mean_pods_that_are_there(manifests: Manifests) -> None:
    for service in manifests.of_kind("Service"):
        name = service["spec"]["selector"]["app.kubernetes.io/name"]
        ports = {port["name"] for port in manifests.container(name)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    headless = {s["metadata"]["name"] for s in manifests.of_kind("Service")}
    assert {s["spec"]["serviceName"] for s in manifests.of_kind("StatefulSet")} <= headless
    budgets = {
        budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for budget in manifests.of_kind("PodDisruptionBudget")
    }
    assert budgets == {"gateway", "reconstructor", "sampler"}
    for each in manifests.of_kind("Deployment", "StatefulSet"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert labels.items() >= each["spec"]["selector"]["matchLabels"].items()
        assert labels["app.kubernetes.io/name"] == each["metadata"]["name"]


@pytest.mark.parametrize("name", SERVICES)
def test_readiness_is_that_of_compose_and_life_needs_no_broker(base: Manifests, name: str) -> None:
    container = base.container(name)
    ready = container["readinessProbe"]["exec"]["command"]
    assert ready == COMPOSE[name]["healthcheck"]["test"][1:]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == [*ready, "--alive"]


def test_a_service_without_a_broker_lives_and_a_frozen_one_does_not(
    base: Manifests, tmp_path: Path
) -> None:
    """The probes' own commands, on a real process."""
    container = base.container("sampler")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "SGAPS__INSTANCE": "sampler-0"}
    command = [sys.executable, "-m", "sampler", f"bus.url=redis://127.0.0.1:{free_port()}/0"]

    def passes(probe: str) -> bool:
        _, *asked = container[probe]["exec"]["command"]
        done = subprocess.run(
            [sys.executable, *asked], env=environment, capture_output=True, timeout=10, check=False
        )
        return done.returncode == 0

    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as service:
        try:
            wait_until(lambda: passes("startupProbe"))
            assert passes("livenessProbe")
            assert not passes("readinessProbe")
            service.send_signal(signal.SIGSTOP)
            wait_until(lambda: not passes("livenessProbe"))
            service.send_signal(signal.SIGCONT)
            wait_until(lambda: passes("livenessProbe"))
        finally:
            service.kill()
