"""Verbs of `stratagem` that need the server alone: `keys new`, `export-log`. Each imports what it needs when it runs.

In: the command line. Out: files, and what a person must know. Put beside the other verbs by cli.py.
"""

from pathlib import Path
from typing import Annotated

import typer

keys = typer.Typer(no_args_is_help=True, help="Clients of the gateway and their keys.")


def add_verbs(app: typer.Typer) -> typer.Typer:
    """Put these verbs beside the others; returns the place for verbs of `bench`."""
    bench = typer.Typer(no_args_is_help=True, help="Load tests of a running gateway.")
    app.add_typer(bench, name="bench")
    app.add_typer(keys, name="keys")
    app.command("export-log")(export_log)
    return bench


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="The client: lower-case letters, digits, dots, hyphens.")],
    scope: Annotated[list[str], typer.Option("--scope", help="A service it may ask, such as strategy; repeatable.")],
    rate: Annotated[float | None, typer.Option("--rate", min=0, help="Rows a second; unset: the server's own.")] = None,
    burst: Annotated[int | None, typer.Option("--burst", min=1, help="Rows at once; unset: the server's own.")] = None,
    into: Annotated[Path | None, typer.Option("--into", help="The clients' file; unset: STRATAGEM_API_KEYS.")] = None,
) -> None:
    """Draw a key, write its hash into the clients' file, and show the key this once."""
    from server.access import keys as entries
    from server.problems import WrongSettings
    from server.settings import load_settings

    file = into or load_settings().api_keys
    if file is None:
        raise WrongSettings("STRATAGEM_API_KEYS must name the clients' file, got nothing; or say --into FILE")
    key, entry = entries.new_key(name, scope, rate, burst)
    entries.add_entry(file, entry)
    typer.echo(f"{name} is in {file}. Its key, which nobody can show again:")
    typer.echo(key)


def export_log(
    log: Annotated[Path | None, typer.Option("--log", help="The durable log; unset: the settings'.")] = None,
    into: Annotated[Path, typer.Option("--into", help="Folder for the Parquet files.")] = Path("build/feedback"),
) -> None:
    """Bring the log's decisions, events, exposures and outcomes into Parquet; what is done is not done again."""
    from server.log_export import export_log as bring
    from server.settings import load_settings

    counts = bring(log or load_settings().log, into, lambda n: typer.echo(f"{n:,} records", err=True))
    typer.echo(", ".join(f"{n:,} {kind}s" for kind, n in counts.items()) + f" in {into}")
