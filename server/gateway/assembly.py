"""Puts the doors on one server and keeps it honest about its health.

In: settings and the address of a ready Triton. Out: a listening gateway that drains before it stops.
Called by `python -m server`, by every worker, by cli.py and the tests.
"""

import gc
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from grpc_health.v1 import health_pb2
from stratagem.v1 import feedback_pb2, profile_pb2, recommendation_pb2, risk_pb2, strategy_pb2

from kernels.features import apply_event, empty_state, read_states
from kernels.ledger import ORDER
from server.access.gate import Access
from server.access.tally import Seat
from server.access.tls import check_exposure, credentials
from server.decide import Decider
from server.feedback import FeedbackLog
from server.gateway.doors import Doors, Guard, shed
from server.gateway.feedback import FeedbackServicer
from server.gateway.health import Health
from server.gateway.profile import ProfileServicer
from server.gateway.recommendation import RecommendationServicer
from server.gateway.reflecting import METHOD, Reflecting
from server.gateway.risk import RiskServicer
from server.gateway.shopper_tags import tags_message
from server.gateway.strategy import BatchDoor, DecideDoor, StreamDoor
from server.gateway.words import decision_bytes
from server.housekeeping import Housekeeping
from server.planner import standing_plan
from server.problems import PortInUse
from server.record import Recorder
from server.repository import Repository, open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.telemetry.page import serve_metrics, worker_port
from server.telemetry.telling import Telling
from server.triton.client import Models
from server.waiting import Waiting
from server.wire.server import Method, Options, Stream, Unary, WireServer

DESCRIPTORS = tuple(
    file.DESCRIPTOR.services_by_name[name]
    for file, name in (
        (strategy_pb2, "StrategyService"),
        (profile_pb2, "ProfileService"),
        (recommendation_pb2, "RecommendationService"),
        (feedback_pb2, "FeedbackService"),
        (risk_pb2, "RiskService"),
    )
)
SERVICES = tuple(service.full_name for service in DESCRIPTORS)
# Feedback needs no model: it is taken in while Triton is away.
NEED_MODELS = tuple(name for name in SERVICES if not name.endswith("FeedbackService"))
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MOST_PENDING, HANDSHAKE_MS, KEEPALIVE_MS = 20_000, 20_000, 60_000
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gateway:
    """A listening gateway: its address, and what is behind its doors."""

    address: str
    decider: Decider
    waiting: Waiting
    server: WireServer
    health: Health


@contextmanager
def listening(
    settings: Settings, triton: str, writer: int = 0, shares_port: bool = False, seat: Seat | None = None
) -> Iterator[Gateway]:
    """Open everything a gateway needs and listen; on leaving, drain running calls and let everything go.

    triton       "host:port" of a ready Triton's gRPC door
    writer       which process of several this is: each writes a log of its own
    shares_port  whether other processes listen on the same port
    seat         of this process among those that share every client's rate; None: it is the only one
    raises       WrongRepository, WrongPlan, WrongState, WrongSettings, PortInUse
    """
    check_exposure(settings)
    with ExitStack() as stack:
        access = Access(settings, seat=seat)
        secret = credentials(settings)
        decider = opened(settings, triton, stack, writer)
        waiting = Waiting(decider, decision_bytes, settings)
        stack.callback(waiting.close)
        health, guard = Health(SERVICES), Guard(access, decider.telling.metrics)
        methods = _methods(decider, waiting, health, guard, stack)
        server = WireServer(methods, _options(settings, shares_port), guard, waiting.drained)
        address = f"{settings.host}:{_bound(server, settings, secret)}"
        _watch_health(decider, health)
        _show(decider, waiting, server, health, writer, stack)
        stack.callback(Housekeeping(access.refresh).close)
        server.start()
        _logger.info("listening on %s with release %s", address, decider.repository.release)
        try:
            yield Gateway(address, decider, waiting, server, health)
        finally:
            health.leave()
            server.stop(settings.drain_s)


def opened(settings: Settings, triton: str, stack: ExitStack, writer: int = 0) -> Decider:
    """The composed path over the settings' repository, plan, state and log; `stack` closes what was opened."""
    repository = open_repository(settings.repository)
    plan = standing_plan(settings.plan, repository.release)
    states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib, settings.resident_mib)
    stack.callback(states.close)
    log = FeedbackLog(settings.log / f"writer-{writer}" if writer else settings.log)
    stack.callback(log.close)
    models = Models(triton)
    stack.callback(models.close)
    _warm(repository)
    # The catalogue's hundred thousand names live as long as the process: a collection need not walk them every time.
    gc.collect()
    gc.freeze()
    telling = Telling.of(settings)
    stack.callback(telling.close)
    decider = Decider(repository, models, states, log, plan, settings, telling)
    stack.callback(decider.close)
    return decider


def _warm(repository: Repository) -> None:
    """Load the compiled kernels now: the first caller would wait for them, and for seconds where no cache is."""
    state = empty_state()
    apply_event(state, 1, ORDER, 0, 0, 0, 1.0, 0, 0, 0)
    features, _ = read_states(state[None, :], np.array([1], np.int64))
    if repository.tag_limits is not None:
        tags_message(features, repository.tag_limits, repository.catalogue)


