"""The verbs of `stratagem`: wiring only. Each verb imports what it needs when it runs, so that `--help` is instant."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rich.status import Status
    from stratagem.v1 import strategy_pb2

    from evaluation.report import Strategy
    from server.planner import Planned
    from server.settings import Settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split(":")[0]
)
console = Console(highlight=False)

SHOP, MODELS, DEMO = Path("build/shop"), Path("build/models"), Path("build/demo")
N_LATENCY_CALLS = 300

ShopFolder = Annotated[Path, typer.Option("--shop", help="Canonical tables, as `stratagem ingest` writes them.")]
ModelsFolder = Annotated[Path, typer.Option("--models", help="Trained models, as `stratagem train` writes them.")]
Budget = Annotated[float, typer.Option("--budget", help="What may be spent, ≥ 0, in the shop's currency.")]
Now = Annotated[bool, typer.Option("--now", help="Decide for this moment instead of the shop's last event.")]


class Step:
    """One long step in the terminal: `say` leaves a line, `show` a passing one."""

    def __init__(self, name: str, status: "Status") -> None:
        self._name, self._status, self._began = name, status, time.perf_counter()

    def say(self, words: str) -> None:
        """Leave a line with the seconds that have passed."""
        self.show(words)
        console.print(f"[dim]{time.perf_counter() - self._began:6.1f} s[/]  {self._name}: {words}", soft_wrap=True)

    def show(self, words: str) -> None:
        """Show where the step is; the next words replace these."""
        self._status.update(f"{self._name}: {words}")


@contextmanager
def _step(name: str) -> Iterator[Step]:
    with console.status(name) as status:
        yield Step(name, status)


def main() -> None:
    """Run one verb; a problem we can name ends in one sentence and exit status 1."""
    from kernels.checks import InvalidInput
    from server.gateway.client import Refused
    from server.problems import Problem
    from training.parity import Disagreement
    from training.sources.tables import InvalidTable

    try:
        app()
    except (Problem, InvalidInput, InvalidTable, Disagreement, Refused) as problem:
        sys.exit(f"stratagem: {problem}")


@app.command()
def ingest(
    source: Annotated[
        str, typer.Argument(help="`complete_journey`, or a folder of events, items, ... as CSV, JSON Lines or Parquet.")
    ],
    into: Annotated[Path, typer.Option("--into", help="Folder for the canonical tables.")] = SHOP,
    currency: Annotated[
        str, typer.Option("--currency", help="ISO 4217 code of the money in a shop's own files.")
    ] = "USD",
) -> None:
    """Bring a shop's data into the canonical tables, cleaned; docs/schema.md says what they hold."""
    from training.sources.shop import ingest as bring_in

    with _step("ingest") as step:
        report = bring_in(source, into, step.say, currency)
        step.say(", ".join(f"{n_rows:,} {table}" for table, n_rows in report.rows.items()))
        for note in report.notes:
            step.say(note)


@app.command()
def train(
    shop: ShopFolder = SHOP,
    into: Annotated[Path, typer.Option("--into", help="Folder for checkpoints and evidence.")] = MODELS,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few epochs: to see that everything works, not to use.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Train even if nothing has changed.")] = False,
) -> None:
    """Train response, uplift and recommendation, each beside its simple rival; a killed run continues."""
    import orjson

    from evaluation.page import losses, model_tables
    from training.fit import train as fit
    from training.freshness import digest_of, is_fresh, sources_of

    with _step("train") as step:
        stamp = into / "trained"
        digest = digest_of([shop / "shop.json", *sources_of("kernels", "training")], f"quick={quick}")
        if not again and is_fresh(stamp, digest):
            step.say(f"{into} is up to date")
        else:
            stamp.unlink(missing_ok=True)
            fit(shop, into, progress=step.say, quick=quick)
            stamp.write_text(digest)
    evaluation = orjson.loads((into / "evaluation.json").read_bytes())
    for title, table in model_tables(evaluation):
        _print_table(title, table.titles, table.rows)
    for sentence in losses(evaluation):
        console.print(f"[yellow]{sentence}[/]")


@app.command()
def export(
    shop: ShopFolder = SHOP,
    models: ModelsFolder = MODELS,
    again: Annotated[bool, typer.Option("--again", help="Export even if nothing has changed.")] = False,
) -> None:
    """Write the model repository, once torch, ONNX Runtime and a real Triton agree on held-out rows."""
    from server.problems import WrongRepository
    from server.repository import open_repository
    from server.settings import load_settings
    from training.freshness import digest_of, is_fresh, sources_of

    settings = load_settings()
    with _step("export") as step:
        stamp = models / "exported"
        digest = digest_of(
            [*sorted(models.glob("*/model.pt")), *sources_of("kernels", "training")],
            str(settings.repository.absolute()),
        )
        try:
            release = open_repository(settings.repository).release
        except WrongRepository:
            release = ""
        if release and not again and is_fresh(stamp, f"{digest} {release}"):
            step.say(f"{settings.repository} is up to date: release {release}")
            return
        _export(shop, models, settings, step)
        release = open_repository(settings.repository).release
        stamp.write_text(f"{digest} {release}")
        step.say(f"release {release} stands in {settings.repository}")


