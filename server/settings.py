"""What an operator may choose, checked at the door: `STRATAGEM_PORT=9000 python -m server`.

In: environment variables with the prefix STRATAGEM_. Out: one frozen Settings, or one sentence saying what is wrong.
Read by `python -m server` and by cli.py; handed down as an argument from there, never read again inside.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.problems import WrongSettings
from server.strategy.catalogue import ChannelName
from server.strategy.economics import Economics


class Settings(BaseSettings):
    """Every setting with its unit and range. Amounts are millionths of the shop's currency."""

    model_config = SettingsConfigDict(env_prefix="STRATAGEM_", frozen=True, extra="ignore")

    repository: Path = Field(default=Path("model_repository"), description="What Triton serves, with its manifest.")
    state: Path = Field(default=Path("build/state"), description="Shoppers' states (LMDB).")
    log: Path = Field(default=Path("build/log"), description="The durable log of decisions and feedback.")
    plan: Path = Field(default=Path("build/plan"), description="The plan whose shadow price and budget are used.")
    triton: Path = Field(default=Path("build/triton"), description="Triton's own environment and its logs.")
    triton_door: bool = Field(
        default=False, description="Whether a Triton of our own hosts the model `decide`, for callers of triton_port."
    )
    triton_port: int = Field(
        default=0, ge=0, le=65535, description="Port of the gRPC door of a Triton of our own; 0 takes a free one."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8470, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(default=1, ge=0, le=256, description="Processes that serve on the one port; 0: one per core.")
    pin_cores: bool = Field(default=False, description="Whether each of several workers keeps to a core of its own.")
    connection_age_s: float = Field(
        default=30.0,
        ge=1,
        le=86_400,
        description="Age at which several workers ask a client to connect anew; a rolling restart waits as long.",
    )

    margin_share: float = Field(default=0.25, gt=0, le=1, description="Margin on one unit of spend.")
    contact_cost_micros: dict[ChannelName, int] = Field(
        default={"ads": 30_000, "promotions": 50_000, "content": 5_000, "social": 10_000},
        description="Cost of reaching a shopper once, by channel, ≥ 0.",
    )
    risk_loss_micros: int = Field(
        default=0, ge=0, description="Expected loss to abuse of one offer; 0 until a model says more."
    )
    contacts_cap: float = Field(
        default=6.0, gt=0, description="Contacts, halved every 28 days, from which on we stay silent."
    )
    explore_share: float = Field(
        default=0.02, ge=0, le=1, description="Share of decisions drawn at random, to learn from."
    )
    explore_key: SecretStr = Field(default=SecretStr("stratagem"), description="Secret of the draws.")

    decide_within_s: float = Field(default=0.25, gt=0, le=60, description="Time for a request that brings no deadline.")
    bulk_within_s: float = Field(
        default=60.0, gt=0, le=3600, description="Time for a columnar request without deadline."
    )
    reserve_s: float = Field(default=0.004, ge=0, le=1, description="Time kept back for the log and the answer.")
    models_within_s: float = Field(
        default=0.5, gt=0, le=60, description="Time for the models, however patient the caller is."
    )
    vector_bound_s: float = Field(
        default=5.0, ge=0, le=3600, description="How long an event may wait until a decision's vector knows it."
    )
    deciders: int = Field(default=2, ge=1, le=64, description="Micro-batches on their way at the same time.")
    bulk_deciders: int = Field(default=3, ge=1, le=64, description="Pieces of columnar requests at the same time.")
    door_threads: int = Field(default=4, ge=1, le=64, description="Threads for everything that is not a decision.")
    feedback_threads: int = Field(default=16, ge=1, le=256, description="Requests of feedback taken in together.")
    connection_calls: int = Field(
        default=1_024, ge=1, description="Calls on their way at once over one connection; more wait with their caller."
    )
    queue_rows: int = Field(default=2_048, ge=1, description="Asks that may wait; more are refused at once.")
    queue_s: float = Field(default=0.05, gt=0, le=60, description="Wait from which on asks are refused at once.")
    remembered_predictions: int = Field(
        default=100_000, ge=0, description="Shoppers whose predictions stand in when the models do not answer."
    )
    gather_s: float = Field(
        default=0.003, ge=0, le=0.1, description="Longest wait of an ask for company, beside a running micro-batch."
    )
    batch_rows: int = Field(
        default=256, ge=1, le=256, description="Rows of one micro-batch; Triton's own limit is 256."
    )
    request_rows: int = Field(default=100_000, ge=1, le=1_000_000, description="Rows of one columnar request.")
    message_mib: int = Field(default=32, ge=1, le=1024, description="Largest message in and out.")
    remembered_decisions: int = Field(
        default=10_000, ge=0, description="Decisions kept so that a retry gets the same one."
    )
    drain_s: float = Field(default=10.0, ge=0, le=600, description="Time for running calls after SIGTERM.")
    tls_certificate: Path | None = Field(default=None, description="Our certificate and its chain, PEM; unset: no TLS.")
    tls_key: Path | None = Field(default=None, description="The private key of tls_certificate, PEM, not encrypted.")
    tls_client_ca: Path | None = Field(
        default=None, description="Who signs the clients' certificates, PEM; set, every client must bring one."
    )
    # RFC 7518, 3.2: an HS256 secret is at least as long as its hash.
    jwt_secret: SecretStr | None = Field(default=None, min_length=32, description="Secret of HS256 tokens.")
    jwt_public_key: Path | None = Field(
        default=None, description="Public keys of RS256, ES256, ES384 and EdDSA tokens: PEM, one or several, or a JWKS."
    )
    jwt_issuer: str | None = Field(default=None, description="What a token's iss must be; unset: anything.")
    jwt_audience: str = Field(default="stratagem", min_length=1, description="What a token's aud must contain.")
    api_keys: Path | None = Field(default=None, description="The clients, their hashed keys, scopes and rates, TOML.")
    allow_anonymous: bool = Field(
        default=False, description="Whether anybody may call from beyond this machine, no caller known."
    )
    rate_per_s: float | None = Field(
        default=None, gt=0, le=1e9, description="Rows a second of one client, all workers together; unset: no limit."
    )
    burst: int | None = Field(
        default=None, ge=1, le=10**9, description="Rows of one client at once; unset: one second's worth."
    )
    reflection: bool = Field(default=False, description="Whether the server describes its services to who may ask.")
    state_mib: int = Field(default=4096, ge=1, description="Largest size of the shoppers' states on disk.")
    resident_mib: int = Field(
        default=192,
        ge=0,
        description="What of the states may count as one process's memory, about; 0: all that was read.",
    )

    metrics_host: str = Field(default="127.0.0.1", description="Address of the metrics page.")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the first worker's metrics page; unset: none; 0: a free one."
    )
    log_format: Literal["text", "json"] | None = Field(
        default=None, description="How stderr is written; unset: text on a terminal, JSON lines elsewhere."
    )
    slow_ms: float = Field(default=100.0, ge=0, description="Decisions that took at least so long are logged.")
    traces_endpoint: str = Field(
        default="",
        pattern=r"^$|^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="OTLP/HTTP collector, such as http://127.0.0.1:4318; empty: no traces.",
    )
    traces_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of the calls traced whose caller brings no traceparent."
    )

    @property
    def economics(self) -> Economics:
        """The shop's own figures, as the strategy wants them."""
        return Economics(self.margin_share, self.contact_cost_micros, self.risk_loss_micros, self.contacts_cap)


_SECRETS = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
_SECRETS.add("traces_endpoint")  # refused with a password in it, and then not repeated


def load_settings() -> Settings:
    """Read the settings from the environment.

    raises  WrongSettings  naming the first setting that breaks its rule
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "STRATAGEM_" + "_".join(str(part) for part in first["loc"]).upper()
        rule = first["msg"][0].lower() + first["msg"][1:]
        is_secret = str(first["loc"][0]) in _SECRETS
        raise WrongSettings(f"{name}: {rule}" + ("" if is_secret else f", got {first['input']!r}")) from None
    missing = sorted({"ads", "promotions", "content", "social"} - set(settings.contact_cost_micros))
    if missing:
        raise WrongSettings(f"STRATAGEM_CONTACT_COST_MICROS must have a cost for {missing[0]}, got none")
    for channel, cost in settings.contact_cost_micros.items():
        if cost < 0:
            raise WrongSettings(f"STRATAGEM_CONTACT_COST_MICROS must be ≥ 0, got {cost} ({channel})")
    return settings
