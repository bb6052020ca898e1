"""No panel, rule or alert names a metric that nobody exposes."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.parser import text_string_to_metric_families

from metric_catalogue import CATALOGUE, Declared
from monitoring.expressions import Expression, metric_names, of_panels, of_rules, recorded

EXPRESSIONS = [*of_panels(), *of_rules()]
CATALOGUED = [declared for found in CATALOGUE.values() for declared in found]
OF_PROMETHEUS = {"ALERTS", "up"}
"""What it writes itself, about rules and scrapes."""


def series_names(declared: Declared) -> set[str]:
    if declared.type != "histogram":
        return {declared.name}
    return {f"{declared.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}


def exposed_by_services() -> set[str]:
    ours = set().union(*map(series_names, CATALOGUED))
    return ours | {
        sample.name for family in PROCESS_COLLECTOR.collect() for sample in family.samples
    }


def exposed_at(url: str) -> set[str]:
    text = httpx.get(f"{url}/metrics").raise_for_status().text
    return {s.name for family in text_string_to_metric_families(text) for s in family.samples}


@pytest.fixture(scope="module")
def exposed(exporter_url: str, prometheus_url: str) -> set[str]:
    others = exposed_at(exporter_url) | exposed_at(prometheus_url)
    return exposed_by_services() | others | OF_PROMETHEUS | recorded().keys()


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda expression: expression.where)
def test_only_names_that_somebody_exposes(expression: Expression, exposed: set[str]) -> None:
    assert metric_names(expression.text) - exposed == set()


@pytest.mark.parametrize("declared", CATALOGUED, ids=lambda declared: declared.name)
def test_no_metric_of_ours_is_exposed_for_nobody(declared: Declared) -> None:
    shown = set().union(*(metric_names(expression.text) for expression in EXPRESSIONS))
    assert series_names(declared) & shown