def _export(shop: Path, models: Path, settings: "Settings", step: Step) -> None:
    from dataclasses import asdict

    from server.triton.client import Models
    from server.triton.process import started
    from training.export import Answers, export

    @contextmanager
    def serve(staged: Path) -> Iterator[Answers]:
        # Always a Triton of our own: one that somebody else runs does not serve what is being checked.
        with started(staged, folder=settings.triton) as triton:
            models = Models(triton.address)
            yield lambda features, item_history: asdict(models.predict_now(features, item_history))

    for model, parity in export(shop, models, settings.repository, serve, step.say).items():
        step.say(f"{model} against torch: ONNX Runtime {parity.onnxruntime:.1e}, Triton {parity.triton:.1e} at most")


@app.command()
def plan(budget: Budget = 60.0, shop: ShopFolder = SHOP, now: Now = False) -> None:
    """Plan one budget over every shopper and every channel, and write it where the gateway finds it."""
    from server.planner import micros_of
    from server.settings import load_settings
    from server.triton.process import serving

    settings, budget_micros = load_settings(), micros_of(budget)
    with _step("plan") as step, serving(settings.repository, folder=settings.triton) as triton:
        _load_states(settings, shop, step)
        _say_plan(_plan(settings, triton, budget_micros, now, step))


def _plan(settings: "Settings", triton: str, budget_micros: int, now: bool, step: Step) -> "Planned":
    from server.planner import plan_everybody

    at_s = _moment(settings, now)
    return plan_everybody(settings, triton, at_s, budget_micros, lambda n: step.show(f"{n:,} shoppers priced"))


def _say_plan(made: "Planned") -> None:
    from server.strategy.plan import n_treated
    from server.strategy.reasons import money

    def amount(micros: float) -> str:
        return money(round(micros), made.currency_code)

    plan = made.plan
    reached = f"{n_treated(plan):,} of {len(made.shopper_ids):,} shoppers"
    console.print(
        f"Plan {made.plan_id} reaches {reached}: {amount(plan.spend_micros)} of {amount(plan.budget_micros)} for "
        f"{amount(plan.value_micros)} of expected extra margin. No plan can bring more than "
        f"{amount(plan.dual_bound_micros)}; the next unit of budget would bring λ = {plan.shadow_price:.3g}."
    )
    rows = [
        (total.channel, f"{total.n_shoppers:,}", amount(total.cost_micros), amount(total.value_micros))
        for total in plan.channels
    ]
    _print_table("Where the budget goes", ("channel", "shoppers", "spend", "expected extra margin"), rows)


@app.command()
def serve(
    shop: ShopFolder = SHOP,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = None,
) -> None:
    """Start Triton and the gateway, and serve until Ctrl-C or SIGTERM."""
    from server.gateway.assembly import check_port, run
    from server.repository import open_repository
    from server.settings import load_settings

    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    with _step("serve") as step:
        check_port(settings)
        open_repository(settings.repository)
        _load_states(settings, shop, step)
    run(
        settings,
        lambda address: console.print(f"ready: gRPC on {address}, without TLS, this machine only; Ctrl-C stops it"),
    )