def _options(settings: Settings, shares_port: bool) -> Options:
    message_bytes = settings.message_mib * 2**20
    # Where others share the port, a client must come back now and then: it spreads, and can leave who is replaced.
    age = (("grpc.max_connection_age_ms", round(1000 * settings.connection_age_s)),) if shares_port else ()
    return (
        *age,
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # More wait with their caller: whoever sends without end takes no more of the core than can be answered.
        ("grpc.max_concurrent_streams", settings.connection_calls),
        # Calls that wait to be polled, beyond which gRPC would end them as cancelled, which nobody asks again; the wire
        # refuses them with the time to come again long before.
        ("grpc.server.max_pending_requests", MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * MOST_PENDING),
        # A connection that never says what it wants, or whose other end is gone without a word.
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS // 3),
        # With it on, a second server on the same port starts without a word and takes half of the calls.
        ("grpc.so_reuseport", int(shares_port)),
    )


def check_port(settings: Settings) -> None:
    """Pass when the port to listen on is free: said before anything slow is done or a file is touched.

    raises  PortInUse
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC binds: a port just left is free
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise PortInUse(_taken(settings)) from error


def _taken(settings: Settings) -> str:
    listens = f"something else listens on {settings.host}:{settings.port}"
    return f"STRATAGEM_PORT must be free, got {settings.port}: {listens}"


def _bound(server: WireServer, settings: Settings, secret: object) -> int:
    port = server.listen(f"{settings.host}:{settings.port}", secret)
    if port == 0:
        raise PortInUse(_taken(settings))
    return port


def _show(
    decider: Decider, waiting: Waiting, server: WireServer, health: Health, writer: int, stack: ExitStack
) -> None:
    """What Prometheus reads where somebody keeps it anyway; the page itself where the settings ask for it."""
    settings, metrics, encoder, log = decider.settings, decider.telling.metrics, decider.encoder, decider.log
    metrics.released(decider.repository.release, decider.plan.plan_id)
    metrics.watch(lambda: waiting.n_waiting, lambda: server.n_open, lambda: decider.watch.is_up)
    metrics.gauge("stratagem_encoder_queue", "Shoppers whose vectors wait to be made anew.", lambda: encoder.n_waiting)
    metrics.counter(
        "stratagem_encoder_refreshes", "Shopper vectors made anew behind decisions.", lambda: encoder.rows["refreshed"]
    )
    metrics.counter("stratagem_log_bytes", "Bytes on disk in the durable log.", lambda: log.n_bytes)
    metrics.counter("stratagem_log_groups", "Group commits of the durable log.", lambda: log.n_groups)
    metrics.counter("stratagem_log_refused", "Group commits that the disk did not take.", lambda: log.n_refused)
    port = worker_port(settings.metrics_port, writer)
    if port is not None:
        ready = {name: partial(health.is_serving, name) for name in SERVICES}
        page = serve_metrics(metrics, settings.metrics_host, port, ready)
        stack.callback(page.close)
        _logger.info("metrics on http://%s:%d/metrics", page.host, page.port)


def _methods(decider: Decider, waiting: Waiting, health: Health, guard: Guard, stack: ExitStack) -> dict[str, Method]:
    """Every method by its full name. A door's threads end before what is behind it."""
    settings, repository, encoder, telling = decider.settings, decider.repository, decider.encoder, decider.telling
    doors = Doors(settings.door_threads, "door", telling.metrics)
    bulk_doors = Doors(settings.bulk_deciders, "batch", telling.metrics)
    feedback_doors = Doors(settings.feedback_threads, "feedback", telling.metrics)
    batch, recorder = BatchDoor(decider), Recorder(decider.states, decider.log)
    for closing in (recorder.close, batch.close, bulk_doors.close, feedback_doors.close, doors.close):
        stack.callback(closing)
    served: dict[str, object] = {
        "ProfileService": ProfileServicer(repository, encoder, settings),
        "RecommendationService": RecommendationServicer(repository, encoder, settings),
        "FeedbackService": FeedbackServicer(repository.catalogue.items, encoder, recorder, settings.request_rows),
        "RiskService": RiskServicer(repository, decider.models, settings),
    }
    methods: dict[str, Method] = {}
    for service in DESCRIPTORS:
        for method in service.methods if service.name in served else ():
            handler, own = getattr(served[service.name], method.name), doors
            if service.name == "FeedbackService":
                own = feedback_doors  # its threads wait for company, and nobody else for them
            methods[f"/{service.full_name}/{method.name}"] = own.unary(handler, method.input_type._concrete_class)
    strategy = f"/{SERVICES[0]}/"
    singles = DecideDoor(waiting, settings.decide_within_s, telling)
    methods[f"{strategy}Decide"] = Unary(singles.take, partial(shed, telling.metrics))
    streams = StreamDoor(waiting, settings.decide_within_s, telling, guard)
    methods[f"{strategy}DecideStream"] = Stream(streams.opened)
    methods[f"{strategy}DecideBatch"] = bulk_doors.unary(batch.decide_batch, strategy_pb2.DecideBatchRequest)
    methods[f"/{HEALTH}/Check"] = doors.at_once(health.check, health_pb2.HealthCheckRequest)
    methods[f"/{HEALTH}/Watch"] = Stream(health.opened)
    if settings.reflection:
        methods[METHOD] = Reflecting((*SERVICES, HEALTH)).door()
    return methods


def _watch_health(decider: Decider, health: Health) -> None:
    """Say SERVING only while Triton answers: a balancer then sends callers to a gateway that can decide in full."""

    def tell(is_up: bool) -> None:
        for name in ("", *NEED_MODELS):
            health.set(name, is_up)

    health.set(f"{SERVICES[0].rpartition('.')[0]}.FeedbackService", True)
    decider.watch.listeners.append(tell)
    tell(decider.watch.is_up)
