"""What operators watch, in Prometheus' format; one sum over all processes of the server."""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from starlette.responses import Response

from hisac_lab.serving.service import Reply

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: a folder in which the processes share their counts."""
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Meters:
    """Counts of one process, and the page of all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("hisac_requests", "Requests by route and status", ("route", "status"), registry=own)
        self.seconds = Histogram(
            "hisac_request_seconds",
            "Seconds from a request's headers to its answer",
            ("route",),
            buckets=SECONDS,
            registry=own,
        )
        self.candidates = Counter("hisac_candidates", "Candidates scored, by version", ("version",), registry=own)
        self.users = Counter("hisac_users", "Requests by what was read of the user", ("read",), registry=own)
        self.routes = frozenset({"/score", "/events", "/schema", "/healthz", "/readyz", "/metrics"})

    def seen(self, path: str, status: int, seconds: float) -> None:
        """A request has been answered; unknown routes are one, lest a stranger makes as many as he likes."""
        route = path if path in self.routes else "other"
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def answered(self, reply: Reply) -> None:
        """Candidates have been scored."""
        self.candidates.labels(reply.version).inc(len(reply.scores))
        self.users.labels(reply.read).inc()

    def page(self) -> Response:
        """All counts."""
        registry = self.registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
