"""No panel, rule or alert names a metric that nobody exposes."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module

import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sgaps.metrics.broker import BrokerCollector

import sgaps.metrics
from monitoring.expressions import Expression, metric_names, of_panels, of_rules, recorded

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
EXPRESSIONS = [*of_panels(), *of_rules()]
OF_PROMETHEUS = {"ALERTS", "up"}
"""What it writes itself, about rules and scrapes."""


def sample_names(family: Metric) -> set[str]:
    return {f"{family.name}{suffix}" for suffix in SUFFIXES.get(family.type, ("",))}


@pytest.fixture(scope="module")
def exposed_by_services() -> set[str]:
    for module in pkgutil.iter_modules(sgaps.metrics.__path__):
        import_module(f"sgaps.metrics.{module.name}")
    families = [*REGISTRY.collect(), *BrokerCollector().describe()]
    return set().union(*map(sample_names, families))


def exposed_at(url: str) -> set[str]:
    text = httpx.get(f"{url}/metrics").raise_for_status().text
    return {s.name for family in text_string_to_metric_families(text) for s in family.samples}


@pytest.fixture(scope="module")
def exposed(exposed_by_services: set[str], exporter_url: str, prometheus_url: str) -> set[str]:
    others = exposed_at(exporter_url) | exposed_at(prometheus_url)
    return exposed_by_services | others | OF_PROMETHEUS | recorded().keys()


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda expression: expression.where)
def test_only_names_that_somebody_exposes(expression: Expression, exposed: set[str]) -> None:
    assert metric_names(expression.text) - exposed == set()


def test_no_metric_of_ours_is_exposed_for_nobody(exposed_by_services: set[str]) -> None:
    ours = {name for name in exposed_by_services if name.startswith("sgaps_")}
    shown = set().union(*(metric_names(expression.text) for expression in EXPRESSIONS))
    parts = re.compile("_(bucket|sum|count)$")
    assert {parts.sub("", name) for name in ours} - {parts.sub("", name) for name in shown} == set()
