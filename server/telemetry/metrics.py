"""What Prometheus sees of one worker: counted once per micro-batch, never once per message.

In: what the core, the log and the wire tell, as arrays. Out: the text of one scrape. Made by the assembly, told by
server/decide.py and whoever else counts, read by server/telemetry/page.py. Nothing here is global: two Metrics in one
process know nothing of each other.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from server.telemetry.histograms import Histogram

# What a micro-batch goes through, in this order; `queue` is what a row waited before.
STAGES: Final = ("read", "features", "encode", "models", "choose", "log", "answer")
SECONDS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
REQUEST_SECONDS: Final = tuple(bound for bound in SECONDS if bound >= 0.0005)
AGE_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0)
BATCH_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Clients come from outside: beyond so many names they share the series of OTHER_CLIENTS, and the page stays small.
N_CLIENTS: Final = 500
OTHER_CLIENTS: Final = "others"


class Metrics:
    """The metrics of one worker. Every method may be called from any thread."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._info = Info("stratagem_build", "Which code, models and plan answer.", registry=registry)
        self.released("", "")
        self._decisions = _Children(
            Counter("stratagem_decisions", "Decisions by rung of the ladder.", ["rung"], registry=registry)
        )
        self._refused = _Children(
            Counter("stratagem_refused", "Calls refused by status and client.", ["code", "client"], registry=registry)
        )
        self._clients: set[str] = set()
        self._rows = Histogram("stratagem_batch_rows", "Rows of a micro-batch.", BATCH_ROWS).into(registry).of()
        words = "What a row waited for its micro-batch."
        self._waited = Histogram("stratagem_queue_wait_seconds", words, SECONDS).into(registry).of()
        words = "What a micro-batch spent in each stage."
        self._stages = Histogram("stratagem_stage_seconds", words, SECONDS, ["stage"]).into(registry)
        words = "From the message's arrival to its answer."
        self._requests = Histogram("stratagem_request_seconds", words, REQUEST_SECONDS, ["method", "status"])
        self._requests.into(registry)
        words = "How long the oldest event that a shopper's vector does not know has been waiting."
        self._ages = Histogram("stratagem_vector_age_seconds", words, AGE_SECONDS).into(registry).of()
        self._vectors = _Children(
            Counter("stratagem_vectors", "Shopper vectors read, by freshness.", ["state"], registry=registry)
        )
        self._start()

    def _start(self) -> None:
        """Series that a dashboard asks for before anything happened."""
        for rung in ("full", "cached", "safe_default"):
            self._decisions.add(0, rung)
        for stage in STAGES:
            self._stages.of(stage)
        for state in ("fresh", "stale"):
            self._vectors.add(0, state)

    def released(self, release: str, plan_id: str) -> None:
        """Say which models and which plan answer from now on; the package's version stands beside them."""
        self._info.info({"version": _version(), "release": release, "plan_id": plan_id})

    def decided(self, rung: str, n_rows: int) -> None:
        """Count the decisions of a micro-batch that one rung gave."""
        self._decisions.add(n_rows, rung)

    def batch(self, n_rows: int, waited_s: ArrayLike, stage_s: Mapping[str, float]) -> None:
        """Count a micro-batch.

        n_rows    its rows
        waited_s  (n_rows,) float64  what each waited in the queue
        stage_s   seconds by stage of STAGES; a stage that was skipped is left out
        """
        self._rows.observe(n_rows)
        self._waited.observe_many(waited_s)
        for stage, seconds in stage_s.items():
            self._stages.of(stage).observe(seconds)

    def answered(self, method: str, status: str, latency_s: ArrayLike) -> None:
        """Count calls that ended.

        method     such as "Decide"
        status     the name of its gRPC status, such as "OK"
        latency_s  (n_calls,) float64  or one number
        """
        self._requests.of(method, status).observe_many(np.atleast_1d(latency_s))

    def refused(self, code: str, client: str, n: int = 1) -> None:
        """Count calls that were refused before any work.

        code    the name of the gRPC status, such as "RESOURCE_EXHAUSTED"
        client  as authentication named it; empty: nobody
        n       calls
        """
        if client not in self._clients:
            if len(self._clients) >= N_CLIENTS:
                client = OTHER_CLIENTS
            self._clients.add(client)
        self._refused.add(n, code, client)

    def vectors(self, fresh: int, stale: int, stale_age_s: ArrayLike = ()) -> None:
        """Count the shopper vectors that a micro-batch read.

        fresh        vectors that know every event; their age counts as 0
        stale        vectors that do not
        stale_age_s  (stale,) float64  how long each one's oldest unknown event has been waiting
        """
        self._vectors.add(fresh, "fresh")
        self._ages.observe_times(0.0, fresh)
        if stale:
            self._vectors.add(stale, "stale")
            self._ages.observe_many(stale_age_s)

    def gauge(self, name: str, words: str, read: Callable[[], float]) -> None:
        """Show a value that is asked for at each scrape, such as `stratagem_queue_depth`.

        name   with its unit last
        words  what the page says of it
        read   called on the page's thread
        """
        Gauge(name, words, registry=self.registry).set_function(read)

    def counter(self, name: str, words: str, read: Callable[[], float]) -> None:
        """Show a count that somebody keeps anyway, such as the wire's bytes: it costs nothing until it is scraped.

        name   without `_total`
        words  what the page says of it
        read   never descends; called on the page's thread
        """
        self.registry.register(_Counted(name, words, read))

    def watch(
        self,
        queue_depth: Callable[[], float],
        open_calls: Callable[[], float],
        triton_ready: Callable[[], bool],
        state_shoppers: Callable[[], float] | None = None,
    ) -> None:
        """Show what the server's parts know of themselves; each is called on the page's thread, once a scrape.

        queue_depth     asks that wait for a micro-batch
        open_calls      calls and streams that are open
        triton_ready    as last seen; must not ask Triton itself
        state_shoppers  shoppers in the state, where it can be told cheaply
        """
        self.gauge("stratagem_queue_depth", "Asks that wait for a micro-batch.", queue_depth)
        self.gauge("stratagem_open_calls", "Calls and streams that are open.", open_calls)
        self.gauge("stratagem_triton_ready", "Whether Triton answered when it was last asked.", triton_ready)
        if state_shoppers is not None:
            self.gauge("stratagem_state_shoppers", "Shoppers in the state.", state_shoppers)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """One scrape.

        accept   the scraper's Accept header: OpenMetrics if it asks for it, else Prometheus' text
        returns  the page and its content type
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type


class _Children:
    """The children of one counter by their labels: `labels()` itself takes longer than the counting."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children: dict[tuple[str, ...], Counter] = {}
        self._lock = Lock()

    def add(self, n: int, *values: str) -> None:
        child = self._children.get(values)
        if child is None:
            with self._lock:
                child = self._children.setdefault(values, self._counter.labels(*values))
        child.inc(n)


class _Counted(Collector):
    """A counter whose value somebody else keeps."""

    def __init__(self, name: str, words: str, read: Callable[[], float]) -> None:
        self._name, self._words, self._read = name, words, read

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._words)

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._words, value=self._read())


def _version() -> str:
    try:
        return version("stratagem")
    except PackageNotFoundError:  # run from the tree, not installed
        return ""
