"""monitoring/prometheus as promtool reads it; every alert is seen firing, and seen quiet."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from markdown_files import blocks, commands, guide
from monitoring.expressions import (
    ALWAYS_FIRES,
    PROMETHEUS,
    RULES,
    Expression,
    metric_names,
    of_panels,
    of_rules,
    recorded,
    rules,
)
from paths import ROOT
from tools import require_tool

CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
ALERTS = {rule["alert"]: rule for rule in rules("alert")}
DOCUMENT = ROOT / "docs" / "monitoring.md"


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [require_tool("promtool", "prometheus"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_its_rules_are_right() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(cases: Path) -> None:
    promtool("test", "rules", cases)


def test_every_expression_is_promql(tmp_path: Path) -> None:
    """As Prometheus itself parses it."""
    expressions = [*of_panels(), *of_rules()]
    assert len(expressions) > 100
    asked = [{"record": f"asked:{i}", "expr": e.text} for i, e in enumerate(expressions)]
    written = tmp_path / "asked.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))
    promtool("check", "rules", "--lint=none", written)


def questions(alert: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group of series, question) of each time that the cases ask whether an alert fires."""
    for path in CASES:
        for group in yaml.safe_load(path.read_text())["tests"]:
            for question in group["promql_expr_test"]:
                if f'alertname="{alert}"' in question["expr"]:
                    yield group, question


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not(alert: str) -> None:
    fires = [bool(question["exp_samples"]) for _, question in questions(alert)]
    assert any(fires)
    assert not all(fires) or alert == ALWAYS_FIRES


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_quiet_with_its_series_there(alert: str) -> None:
    """Quiet for want of data would say nothing."""
    wanted = _measured(metric_names(ALERTS[alert]["expr"]))
    for group, _ in questions(alert):
        given = {name for s in group["input_series"] for name in metric_names(s["series"])}
        assert wanted <= given


def _measured(names: set[str]) -> set[str]:
    """Names, with what is recorded replaced by what it is computed from."""
    computed = names & recorded().keys()
    if not computed:
        return names
    return _measured((names - computed).union(*(metric_names(recorded()[n]) for n in computed)))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_its_severity_and_its_cure(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "none")
    assert "for" in rule
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{alert}"
    assert f'<a id="{alert}"></a>' in DOCUMENT.read_text()


def description(alert: str) -> str:
    """As it is shown, with the lines of the file joined."""
    return str(ALERTS[alert]["annotations"]["description"])


def test_cures_scale_only_what_can_have_replicas() -> None:
    """Two containers cannot publish one port: of the gateway Compose runs one."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    scaled = [name for one in ALERTS for name in re.findall(r"--scale ([^=]+)=", description(one))]
    assert {"reconstructor", "sampler"} <= set(scaled)
    assert [name for name in scaled if "ports" in services.get(name, {"ports": ()})] == []


def test_what_only_the_brokers_admin_may_do_is_told_as_in_the_guide() -> None:
    """`user default off` refuses a bare command."""
    commands_told = re.findall(r"`([^`]*docker run[^`]*)`", description("DeadLetters"))
    known = [line for block in blocks(guide("for-platform-engineers")) for line in commands(block)]
    assert len(commands_told) == 1
    assert all(command in known and "admin" in command for command in commands_told)
    bare = [
        alert
        for alert in ALERTS
        for code in re.findall(r"`([^`]+)`", description(alert))
        if re.match(r"(sgaps dead|redis-cli|valkey-cli)", code)
    ]
    assert bare == []


def test_the_document_knows_no_other_alerts() -> None:
    assert re.findall(r'<a id="(\w+)"></a>', DOCUMENT.read_text()) == list(ALERTS)


def test_a_target_that_is_missed_is_ours() -> None:
    """A Prometheus may have others too."""
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (matcher,) = re.findall(r'up\{job=~"(.*)"\} == 0', ALERTS["TargetDown"]["expr"])
    assert matcher.split("|") == [job["job_name"] for job in jobs]


def test_rules_are_where_prometheus_looks() -> None:
    (pattern,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"]
    assert sorted(PROMETHEUS.glob(pattern)) == RULES


def test_expressions_are_told_apart() -> None:
    """The tools of these tests: names and sides as PromQL means them, not as text looks."""
    assert metric_names('sum by (le) (rate(a:b{c="d(e"}[5m])) / (f > 0)') == {"a:b", "f"}
    assert Expression(where="alert BrokerDown", text="redis_up") in of_rules()
