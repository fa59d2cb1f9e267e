"""What the service counts, for Prometheus. Each application has a registry of its own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

SCORES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)  # 1 is the threshold
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters, gauges and histograms.

    Attributes:
        registry: All of them; `/metrics` writes it.
        requests: Requests that were answered, by route, method and status.
        refused: Requests that were refused, by the code of the answer.
        pictures: Pictures that were scored, by detector, version and verdict.
        scores: Their scores, by detector.
        seconds: Seconds to decode and score a picture, by detector.
        waited: Seconds that pictures waited for their turn.
        scoring: Pictures that are decoded or scored now.
        body_bytes: Bytes of the bodies in memory now.
        detector: 1 for each detector that answers, with its version and digest.
        ready: 1 if the service answers `/readyz` with 200.
    """

    def __init__(self) -> None:
        """Make all of them."""
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)
        self.requests = Counter(
            "zoo_requests", "Requests answered", ("route", "method", "status"), registry=own
        )
        self.refused = Counter("zoo_refused", "Requests refused", ("code",), registry=own)
        self.pictures = Counter(
            "zoo_pictures", "Pictures scored", ("detector", "version", "verdict"), registry=own
        )
        self.scores = Histogram(
            "zoo_score",
            "Scores of pictures; 1 is the threshold",
            ("detector",),
            buckets=SCORES,
            registry=own,
        )
        self.seconds = Histogram(
            "zoo_score_seconds",
            "Seconds to decode and score a picture",
            ("detector",),
            buckets=SECONDS,
            registry=own,
        )
        self.waited = Histogram(
            "zoo_wait_seconds",
            "Seconds that pictures waited for their turn",
            buckets=SECONDS,
            registry=own,
        )
        self.scoring = Gauge("zoo_scoring", "Pictures decoded or scored now", registry=own)
        self.body_bytes = Gauge("zoo_body_bytes", "Bytes of bodies in memory now", registry=own)
        self.detector = Gauge(
            "zoo_detector_info",
            "Detectors that answer, by name",
            ("detector", "version", "digest"),
            registry=own,
        )
        self.ready = Gauge("zoo_ready", "Whether the service is ready", registry=own)