@app.command()
def decide(
    shopper_ids: Annotated[list[str], typer.Argument(help="Whom to decide for.")],
    address: Annotated[
        str, typer.Option("--address", help="The gateway's address; unset: the settings' host and port.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
    now: Now = False,
) -> None:
    """Ask a running gateway what to do for shoppers, and print why."""
    from google.protobuf import json_format

    from server.gateway.client import decisions
    from server.settings import load_settings

    settings = load_settings()
    address = address or f"{settings.host}:{settings.port}"
    for decision in decisions(address, shopper_ids, _moment(settings, now)):
        if as_json:
            print(json_format.MessageToJson(decision, preserving_proto_field_name=True))
        else:
            _print_decision(decision)


@app.command()
def doctor() -> None:
    """Say what is installed, what answers, what is missing and how to get it."""
    from server.doctor import examine
    from server.settings import load_settings

    settings, is_well = load_settings(), True
    for finding in examine(settings, settings.triton):
        mark = "[green]ok[/]  " if finding.is_ok else "[red]no[/]  " if finding.is_needed else "[yellow]--[/]  "
        console.print(f"{mark}{finding.part:<20}{finding.found}", soft_wrap=True)
        if not finding.is_ok:
            console.print(f"    {'':<20}{finding.remedy}", style="dim", soft_wrap=True)
        is_well = is_well and (finding.is_ok or not finding.is_needed)
    raise typer.Exit(0 if is_well else 1)


@app.command()
def demo(budget: Budget = 60.0) -> None:
    """Turn a real shop's year into a budgeted, served strategy with reasons, and a report to look at."""
    from statistics import median

    from server.gateway.client import decisions, gateway_process, latency_ms
    from server.planner import micros_of, worth_seeing
    from server.settings import load_settings
    from server.triton.process import serving

    began, budget_micros = time.perf_counter(), micros_of(budget)
    # A state of its own, made anew: what the demo spends must not eat into anybody's budget, nor its next run's.
    own = {name: DEMO / name for name in ("state", "log", "plan")}
    for folder in own.values():
        shutil.rmtree(folder, ignore_errors=True)
    ingest("complete_journey")
    train()
    export()
    settings = load_settings().model_copy(update={**own, "port": 0})
    with serving(settings.repository, folder=settings.triton) as triton:
        with _step("plan") as step:
            _load_states(settings, SHOP, step)
            made = _plan(settings, triton, budget_micros, False, step)
        _say_plan(made)
        with gateway_process(settings, triton, DEMO / "gateway.log") as address, _step("decide") as step:
            shown = decisions(address, worth_seeing(made), made.at_s)
            taken_ms = latency_ms(address, made.shopper_ids, made.at_s, N_LATENCY_CALLS)
            step.say(f"{N_LATENCY_CALLS} decisions over loopback, one at a time: median {median(taken_ms):.1f} ms")
    for decision in shown:
        _print_decision(decision)
    report = _write_report(settings, shown, taken_ms)
    console.print(f"report: {report} (open it in a browser); {time.perf_counter() - began:.0f} s in all")


def _write_report(settings: "Settings", decisions: "list[strategy_pb2.Decision]", latency_ms: list[float]) -> Path:
    import orjson

    from evaluation.page import page_of
    from evaluation.report import html

    file = DEMO / "report.html"
    plan, evaluation = (
        orjson.loads(file.read_bytes()) for file in (settings.plan / "plan.json", MODELS / "evaluation.json")
    )
    file.write_text(html(page_of(plan, evaluation, [_strategy(decision) for decision in decisions], latency_ms)))
    return file


def _strategy(decision: "strategy_pb2.Decision") -> "Strategy":
    from evaluation.report import Strategy
    from server.gateway.client import action_in_words, economics_in_words

    reasons = [reason.words for reason in decision.reasons]
    return Strategy(decision.shopper_id, action_in_words(decision), economics_in_words(decision), reasons)


def _print_decision(decision: "strategy_pb2.Decision") -> None:
    from rich.panel import Panel

    shown = _strategy(decision)
    economics = "   ".join(f"{label} {amount}" for label, amount in shown.economics)
    reasons = "\n".join(f"• {reason}" for reason in shown.reasons)
    console.print(
        Panel(
            f"[bold]{shown.action}[/]\n{economics}\n{reasons}",
            title=f"shopper {decision.shopper_id}",
            title_align="left",
        )
    )


def _moment(settings: "Settings", now: bool) -> int:
    """The moment to decide for: a shop whose data ends in the past is asked about its last event."""
    from server.repository import open_repository

    return int(time.time()) if now else open_repository(settings.repository).catalogue.as_of_s


def _load_states(settings: "Settings", shop: Path, step: Step) -> None:
    """Bring every shopper's state up to date, unless the same shop under the same vocabulary is loaded already."""
    from server.repository import open_repository
    from server.state.embedded import EmbeddedStates
    from server.state.loading import sent_of, shoppers_of
    from training.dataset import dataset_of
    from training.freshness import digest_of, is_fresh
    from training.sources.shop import read_shop

    repository = open_repository(settings.repository)
    stamp = settings.state / "loaded"
    digest = digest_of([shop / "shop.json"], repository.vocabulary)
    if is_fresh(stamp, digest):
        return
    shutil.rmtree(settings.state, ignore_errors=True)
    dataset = dataset_of(read_shop(shop))
    states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib)
    try:
        ids, sent = dataset.vocabulary.shopper_ids, sent_of(dataset.shop.exposures)
        loaded = states.load(shoppers_of(dataset.ledger, ids, sent, repository.catalogue.items))
    finally:
        states.close()
    stamp.write_text(digest)
    step.say(f"{loaded:,} shoppers' states from {dataset.ledger.n_events:,} events")


def _print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
