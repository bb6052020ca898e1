"""Who may connect to whom: what compose.yaml's networks are for, and nothing else."""

from __future__ import annotations

from typing import Any, TypeAlias

import yaml

from kubernetes.manifests import SERVICES, Manifest, Manifests
from paths import ROOT

NAME = "app.kubernetes.io/name"
NAMESPACE = "kubernetes.io/metadata.name"
PODS = (*SERVICES, "redis")
ANYONE = "anyone"
NODE_LOCAL_DNS = "169.254.20.10/32"
"""Where NodeLocal DNSCache listens, which has the node's network: its pods cannot be selected."""
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

Connection: TypeAlias = tuple[str, str, int]
"""From, to, port."""


def selected(selector: Manifest) -> set[str]:
    """Our pods that a selector means."""
    chosen = set(PODS)
    if labels := selector.get("matchLabels"):
        assert labels.keys() == {NAME}
        chosen &= {labels[NAME]}
    for expression in selector.get("matchExpressions", ()):
        assert (expression["key"], expression["operator"]) == (NAME, "In")
        chosen &= set(expression["values"])
    return chosen


def peers(rule: Manifest, side: str) -> set[str]:
    """Our pods, `namespace/pod` of others, addresses, or anyone."""
    found: set[str] = set()
    for peer in rule.get(side, ()):
        if "ipBlock" in peer:
            found.add(peer["ipBlock"]["cidr"])
            continue
        if "namespaceSelector" not in peer:
            found |= selected(peer["podSelector"])
            continue
        labels = peer.get("podSelector", {}).get("matchLabels", {"": "*"})
        pod = next(iter(labels.values()))
        found.add(f"{peer['namespaceSelector']['matchLabels'][NAMESPACE]}/{pod}")
    return found or {ANYONE}


def connections(manifests: Manifests) -> set[Connection]:
    """What both ends allow. (What has no policy here, such as a player, may do as it likes.)"""
    going: set[Connection] = set()
    coming: set[Connection] = set()
    for policy in manifests.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        for ours in selected(spec["podSelector"]):
            for rule in spec.get("egress", ()):
                going |= {(ours, p, q["port"]) for p in peers(rule, "to") for q in rule["ports"]}
            for rule in spec.get("ingress", ()):
                coming |= {(p, ours, q["port"]) for p in peers(rule, "from") for q in rule["ports"]}
    inside = {c for c in going & coming if {c[0], c[1]} <= set(PODS)}
    assert inside == {c for c in going | coming if {c[0], c[1]} <= set(PODS)}, "one end refuses"
    return inside | {c for c in going | coming if not {c[0], c[1]} <= set(PODS)}


def of_compose() -> set[Connection]:
    """Who asks whom there: services the broker, Prometheus services, players what is published."""
    found: set[Connection] = set()
    for name in SERVICES:
        service = COMPOSE[name]
        assert "backend" in service["networks"]
        if "redis" in service["depends_on"]:
            found.add((name, "redis", 6379))
        if port := service["environment"].get("SGAPS__METRICS_PORT"):
            found.add(("monitoring/prometheus", name, int(port)))
        for published in service.get("ports", ()):
            found.add((ANYONE, name, int(published.rsplit(":", 1)[1])))
    return found


def test_everything_is_refused_by_default(manifests: Manifests) -> None:
    nothing = manifests.one("NetworkPolicy", "nothing")["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_connections_are_those_of_compose(base: Manifests) -> None:
    names = {(pod, dns, 53) for pod in PODS for dns in ("kube-system/kube-dns", NODE_LOCAL_DNS)}
    assert connections(base) == of_compose() | names


def test_behind_an_ingress_players_come_through_it_alone(
    kustomizations: dict[str, Manifests],
) -> None:
    before, behind = (connections(kustomizations[name]) for name in ("base", "ingress"))
    assert before - behind == {(ANYONE, "gateway", 8000)}
    assert behind - before == {("ingress-nginx/*", "gateway", 8000)}
