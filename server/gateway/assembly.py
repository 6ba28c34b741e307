"""Puts the doors on one server and keeps it honest about its health.

In: settings and the address of a ready Triton. Out: a listening gateway that drains before it stops.
Called by `python -m server`, cli.py and the tests.
"""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import numpy as np
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection
from stratagem.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    profile_pb2,
    profile_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
    risk_pb2,
    risk_pb2_grpc,
    strategy_pb2,
    strategy_pb2_grpc,
)

from kernels.features import apply_event, empty_state, read_states
from kernels.ledger import ORDER
from server.decide import Decider
from server.feedback import FeedbackLog
from server.gateway.feedback import FeedbackServicer
from server.gateway.profile import ProfileServicer
from server.gateway.recommendation import RecommendationServicer
from server.gateway.risk import RiskServicer
from server.gateway.shopper_tags import tags_message
from server.gateway.strategy import StrategyServicer
from server.planner import standing_plan
from server.problems import PortInUse
from server.repository import Repository, open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.triton.client import Models
from server.triton.process import serving

HEALTH_PERIOD_S = 0.5
SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (strategy_pb2, "StrategyService"),
        (profile_pb2, "ProfileService"),
        (recommendation_pb2, "RecommendationService"),
        (feedback_pb2, "FeedbackService"),
        (risk_pb2, "RiskService"),
    )
)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gateway:
    """A listening gateway: its address, and the path behind its doors."""

    address: str
    decider: Decider


@asynccontextmanager
async def listening(settings: Settings, triton: str) -> AsyncIterator[Gateway]:
    """Open everything a gateway needs and listen; on leaving, drain running calls and let everything go.

    triton   "host:port" of a ready Triton's gRPC door
    raises   WrongRepository, WrongPlan, WrongState, PortInUse
    """
    async with AsyncExitStack() as stack:
        decider = await opened(settings, triton, stack)
        server = grpc.aio.server(options=_options(settings))
        status = _add_doors(server, decider)
        address = f"{settings.host}:{_bound(server, settings)}"
        await server.start()
        watcher = asyncio.create_task(_watch_health(decider.models, status))
        _logger.info("listening on %s with release %s", address, decider.repository.release)
        try:
            yield Gateway(address, decider)
        finally:
            watcher.cancel()
            await status.enter_graceful_shutdown()
            await server.stop(settings.drain_s)


async def opened(settings: Settings, triton: str, stack: AsyncExitStack) -> Decider:
    """The composed path over the settings' repository, plan, state and log; `stack` closes what was opened."""
    repository = open_repository(settings.repository)
    plan = standing_plan(settings.plan, repository.release)
    states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib)
    stack.callback(states.close)
    log = FeedbackLog(settings.log)
    stack.callback(log.close)
    models = Models(triton)
    stack.push_async_callback(models.close)
    _warm(repository)
    # The catalogue's hundred thousand names live as long as the process: a collection need not walk them every time.
    gc.collect()
    gc.freeze()
    decider = Decider(repository, models, states, log, plan, settings)
    stack.push_async_callback(decider.close)
    return decider


def _warm(repository: Repository) -> None:
    """Load the compiled kernels now: the first caller would wait for them, and for seconds where no cache is."""
    state = empty_state()
    apply_event(state, 1, ORDER, 0, 0, 0, 1.0, 0, 0, 0)
    features, _ = read_states(state[None, :], np.array([1], np.int64))
    if repository.tag_limits is not None:
        tags_message(features, repository.tag_limits, repository.catalogue)


def _options(settings: Settings) -> list[tuple[str, int]]:
    message_bytes = settings.message_mib * 2**20
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # With it on, a second server on the same port starts without a word and takes half of the calls.
        ("grpc.so_reuseport", 0),
    ]


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


def _bound(server: grpc.aio.Server, settings: Settings) -> int:
    wanted = f"{settings.host}:{settings.port}"
    try:
        port: int = server.add_insecure_port(wanted)
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortInUse(_taken(settings))
    return port


def _add_doors(server: grpc.aio.Server, decider: Decider) -> health.HealthServicer:
    settings, repository, states = decider.settings, decider.repository, decider.states
    strategy_pb2_grpc.add_StrategyServiceServicer_to_server(StrategyServicer(decider), server)
    profile_pb2_grpc.add_ProfileServiceServicer_to_server(
        ProfileServicer(repository, decider.encoder, settings), server
    )
    recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(
        RecommendationServicer(repository, decider.encoder, settings), server
    )
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(
        FeedbackServicer(repository.catalogue.items, states, decider.log, settings.request_rows), server
    )
    risk_pb2_grpc.add_RiskServiceServicer_to_server(RiskServicer(repository, decider.models, settings), server)
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return status


async def _watch_health(models: Models, status: health.HealthServicer) -> None:
    """Say SERVING only while Triton is ready: a balancer then sends callers to a gateway that can decide."""
    while True:
        is_ready = await models.is_ready()
        now = health_pb2.HealthCheckResponse.SERVING if is_ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await status.set(name, now)
        await asyncio.sleep(HEALTH_PERIOD_S)


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: start or find Triton, listen, drain, stop.

    announce  called with the address once the gateway listens
    raises    Problem  if anything needed is missing or wrong
    """
    repository = open_repository(settings.repository)  # before Triton's seconds: a wrong file is said at once
    with (
        serving(settings.repository, repository.served, folder=settings.triton) as triton,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_until_stopped(settings, triton, announce))


async def _until_stopped(settings: Settings, triton: str, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with listening(settings, triton) as gateway:
        announce(gateway.address)
        await stop.wait()
