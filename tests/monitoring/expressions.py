"""Every PromQL expression of monitoring/: of panels, recording rules, alerts; what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as promql
import yaml

from paths import ROOT

PROMETHEUS = ROOT / "monitoring" / "prometheus"
GRAFANA = ROOT / "monitoring" / "grafana"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RATE_INTERVAL = "1m"
ALWAYS_FIRES = "Watchdog"
COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
SETS = {"and", "or", "unless"}


@dataclass(frozen=True, kw_only=True)
class Expression:
    """PromQL without template variables, and where it stands."""

    where: str
    text: str


def rules(kind: str) -> list[dict[str, Any]]:
    """Rules of all files; kind: record or alert."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def recorded() -> dict[str, str]:
    """Name → expression of the recording rules."""
    return {rule["record"]: rule["expr"] for rule in rules("record")}


def dashboards() -> dict[str, dict[str, Any]]:
    """File name without its suffix → dashboard."""
    return {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}


def of_panels() -> Iterator[Expression]:
    """What the panels ask, with All chosen in every template variable."""
    for name, dashboard in dashboards().items():
        variables = {v["name"]: v["allValue"] for v in dashboard["templating"]["list"]}
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield Expression(
                    where=f"{name}: {panel['title']} {target['refId']}",
                    text=filled_in(target["expr"], variables),
                )


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    for name, value in {"__rate_interval": RATE_INTERVAL, **variables}.items():
        text = text.replace(f"${name}", value)
    return text


def of_rules() -> Iterator[Expression]:
    """What is recorded, and both sides of every comparison of an alert."""
    for name, text in recorded().items():
        yield Expression(where=f"record {name}", text=text)
    for rule in rules("alert"):
        for side in sides(promql.parse(rule["expr"])):
            yield Expression(where=f"alert {rule['alert']}", text=side.prettify())


def sides(expression: promql.Expr) -> Iterator[promql.Expr]:
    """What a condition compares, but for bare numbers: so that it can be asked without the `>`."""
    if isinstance(expression, promql.ParenExpr):
        yield from sides(expression.expr)
    elif isinstance(expression, promql.BinaryExpr) and str(expression.op) in COMPARISONS | SETS:
        yield from sides(expression.lhs)
        yield from sides(expression.rhs)
    elif not isinstance(expression, promql.NumberLiteral):
        yield expression


def metric_names(text: str) -> set[str]:
    """Names of the series that an expression selects, as a parser of PromQL finds them."""
    found: set[str] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            assert node.name, f"a selector without a name: {text}"
            found.add(node.name)
        elif isinstance(node, promql.MatrixSelector):
            visit(node.vector_selector)

    promql.walk(promql.parse(text), visit)
    return found
