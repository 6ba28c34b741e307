"""The verbs of `stratagem`: wiring only. Each verb imports what it needs when it runs, so that `--help` is instant."""

import shutil
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation import terminal
from server.verbs import add_verbs

if TYPE_CHECKING:
    from typing import Any

    from stratagem.v1 import strategy_pb2

    from evaluation.report import Strategy
    from server.planner import Planned
    from server.settings import Settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split(":")[0]
)

bench = add_verbs(app)
SHOP, FEATURES, MODELS, DEMO, LOAD = (Path("build") / name for name in ("shop", "features", "models", "demo", "load"))
N_LATENCY_CALLS = 300
MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

ShopFolder = Annotated[Path, typer.Option("--shop", help="Canonical tables, as `stratagem ingest` writes them.")]
ModelsFolder = Annotated[Path, typer.Option("--models", help="Trained models, as `stratagem train` writes them.")]
Budget = Annotated[float, typer.Option("--budget", help="What may be spent, ≥ 0, in the shop's currency.")]
Now = Annotated[bool, typer.Option("--now", help="Decide for this moment instead of the shop's last event.")]


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
def inspect(
    source: Annotated[str, typer.Argument(help="A file, a glob, s3://bucket/prefix/, or a database's address.")],
    into: Annotated[Path | None, typer.Option("--into", help="Write the proposal here, such as shop.toml.")] = None,
) -> None:
    """Propose a shop.toml from the data, and say what is unsure; docs/shop_toml.md explains every key."""
    from training.sources.inspection import propose
    from training.sources.tables import InvalidTable

    if into is not None and into.exists():
        raise InvalidTable(f"{into} exists already; name another file, or remove it")
    proposal = propose(source)
    if into is None:
        print(proposal.text)  # its comments hold the doubts
    else:
        into.write_text(proposal.text)
        terminal.console.print(f"{into} fills {', '.join(proposal.tables) or 'no table yet'}", soft_wrap=True)
        for doubt in proposal.doubts:
            terminal.warn(f"unsure: {doubt}")
    raise typer.Exit(0 if proposal.is_usable else 1)


@app.command()
def ingest(
    source: Annotated[
        str,
        typer.Argument(help="A shop.toml, a folder with one, a folder of canonical files, or `complete_journey`."),
    ],
    into: Annotated[Path, typer.Option("--into", help="Folder for the canonical tables.")] = SHOP,
    currency: Annotated[
        str, typer.Option("--currency", help="ISO 4217 code of the money where no shop.toml says it.")
    ] = "USD",
) -> None:
    """Bring a shop's data into the canonical tables (docs/schema.md), cleaned, and report what was done."""
    from evaluation.ingest_page import html
    from training.sources.shop import CLEANING, STAMP
    from training.sources.shop import ingest as bring_in

    with terminal.step("ingest") as step:
        report = bring_in(source, into, step.say, currency)
        page = into / "ingest.html"
        page.write_text(html(*(_json(into / name) for name in (CLEANING, STAMP))))
        step.say(", ".join(f"{n_rows:,} {table}" for table, n_rows in report.rows.items()))
        step.say(f"{report.n_quarantined:,} rows in {into / 'quarantine.parquet'}; what was done and why: {page}")


@app.command()
def features(
    shop: ShopFolder = SHOP,
    into: Annotated[Path, typer.Option("--into", help="Folder for the feature tables.")] = FEATURES,
    at: Annotated[
        datetime | None,
        typer.Option("--at", formats=MOMENTS, help="Ask as of this moment; unset: after the last event."),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Embed texts too, through Triton: some 60 English ones a second.")
    ] = False,
) -> None:
    """Write every feature of shoppers, items, events and texts as Parquet; docs/features.md says what they mean."""
    from server.settings import load_settings
    from server.triton.text import asking
    from training.features.assembly import Options, write_features
    from training.text.embedding import Embedder

    at_s = None if at is None else int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    with terminal.step("features") as step:
        embedder = Embedder(
            load_settings().repository, partial(asking, load_settings().triton), into.with_name("embeddings"), step.show
        )
        write_features(shop, into, step.say, Options(at_s=at_s, embed=embedder if embed else None))


