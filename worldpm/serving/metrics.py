"""Prometheus metrics of a scoring server."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from worldpm.chat_template import EncodedGroup
from worldpm.serving.batcher import Batcher, BatchStatistics

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMetrics:
    """The metrics of one server; each has its own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "worldpm_requests", "Answered requests", ["path", "status"], registry=registry
        )
        self.cancelled = Counter(
            "worldpm_requests_cancelled", "Requests whose client went away", registry=registry
        )
        self.latency_s = Histogram(
            "worldpm_request_seconds",
            "From the request's head to its answer",
            ["path"],
            registry=registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self._responses = Counter("worldpm_responses_scored", "Responses scored", registry=registry)
        self._tokens = Counter(
            "worldpm_tokens_scored", "Tokens through the model", registry=registry
        )
        self._cut = Counter(
            "worldpm_tokens_cut", "Tokens left out to fit the context", ["part"], registry=registry
        )
        self._batch_requests = Histogram(
            "worldpm_batch_requests",
            "Requests served by one forward pass",
            registry=registry,
            buckets=BATCH_BUCKETS,
        )
        self._batch_seconds = Histogram(
            "worldpm_batch_seconds",
            "Duration of a forward pass",
            registry=registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self._open = Gauge("worldpm_requests_open", "Requests being served", registry=registry)
        self._waiting = Gauge("worldpm_tokens_waiting", "Tokens in the queue", registry=registry)
        self.ready = Gauge("worldpm_ready", "1 when the self-test has passed", registry=registry)

    def watch_queue(self, batcher: Batcher) -> None:
        """Read the queue's size whenever the metrics are read."""
        self._open.set_function(lambda: batcher.num_open_requests)
        self._waiting.set_function(lambda: batcher.num_waiting_tokens)

    def record_batch(self, statistics: BatchStatistics) -> None:
        """Count one forward pass."""
        self._responses.inc(statistics.num_responses)
        self._tokens.inc(statistics.num_tokens)
        self._batch_requests.observe(statistics.num_requests)
        self._batch_seconds.observe(statistics.duration_s)

    def record_cuts(self, groups: Sequence[EncodedGroup]) -> None:
        """Count what did not fit the context."""
        self._cut.labels("prompt").inc(sum(group.prompt_tokens_cut for group in groups))
        self._cut.labels("response").inc(sum(sum(group.response_tokens_cut) for group in groups))

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
