"""Every metric that the services declare, as their code has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric

from sgaps import metrics
from sgaps.metrics import broker, gateway, reconstructor, recorder, trainer


@dataclass(frozen=True, kw_only=True, order=True)
class Declared:
    """One metric."""

    name: str
    """As Prometheus has it: of a counter with its `_total`."""
    type: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> str:
        """The name of one of its series."""
        return f"{self.name}_count" if self.type == "histogram" else self.name


def declared_in(module: ModuleType) -> list[Declared]:
    found = [m for m in vars(module).values() if isinstance(m, Counter | Gauge | Histogram)]
    return [
        _declared(family, metric._labelnames)
        for metric in found
        if not metric._labelvalues  # else it is one series of a metric that is there too
        for family in metric.describe()
    ]


def declared_of_broker() -> list[Declared]:
    return [
        _declared(family, getattr(family, "_labelnames", ()))
        for family in broker.families(broker.BrokerState())
    ]


def _declared(family: Metric, labels: Iterable[str]) -> Declared:
    suffix = "_total" if family.type == "counter" else ""
    return Declared(
        name=family.name + suffix,
        type=family.type,
        labels=tuple(labels),
        meaning=family.documentation,
    )


COMMON = tuple(declared_in(metrics))
CATALOGUE: Mapping[str, tuple[Declared, ...]] = {
    "Every service": COMMON,
    "Gateway": tuple(declared_in(gateway)),
    "Reconstructor": tuple(declared_in(reconstructor)),
    "Recorder": tuple(declared_in(recorder)),
    "What belongs to the broker": tuple(declared_of_broker()),
    "Trainer": tuple(declared_in(trainer)),
}
"""By the heading in docs/monitoring.md."""

OWN: Mapping[str, tuple[Declared, ...]] = {
    "gateway": CATALOGUE["Gateway"],
    "reconstructor": CATALOGUE["Reconstructor"],
    "sampler": (),
    "recorder": (*CATALOGUE["Recorder"], *CATALOGUE["What belongs to the broker"]),
    "trainer": CATALOGUE["Trainer"],
}
"""What each service exposes beside what all do."""


def rows() -> Iterator[str]:
    """The tables of docs/monitoring.md: `python -m metric_catalogue` prints them."""
    for heading, found in CATALOGUE.items():
        yield f"### {heading}"
        yield "| metric | type | labels | meaning |"
        for one in found:
            labels = ", ".join(f"`{label}`" for label in one.labels)
            yield f"| `{one.name}` | {one.type} | {labels} | {one.meaning} |"


if __name__ == "__main__":
    print("\n".join(rows()))
