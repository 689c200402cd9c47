"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sa3d.service.work import Work

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """Counters of one service.

    Args:
        work: whose requests are counted.
    """

    def __init__(self, work: Work) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "sa3d_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self.clouds = Counter("sa3d_clouds", "Clouds answered.", registry=self._registry)
        self.seconds = Histogram(
            "sa3d_request_seconds",
            "From the first byte of a request to its answer, by path.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.model_seconds = Histogram(
            "sa3d_model_seconds",
            "Reading the clouds of a request and asking the model.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        waiting = Gauge(
            "sa3d_waiting", "Requests being read, waiting or answered.", registry=self._registry
        )
        waiting.set_function(lambda: work.taken)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
