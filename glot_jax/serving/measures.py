"""What Prometheus is told of a server: `GET /metrics`."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """Counters of one server, in a registry of their own.

    Labels are routes and statuses, never anything that a client wrote.
    """

    def __init__(self):
        # Not the default one: two servers of a process would count into each other.
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        # Few values each: Prometheus keeps a series for every combination.
        labels = ("route", "status")
        self.requests = Counter(
            "glot_requests", "Requests that were answered.", labels, registry=self.registry
        )
        self.seconds = Histogram(
            "glot_request_seconds",
            "From the head of a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.vanished = Counter(
            "glot_vanished_requests",
            "Requests whose client left before the answer, or took too long.",
            registry=self.registry,
        )
        self.texts = Counter(
            "glot_texts", "Texts, or rows of texts, that were computed.", registry=self.registry
        )
        self.tokens = Counter(
            "glot_tokens", "Tokens of the requests that were accepted.", registry=self.registry
        )
        self.waiting = Gauge(
            "glot_waiting_texts", "Texts that wait or are worked on.", registry=self.registry
        )
        self.batch_texts = Histogram(
            "glot_batch_texts",
            "Texts of a batch.",
            buckets=_TEXTS,
            registry=self.registry,
        )
        self.ready = Gauge("glot_ready", "1 once every shape is compiled.", registry=self.registry)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
