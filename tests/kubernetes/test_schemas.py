"""Every object against the Kubernetes API's schemas, or its CRD's, unknown fields refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from kubernetes.manifests import Manifest, Manifests

OLDEST, NEWEST = "1.30.0", "1.37.0"
"""The releases that docs/kubernetes.md names."""
SCALED_OBJECT = json.loads((Path(__file__).parent / "scaledobject.schema.json").read_text())


def check(manifest: Manifest, version: str) -> None:
    if manifest["kind"] == "ScaledObject":
        jsonschema.validate(manifest, SCALED_OBJECT)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(manifests: Manifests, version: str) -> None:
    assert len(manifests.objects) > 20
    for manifest in manifests.objects:
        check(manifest, version)


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject"])
def test_a_mistyped_field_is_found(kustomizations: dict[str, Manifests], kind: str) -> None:
    manifest = copy.deepcopy(kustomizations["autoscaling"].of_kind(kind)[0])
    manifest["spec"]["replica"] = 1
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check(manifest, NEWEST)


def test_names_are_used_once(manifests: Manifests) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests.objects]
    assert len(set(names)) == len(names)
    for manifest in manifests.objects:
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "sgaps"
