"""What `kubectl apply -k` would send, built by kubectl with real secrets; needs no cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from paths import ROOT
from sgaps_cli.deployment_secrets import write_secrets

KUBECTL = Path(sys.executable).parent / "kubectl"
MANIFESTS = ROOT / "deploy" / "kubernetes"
SERVICES = ("gateway", "reconstructor", "sampler", "recorder", "trainer")

Manifest: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """The objects of one kustomization."""

    objects: tuple[Manifest, ...]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [each for each in self.objects if each["kind"] in kinds]

    def one(self, kind: str, name: str) -> Manifest:
        (found,) = (each for each in self.of_kind(kind) if each["metadata"]["name"] == name)
        return found

    def named(self, name: str) -> Manifest:
        """What runs the pods of a service."""
        kinds = self.of_kind("Deployment", "StatefulSet")
        (found,) = (each for each in kinds if each["metadata"]["name"] == name)
        return found

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Name and pod's specification of everything that runs."""
        for each in self.of_kind("Deployment", "StatefulSet"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]

    def container(self, name: str) -> Manifest:
        container: Manifest
        (container,) = self.named(name)["spec"]["template"]["spec"]["containers"]
        return container

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a service's container, as the kubelet would set them."""
        container = self.container(name)
        variables: dict[str, str] = {}
        for source in container["envFrom"]:
            variables |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container["env"]:
            variables[variable["name"]] = variable.get("value", f"{name}-7d9f8b6c5-x2x4z")
        return variables


def copy_with_secrets(folder: Path) -> Path:
    """The manifests in a folder of their own, with the files that `sgaps secrets` writes."""
    copy = folder / "kubernetes"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("secrets"))
    write_secrets(copy / "base" / "secrets")
    return copy


def built(kustomization: Path) -> Manifests:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(kustomization)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Manifests(tuple(yaml.safe_load_all(done.stdout)))


def with_component(copy: Path, component: str) -> Path:
    """A kustomization of the base and one component."""
    folder = copy / f"only-{component}"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../base"], "components": [f"../components/{component}"]})
    )
    return folder
