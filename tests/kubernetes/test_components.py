"""GPUs, scaling and the Ingress, against the code that they are about."""

from __future__ import annotations

import re
from pathlib import Path

from kubernetes.manifests import SERVICES, Manifests
from paths import ROOT
from reconstructor.worker import GROUP
from sgaps import metrics
from sgaps.messages import FrameAccepted
from sgaps.settings import load_settings

AGE = "sgaps_stream_oldest_undelivered_seconds"


def test_the_images_that_the_guide_builds_are_those_that_the_example_pulls(
    kustomizations: dict[str, Manifests],
) -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    ((images, tag),) = re.findall(r"SGAPS_IMAGES=(\S+) SGAPS_TAG=(\S+) docker compose", guide)
    for name in SERVICES:
        pulled = kustomizations["example"].container(name)["image"]
        assert pulled == f"{images}-{name}:{tag}"


def test_each_reconstructor_has_a_gpu_and_leases_none(
    kustomizations: dict[str, Manifests],
) -> None:
    manifests = kustomizations["gpu"]
    assert manifests.container("reconstructor")["resources"]["limits"]["nvidia.com/gpu"] == 1
    told = load_settings(environment=manifests.environment("reconstructor")).reconstructor
    assert (told.device, told.gpu_leases_dir) == ("cuda", None)
    assert manifests.named("reconstructor")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_keda_scales_what_is_there_and_never_to_none(kustomizations: dict[str, Manifests]) -> None:
    manifests = kustomizations["autoscaling"]
    spec = manifests.one("ScaledObject", "reconstructor")["spec"]
    assert "replicas" not in manifests.named(spec["scaleTargetRef"]["name"])["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    assert trigger["metricType"] == "AverageValue"  # or KEDA 2.16 refuses the fallback


def test_keda_asks_for_the_age_of_frames_that_no_reconstructor_was_given(
    kustomizations: dict[str, Manifests],
) -> None:
    (trigger,) = kustomizations["autoscaling"].one("ScaledObject", "reconstructor")["spec"][
        "triggers"
    ]
    query = trigger["metadata"]["query"]
    assert f'{AGE}{{stream="{FrameAccepted.STREAM}",group="{GROUP}"}}' in query


def test_what_keda_asks_for_is_exported(kustomizations: dict[str, Manifests]) -> None:
    (trigger,) = kustomizations["autoscaling"].one("ScaledObject", "reconstructor")["spec"][
        "triggers"
    ]
    code = "".join(path.read_text() for path in Path(metrics.__file__).parent.rglob("*.py"))
    for name in re.findall(r"sgaps_\w+", trigger["metadata"]["query"]):
        assert name in code


def test_a_silent_socket_outlives_the_proxys_patience(kustomizations: dict[str, Manifests]) -> None:
    manifests = kustomizations["ingress"]
    server = load_settings(environment=manifests.environment("gateway")).server
    assert server.trusted_proxies
    ingress = manifests.one("Ingress", "gateway")
    for value in ingress["metadata"]["annotations"].values():
        assert int(value) > server.ping_interval_secs + server.client_timeout_secs
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/ws/stream", "Exact")
    service = path["backend"]["service"]
    ports = manifests.one("Service", service["name"])["spec"]["ports"]
    assert service["port"]["name"] in {port["name"] for port in ports}
