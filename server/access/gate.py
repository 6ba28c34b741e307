"""Who calls, and may they: asked for every message, so a caller seen lately costs a look into a dictionary.

In: a method, its metadata, the identities of the connection's certificate. Out: a Principal, or a refusal.
Called by the wire thread; `refresh` by any thread, every second or so.

How a caller is known, the first that applies:
  a token or key in `authorization: Bearer ...`; a wrong one is refused even beside a good certificate
  the certificate of a mutual TLS connection, named by the clients' file
  nobody, where the settings leave it at that: check_exposure has seen to what that may listen on
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from google.protobuf.descriptor import ServiceDescriptor
from stratagem.v1 import feedback_pb2, profile_pb2, recommendation_pb2, risk_pb2, strategy_pb2

from server.access.keys import PREFIX, SCOPES, Client, Clients, Scope, read_clients
from server.access.rates import Bucket
from server.access.recent import Recent
from server.access.tally import Seat, Tallies
from server.access.tls import Stamp, is_authenticating, is_loopback, stamp_of
from server.access.tokens import TOKEN_BYTES, Claims, Tokens, tokens_of
from server.problems import Forbidden, InvalidRequest, Overloaded, Problem, RateExceeded, Unauthenticated
from server.settings import Settings

Metadata = Sequence[tuple[str, str | bytes]]
Credential = str | tuple[bytes, ...]

# Callers remembered, and clients whose rates are kept: about 1 KB each.
REMEMBERED = 10_000
# What false tokens may cost a second, in tenths of a millisecond: one each and one per 512 bytes (0.07 to 0.8 ms).
# A flood of them takes a tenth of the wire thread and delays tokens not seen before; whoever is remembered passes as
# ever, and so does every key (2 us).
FALSE_COST_PER_S = 1000.0
COSTLY_BYTES = 512
# A remembered caller is checked again after this, whatever its token says: a wall clock put right is then heeded.
RECHECK_S = 300.0
_DOORS: tuple[tuple[ServiceDescriptor, Scope], ...] = (
    (strategy_pb2.DESCRIPTOR.services_by_name["StrategyService"], "strategy"),
    (profile_pb2.DESCRIPTOR.services_by_name["ProfileService"], "profile"),
    (recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"], "recommendation"),
    (feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"], "feedback"),
    (risk_pb2.DESCRIPTOR.services_by_name["RiskService"], "risk"),
)
HEALTH = "grpc.health.v1.Health"
_METHODS: dict[str, Scope | None] = {
    f"/{service.full_name}/{method.name}": scope for service, scope in _DOORS for method in service.methods
}
_METHODS |= {f"/{HEALTH}/{name}": None for name in ("Check", "List", "Watch")}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Principal:
    """Who calls: a name for logs and metrics, what it may ask, and its bucket."""

    name: str
    kind: Literal["token", "key", "certificate", "anonymous"]
    scopes: frozenset[str]
    bucket: Bucket | None = field(repr=False, default=None)
    until_s: float = field(repr=False, default=float("inf"))  # monotonic: checked again from then on

    def take(self, n_rows: int, now_s: float | None = None) -> None:
        """Count rows against the client's rate: 1 for a decision or an event, all of them for a columnar request.

        n_rows  ≥ 0
        now_s   monotonic; None: now
        raises  RateExceeded    nothing was counted; with the time until the rows fit
                InvalidRequest  more rows than would ever fit
        """
        bucket = self.bucket
        if bucket is None:
            return
        if n_rows > bucket.most:
            rule = f"a request must have ≤ {int(bucket.most)} rows at this client's rate"
            raise InvalidRequest(f"{rule}, got {n_rows} (client {self.name!r})")
        wait_s = bucket.take(n_rows, time.monotonic() if now_s is None else now_s)
        if wait_s > 0:
            raise RateExceeded(_too_fast(self.name, bucket, n_rows), wait_s)


def _too_fast(name: str, bucket: Bucket, n_rows: int) -> str:
    return f"a client must ask for ≤ {bucket.rate_per_s:g} rows/s, got {n_rows} more too early (client {name!r})"


@dataclass(frozen=True, repr=False)
class _Standing:
    """What one reading of the files led to. Who was admitted by it is forgotten with it."""

    tokens: Tokens | None
    clients: Clients | None
    # Keyed by the header as sent: its hash would cost more than the rest of `admit`, and gRPC's own table of a
    # connection's headers keeps it in memory anyway.
    known: Recent[Credential, Principal]


_NOBODY = Principal("", "anonymous", frozenset())


class Access:
    """The gate in front of every door."""

    def __init__(
        self,
        settings: Settings,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        seat: Seat | None = None,
    ) -> None:
        """Read the files that the settings name.

        seat    of this worker among those that share every client's rate; None: it is the only one
        raises  WrongSettings
        """
        self._settings = settings
        self._tallies = Tallies(seat) if seat is not None and seat.n_workers > 1 else None
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s
        self._buckets: Recent[str, Bucket] = Recent(REMEMBERED)
        self._lock = threading.Lock()  # two threads must not make two buckets for one client
        self._failures = Bucket(FALSE_COST_PER_S, FALSE_COST_PER_S, monotonic_s())
        self._stamps = self._files_now()
        self._standing = self._read()
        self._has_certificates = settings.tls_client_ca is not None
        self._anonymous: Principal | None = None
        if not is_authenticating(settings):
            bucket = self._bucket_of("anonymous", None)
            scopes = frozenset(SCOPES) - (set() if is_loopback(settings.host) else {"admin"})
            self._anonymous = Principal("anonymous", "anonymous", scopes, bucket)

    def admit(self, method: str, metadata: Metadata, identities: Sequence[bytes] = ()) -> Principal:
        """Let a message in.

        method      "/package.Service/Method"; one that is not ours needs the scope `admin`
        metadata    of the call; the message of a stream brings its call's
        identities  what gRPC says of the peer's certificate (peer_identities); empty without mutual TLS
        returns     who sent it; take its rows from it
        raises      Unauthenticated
                    Forbidden     the scope that it lacks is named
                    RateExceeded  the client has not yet waited off what it took: said before the message is parsed
                    Overloaded    a token not seen before, in a flood of false ones
        """
        scope = _METHODS.get(method, "admin")
        if scope is None:
            return _NOBODY
        principal, now_s = self._anonymous, self._monotonic_s()
        if principal is None:
            credential = _credential(metadata, identities)
            standing = self._standing
            principal = standing.known.get(credential)
            if principal is None or principal.until_s <= now_s:
                principal = self._verified(standing, credential, now_s)
                standing.known.put(credential, principal)
        if scope not in principal.scopes:
            raise Forbidden(f"{method} needs the scope {scope!r}, got a client without it ({principal.name!r})")
        bucket = principal.bucket
        if bucket is not None and (wait_s := bucket.wait_s(1, now_s)) > 0:
            raise RateExceeded(_too_fast(principal.name, bucket, 1), wait_s)
        return principal

    def refresh(self) -> bool:
        """Read the files again where they changed; whoever they no longer admit is out with the next message.

        returns  whether they were read; a wrong file is logged and leaves everything as it was
        """
        stamps = self._files_now()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            standing = self._read()
        except Problem as problem:
            _logger.error("access stays as it was: %s", problem)
            return False
        self._standing = standing
        _logger.info("access read again: %d clients", len(standing.clients.by_name) if standing.clients else 0)
        return True

    @property
    def n_remembered(self) -> int:
        """Callers that pass without being checked again."""
        return len(self._standing.known)

    def _files_now(self) -> list[Stamp | None]:
        return [stamp_of(path) for path in (self._settings.api_keys, self._settings.jwt_public_key)]

    def _read(self) -> _Standing:
        clients = read_clients(self._settings.api_keys) if self._settings.api_keys else None
        return _Standing(tokens_of(self._settings), clients, Recent(REMEMBERED))

    def _verified(self, standing: _Standing, credential: Credential, now_s: float) -> Principal:
        if isinstance(credential, tuple):
            return self._of_certificate(standing, credential, now_s)
        scheme, _, token = credential.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("authorization must be 'Bearer TOKEN', got something else")
        if token.startswith(PREFIX):
            client = standing.clients.of_key(token) if standing.clients else None
            if client is None:
                raise Unauthenticated("authorization must carry a key we know, got another")
            return self._of_client(client, "key", now_s)
        if standing.tokens is None:
            raise Unauthenticated("authorization must carry a key of ours, got something else")
        wall_s = self._wall_s()
        claims = self._claims(standing.tokens, token, wall_s, now_s)
        client = standing.clients.by_name.get(claims.subject) if standing.clients else None
        until_s = now_s + min(RECHECK_S, claims.expires_s - wall_s)
        return Principal(claims.subject, "token", claims.scopes, self._bucket_of(claims.subject, client), until_s)

    def _claims(self, tokens: Tokens, token: str, wall_s: float, now_s: float) -> Claims:
        cost = 1 + min(len(token), TOKEN_BYTES) // COSTLY_BYTES
        wait_s = self._failures.wait_s(cost, now_s)
        if wait_s > 0:
            raise Overloaded("tokens not seen before must wait: too many false ones came in", wait_s)
        try:
            return tokens.verified(token, wall_s)
        except Unauthenticated:
            self._failures.take(cost, now_s)
            raise

    def _of_certificate(self, standing: _Standing, identities: tuple[bytes, ...], now_s: float) -> Principal:
        if not identities or not self._has_certificates:
            raise Unauthenticated("authorization must be set, got nothing")
        names = [identity.decode(errors="replace") for identity in identities]
        if standing.clients is None:
            # No clients' file: whoever the operator's own authority has signed is a client of every service.
            scopes = frozenset(SCOPES) - {"admin"}
            return Principal(names[0], "certificate", scopes, self._bucket_of(names[0], None), now_s + RECHECK_S)
        for name in names:
            if client := standing.clients.by_certificate.get(name):
                return self._of_client(client, "certificate", now_s)
        raise Unauthenticated("the certificate must be of a client we know, got another")

    def _of_client(self, client: Client, kind: Literal["key", "certificate"], now_s: float) -> Principal:
        bucket = self._bucket_of(client.name, client)
        return Principal(client.name, kind, frozenset(client.scopes), bucket, now_s + RECHECK_S)

    def _bucket_of(self, name: str, client: Client | None) -> Bucket | None:
        """One bucket per client, whatever it shows; it outlives a reading of the files that leaves its rate alone."""
        rate_per_s = client.rate_per_s if client and client.rate_per_s else self._settings.rate_per_s
        if rate_per_s is None:
            return None
        burst = float((client.burst if client else None) or self._settings.burst or max(1.0, rate_per_s))
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None or (bucket.rate_per_s, bucket.burst) != (rate_per_s, burst):
                tally = self._tallies.of(name) if self._tallies is not None else None
                bucket = Bucket(rate_per_s, burst, self._monotonic_s(), tally)
                self._buckets.put(name, bucket)
        return bucket


def _credential(metadata: Metadata, identities: Sequence[bytes]) -> Credential:
    """What the caller shows: the authorization header, else its certificate's identities."""
    header: str | bytes = ""
    for name, value in metadata:
        if name == "authorization":
            if header:
                raise Unauthenticated("authorization must be set once, got it twice")
            header = value
    if isinstance(header, bytes):
        raise Unauthenticated("authorization must be text, got bytes")
    return header or tuple(identities)
