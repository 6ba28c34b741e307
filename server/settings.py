"""What an operator may choose, checked at the door: `STRATAGEM_PORT=9000 python -m server`.

In: environment variables with the prefix STRATAGEM_. Out: one frozen Settings, or one sentence saying what is wrong.
Read by `python -m server` and by cli.py; handed down as an argument from there, never read again inside.
"""

from pathlib import Path

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
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8470, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

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
    reserve_s: float = Field(default=0.004, ge=0, le=1, description="Time kept back for the log and the answer.")
    gather_s: float = Field(default=0.0003, ge=0, le=0.1, description="How long a micro-batch waits for company.")
    batch_rows: int = Field(
        default=256, ge=1, le=256, description="Rows of one micro-batch; Triton's own limit is 256."
    )
    request_rows: int = Field(default=100_000, ge=1, le=1_000_000, description="Rows of one columnar request.")
    message_mib: int = Field(default=32, ge=1, le=1024, description="Largest message in and out.")
    remembered_decisions: int = Field(
        default=10_000, ge=0, description="Decisions kept so that a retry gets the same one."
    )
    drain_s: float = Field(default=10.0, ge=0, le=600, description="Time for running calls after SIGTERM.")
    state_mib: int = Field(default=4096, ge=1, description="Largest size of the shoppers' states on disk.")

    @property
    def economics(self) -> Economics:
        """The shop's own figures, as the strategy wants them."""
        return Economics(self.margin_share, self.contact_cost_micros, self.risk_loss_micros, self.contacts_cap)


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
        raise WrongSettings(f"{name}: {rule}, got {first['input']!r}") from None
    missing = sorted({"ads", "promotions", "content", "social"} - set(settings.contact_cost_micros))
    if missing:
        raise WrongSettings(f"STRATAGEM_CONTACT_COST_MICROS must have a cost for {missing[0]}, got none")
    for channel, cost in settings.contact_cost_micros.items():
        if cost < 0:
            raise WrongSettings(f"STRATAGEM_CONTACT_COST_MICROS must be ≥ 0, got {cost} ({channel})")
    return settings