@app.command()
def train(
    shop: ShopFolder = SHOP,
    into: Annotated[Path, typer.Option("--into", help="Folder for checkpoints and evidence.")] = MODELS,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few epochs: to see that everything works, not to use.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Train even if nothing has changed.")] = False,
) -> None:
    """Train every model beside its simple rival; a killed run continues, and torchrun's workers train as one."""
    from evaluation.page import losses, model_tables
    from training.fit import train as fit
    from training.freshness import digest_of, is_fresh, sources_of
    from training.workers import is_first_worker

    terminal.console.quiet = not is_first_worker()  # under torchrun one worker speaks for all
    with terminal.step("train") as step:
        stamp = into / "trained"
        digest = digest_of([shop / "shop.json", *sources_of("kernels", "training")], f"quick={quick}")
        if not again and is_fresh(stamp, digest):
            step.say(f"{into} is up to date")
        else:
            stamp.unlink(missing_ok=True)
            fit(shop, into, progress=step.say, quick=quick)
            if not is_first_worker():
                return
            stamp.write_text(digest)
    evaluation = _json(into / "evaluation.json")
    for title, table in model_tables(evaluation):
        terminal.say_table(title, table.titles, table.rows)
    for sentence in losses(evaluation):
        terminal.warn(sentence)


@app.command()
def export(
    shop: ShopFolder = SHOP,
    models: ModelsFolder = MODELS,
    again: Annotated[bool, typer.Option("--again", help="Export even if nothing has changed.")] = False,
    accept_losses: Annotated[
        bool, typer.Option("--accept-losses", help="Ship a model even if it lost to a simple rival.")
    ] = False,
) -> None:
    """Write the model repository, once torch, ONNX Runtime and a real Triton agree on held-out rows."""
    from server.problems import WrongRepository
    from server.repository import open_repository
    from server.settings import load_settings
    from training.freshness import digest_of, is_fresh, sources_of

    settings = load_settings()
    with terminal.step("export") as step:
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
        _export(shop, models, settings, accept_losses, step)
        release = open_repository(settings.repository).release
        stamp.write_text(f"{digest} {release}")
        step.say(f"release {release} stands in {settings.repository}")


def _export(shop: Path, models: Path, settings: "Settings", accept_losses: bool, step: terminal.Step) -> None:
    from server.triton.asking import answering
    from training.export import Exported, export

    asked = Exported(shop, models, settings.repository, accept_losses)
    for model, parity in export(asked, partial(answering, settings.triton), step.say).items():
        step.say(f"{model} against torch: ONNX Runtime {parity.onnxruntime:.1e}, Triton {parity.triton:.1e} at most")


@app.command()
def plan(budget: Budget = 60.0, shop: ShopFolder = SHOP, now: Now = False) -> None:
    """Plan one budget over every shopper and every channel, and write it where the gateway finds it."""
    from server.planner import micros_of
    from server.settings import load_settings
    from server.triton.process import serving

    settings, budget_micros = load_settings(), micros_of(budget)
    with terminal.step("plan") as step, serving(settings.repository, folder=settings.triton) as triton:
        _load_states(settings, shop, step)
        made = _plan(settings, triton, budget_micros, now, step)
    terminal.say_plan(made.plan_id, made.plan, made.currency_code)


def _plan(settings: "Settings", triton: str, budget_micros: int, now: bool, step: terminal.Step) -> "Planned":
    from server.planner import plan_everybody

    at_s = _moment(settings, now)
    return plan_everybody(settings, triton, at_s, budget_micros, lambda n: step.show(f"{n:,} shoppers priced"))


@app.command()
def serve(
    shop: ShopFolder = SHOP,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = None,
) -> None:
    """Start Triton and the gateway, and serve until Ctrl-C or SIGTERM."""
    from server.gateway.assembly import check_port
    from server.repository import open_repository
    from server.serving import run
    from server.settings import load_settings

    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    with terminal.step("serve") as step:
        check_port(settings)
        open_repository(settings.repository)
        _load_states(settings, shop, step)
    how = "without TLS, this machine only" if settings.tls_certificate is None else "with TLS"
    run(settings, lambda address: terminal.console.print(f"ready: gRPC on {address}, {how}; Ctrl-C stops it"))


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
            terminal.say_strategy(_strategy(decision))


