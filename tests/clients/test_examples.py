"""The examples run as the README shows them, and the client stands on the protos alone."""

import ast
import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.faulty import NOBODY, faulty_gateway, shopper_ids
from tests.clients.loops import in_a_loop
from tests.server.doors import Doors

ROOT = Path(__file__).resolve().parents[2]
CLIENT = sorted((ROOT / "clients" / "python").rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST_EXAMPLE = 60


async def ran(example: str, address: str, *words: str, lines: str = "", token: str = "") -> tuple[int, str, str]:
    """Run an example: its exit status, what it said, what it complained of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, f"examples/{example}.py", "--address", address, *words,
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | ({"STRATAGEM_TOKEN": token} if token else {}),
    )  # fmt: skip
    said, complained = await process.communicate(lines.encode())
    return process.returncode or 0, said.decode(), complained.decode()


@in_a_loop
async def test_unary_example_prints_decisions_and_refusals() -> None:
    async with faulty_gateway() as (gateway, address):
        gateway.tokens.add("good")
        status, said, complained = await ran("unary", address, "shopper-1", NOBODY, token="good")
        assert (status, said.splitlines()) == (1, ["shopper-1: do nothing (0.0000 more margin expected for 0.00)"])
        assert complained.startswith("nobody: refused, NOT_FOUND")


@in_a_loop
async def test_stream_example_prints_every_decision() -> None:
    async with faulty_gateway() as (_, address):
        status, said, complained = await ran("stream", address, "--most-open", "9", lines="\n".join(shopper_ids(40)))
        assert (status, len(said.splitlines())) == (0, 40)
        assert complained.startswith("40 decided, 0 refused")


@in_a_loop
async def test_batch_example_prints_the_totals() -> None:
    async with faulty_gateway() as (_, address):
        words = ("--rows", "7", "--show", "2")
        status, said, complained = await ran("batch", address, *words, lines="\n".join(shopper_ids(40)))
        assert (status, complained) == (0, "")
        assert said.splitlines()[2].startswith("40 rows, ")


@in_a_loop
async def test_unary_example_runs_against_the_gateway(doors: Doors) -> None:
    status, said, complained = await ran("unary", doors.gateway.address, "--within-s", "20", "shopper-1", "shopper-2")
    assert (status, complained) == (0, "")
    assert "shopper-2: " in said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_explain_themselves(path: Path) -> None:
    assert path.read_text().count("\n") < LONGEST_EXAMPLE
    told = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=True).stdout
    assert "python -m server" in told
    assert "--address" in told


def test_the_client_needs_the_protos_grpc_and_numpy_only() -> None:
    assert len(EXAMPLES) == 3
    for path in CLIENT:
        tops = {
            module.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for module in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        allowed = {"stratagem_client", "stratagem", "grpc", "google", "numpy"} | sys.stdlib_module_names
        assert tops <= allowed, path
