"""Every metric of every room is declared here, so that docs/metrics.md can be compared with the code.

Units are in the names (`_seconds`, `_bytes`, `_total` for counts). `vllm:` names have vLLM's meaning.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily

REGISTRY = CollectorRegistry()
"""What `/metrics` shows."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

LATENCY_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Seconds: from one expert product to a long prompt."""
COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Declared:
    """A metric as the documentation has to have it."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]
    room: str
    """The package that declares it."""


DECLARED: dict[str, Declared] = {}


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter; its name ends with `_total`."""
    if not name.endswith("_total"):
        raise ValueError(f"counter {name}: the exported name ends with _total; write it so")
    _note(name, "counter", meaning, labels)
    return Counter(name, meaning, labels, registry=REGISTRY)


def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """Declare a gauge."""
    _note(name, "gauge", meaning, labels)
    return Gauge(name, meaning, labels, registry=REGISTRY)


def histogram(
    name: str, meaning: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS
) -> Histogram:
    """Declare a histogram."""
    _note(name, "histogram", meaning, labels)
    return Histogram(name, meaning, labels, registry=REGISTRY, buckets=buckets)


def _note(name: str, kind: str, meaning: str, labels: Sequence[str]) -> None:
    room = str(sys._getframe(2).f_globals["__name__"]).partition(".")[0]
    DECLARED[name] = Declared(name, kind, meaning, tuple(labels), room)


Samples = Callable[[], Iterable[tuple[Sequence[str], float]]]


class CollectedCounter:
    """A counter with very many labels, whose values are read from their owner when somebody asks."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._name, self._meaning, self._labels = name, meaning, labels
        self.read: Samples = tuple
        """Returns label values and value of each sample; set by the owner."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the samples of now."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, value in self.read():
            family.add_metric(labels, value)
        yield family


def collected_counter(name: str, meaning: str, labels: Sequence[str]) -> CollectedCounter:
    """Declare a counter whose owner is asked for the samples."""
    _note(name, "counter", meaning, labels)
    made = CollectedCounter(name, meaning, labels)
    REGISTRY.register(made)
    return made