@bench.command("load")
def bench_load(
    address: Annotated[str, typer.Option("--address", help="The gateway's address; unset: the settings'.")] = "",
    token: Annotated[str, typer.Option("--token", envvar="STRATAGEM_TOKEN", help="Token or key of a client.")] = "",
    root: Annotated[Path | None, typer.Option("--root", help="Authority of the gateway's certificate, PEM.")] = None,
    pid: Annotated[int | None, typer.Option("--pid", help="The gateway's process, to watch its memory.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Seconds instead of a quarter of an hour.")] = False,
    into: Annotated[Path, typer.Option("--into", help="Folder for load.json, load.html and load.svg.")] = LOAD,
) -> None:
    """Load a running gateway: where it is saturated, latency below and above that, a soak and a spike, as a page."""
    from evaluation.load_page import write
    from server.load.bench import QUICK, Lengths, shop_loaded
    from server.load.bench import bench_load as measured
    from server.load.target import Target
    from server.settings import load_settings

    settings = load_settings()
    target = Target(address or f"{settings.host}:{settings.port}", token, root)
    with terminal.step("bench load") as step:
        told = measured(shop_loaded(settings, target, pid), QUICK if quick else Lengths(), step.say)
        step.say(f"the curve: {write(told, into)} (open it in a browser)")


@app.command()
def doctor() -> None:
    """Say what is installed, what answers, what is missing and how to get it."""
    from server.doctor import examine
    from server.settings import load_settings

    settings = load_settings()
    raise typer.Exit(0 if terminal.say_findings(examine(settings, settings.triton)) else 1)


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
        with terminal.step("plan") as step:
            _load_states(settings, SHOP, step)
            made = _plan(settings, triton, budget_micros, False, step)
        terminal.say_plan(made.plan_id, made.plan, made.currency_code)
        with gateway_process(settings, triton, DEMO / "gateway.log") as address, terminal.step("decide") as step:
            shown = decisions(address, worth_seeing(made), made.at_s)
            taken_ms = latency_ms(address, made.shopper_ids, made.at_s, N_LATENCY_CALLS)
            step.say(f"{N_LATENCY_CALLS} decisions over loopback, one at a time: median {median(taken_ms):.1f} ms")
    for decision in shown:
        terminal.say_strategy(_strategy(decision))
    report = _write_report(settings, shown, taken_ms)
    terminal.console.print(f"report: {report} (open it in a browser); {time.perf_counter() - began:.0f} s in all")


def _write_report(settings: "Settings", decisions: "list[strategy_pb2.Decision]", latency_ms: list[float]) -> Path:
    from evaluation.page import page_of
    from evaluation.report import html

    file = DEMO / "report.html"
    plan, evaluation = (_json(file) for file in (settings.plan / "plan.json", MODELS / "evaluation.json"))
    file.write_text(html(page_of(plan, evaluation, [_strategy(decision) for decision in decisions], latency_ms)))
    return file


def _strategy(decision: "strategy_pb2.Decision") -> "Strategy":
    from evaluation.report import Strategy
    from server.gateway.client import action_in_words, economics_in_words

    reasons = [reason.words for reason in decision.reasons]
    return Strategy(decision.shopper_id, action_in_words(decision), economics_in_words(decision), reasons)


def _json(file: Path) -> "Any":
    import orjson

    return orjson.loads(file.read_bytes())


def _moment(settings: "Settings", now: bool) -> int:
    """The moment to decide for: a shop whose data ends in the past is asked about its last event."""
    from server.repository import open_repository

    return int(time.time()) if now else open_repository(settings.repository).catalogue.as_of_s


def _load_states(settings: "Settings", shop: Path, step: terminal.Step) -> None:
    """Bring every shopper's state up to date, unless the same shop under the same vocabulary is loaded already."""
    from server.repository import open_repository
    from server.state.embedded import EmbeddedStates
    from server.state.loading import sent_of, shoppers_of
    from training.dataset import dataset_of
    from training.freshness import digest_of, is_fresh, sources_of
    from training.sources.shop import read_shop

    repository = open_repository(settings.repository)
    stamp = settings.state / "loaded"
    digest = digest_of([shop / "shop.json", *sources_of("kernels")], repository.vocabulary)
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


if __name__ == "__main__":
    main()
