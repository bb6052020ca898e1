"""monitoring/grafana: what Grafana would read, checked without a Grafana."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import yaml

from monitoring.expressions import GRAFANA, dashboards
from paths import ROOT

DASHBOARDS = dashboards()
COLUMNS = 24
PROVISIONING = GRAFANA / "provisioning"


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the headings of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )


def test_there_are_four_and_each_has_its_own_address() -> None:
    assert DASHBOARDS.keys() == {"overview", "pipeline", "model", "recorder-trainer"}
    for name, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == f"sgaps-{name}"
    titles = [dashboard["title"] for dashboard in DASHBOARDS.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_leads_to_the_others(name: str) -> None:
    dashboard = DASHBOARDS[name]
    (link,) = dashboard["links"]
    assert (link["type"], link["tags"]) == ("dashboards", dashboard["tags"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_side_by_side(name: str) -> None:
    found = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    for panel in found:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(found, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_panel_says_what_it_shows_and_in_what_unit(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] == "stat":
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_first_row_says_whether_it_is_well(name: str) -> None:
    row, *others = DASHBOARDS[name]["panels"]
    assert (row["type"], row["title"]) == ("row", "Is it well?")
    first_line = [panel for panel in others if panel["gridPos"]["y"] == 1]
    assert {panel["type"] for panel in first_line} == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in first_line) == COLUMNS


def references(part: Any) -> list[dict[str, str]]:
    """Every data source that is named anywhere in a dashboard."""
    if isinstance(part, list):
        return [found for element in part for found in references(element)]
    if not isinstance(part, dict):
        return []
    here = [part["datasource"]] if "datasource" in part else []
    return here + references(list(part.values()))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_all_ask_the_data_source_that_is_provisioned(name: str) -> None:
    told = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())
    (source,) = told["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    assert all(reference == wanted for reference in references(DASHBOARDS[name]))
    for panel in panels(DASHBOARDS[name]):
        assert all(target["datasource"] == wanted for target in panel["targets"])


def test_the_paths_are_those_that_compose_mounts() -> None:
    told = yaml.safe_load((PROVISIONING / "dashboards" / "sgaps.yml").read_text())
    (provider,) = told["providers"]
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounts = services["grafana"]["volumes"]
    assert f"./monitoring/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "./monitoring/grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
    assert "./monitoring/prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
