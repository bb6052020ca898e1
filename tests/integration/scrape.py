"""What a process tells Prometheus, and how tests ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from waiting import PATIENCE_SECS


@dataclass(frozen=True)
class Scrape:
    """One answer of /metrics."""

    families: frozenset[str]
    """As they are declared, even without a series."""
    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def get(self, name: str, **labels: str) -> float | None:
        """The value of one series."""
        return self.values.get((name, frozenset(labels.items())))

    def of(self, name: str, **labels: str) -> float:
        """The value of a series that must be there."""
        value = self.get(name, **labels)
        assert value is not None, f"there is no {name}{labels}"
        return value

    def labels_of(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self.values if found == name]


def scrape(port: int) -> Scrape:
    """Ask a process of this machine; a trainer answers when nobody else wants the processor."""
    url = f"http://127.0.0.1:{port}/metrics"
    text = httpx.get(url, timeout=PATIENCE_SECS).raise_for_status().text
    families = list(text_string_to_metric_families(text))
    return Scrape(
        frozenset(_declared_name(f.name, f.type) for f in families if f.name.startswith("sgaps_")),
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        },
    )


def _declared_name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name
