"""The protos are all that a client in another language needs: one in Node, against the real gateway and a faulty one.

In: nothing. Out: what decide.mjs prints, compared with what the gateways decided.
"""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.faulty import Fault, faulty_gateway, shopper_ids
from tests.clients.loops import in_a_loop
from tests.requirements import missing, require_program
from tests.server.doors import Doors
from tests.tiny_repository import AS_OF_S

NODE = Path(__file__).resolve().parents[2] / "clients" / "node"
NAMES = [f"shopper-{n}" for n in range(10)]
UNREACHABLE = r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT)\b"
INSTALL_WITHIN_S, CALL_WITHIN_S = 120, 60


@pytest.fixture(scope="module")
def node_modules() -> None:
    """What the lock file pins, installed."""
    require_program("node", "nodejs")
    require_program("npm", "npm")
    installed = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=NODE, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False,
    )  # fmt: skip
    if re.search(UNREACHABLE, installed.stderr):
        missing("npm reaches no registry, so the packages of clients/node cannot be installed")
    assert installed.returncode == 0, installed.stderr


async def decided(way: str, address: str, *words: str) -> tuple[int, list[dict], str]:
    """Run decide.mjs: its exit status, its JSON lines, its complaints."""
    process = await asyncio.create_subprocess_exec(
        "node", "decide.mjs", way, "--address", address, "--within-ms", "20000", *words,
        cwd=NODE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said, complained = await asyncio.wait_for(process.communicate(), CALL_WITHIN_S)
    lines = [json.loads(line) for line in said.decode().splitlines()]
    return process.returncode or 0, lines, complained.decode()


def summary(decision: dict) -> tuple[object, ...]:
    """What every way of asking must agree on."""
    action = decision["action"]
    return decision["shopper_id"], action["kind"], action["item_ids"], decision["value_micros"], decision["rung"]


@pytest.mark.usefixtures("node_modules")
@in_a_loop
async def test_node_decides_one_by_one_and_in_columns(doors: Doors) -> None:
    at = ("--time-s", str(AS_OF_S))
    status, single, complaint = await decided("unary", doors.gateway.address, *at, *NAMES)
    assert (status, complaint) == (0, "")
    assert [decision["shopper_id"] for decision in single] == NAMES
    assert {decision["rung"] for decision in single} == {"RUNG_FULL"}
    status, rows, complaint = await decided("batch", doors.gateway.address, *at, "--rows", "4", *NAMES, "nobody")
    assert (status, complaint) == (0, "")
    assert [summary(row) for row in rows[:10]] == [summary(decision) for decision in single]
    assert rows[10]["status"] == "ROW_STATUS_UNKNOWN_SHOPPER"
    assert rows[9]["decision_id"].endswith(".2/1")
    status, streamed, complaint = await decided("stream", doors.gateway.address, *at, *NAMES)
    assert (status, complaint) == (0, "")
    assert sorted(map(summary, streamed)) == sorted(map(summary, single))


@pytest.mark.usefixtures("node_modules")
@in_a_loop
async def test_node_reads_answers_out_of_order_and_repeats_what_is_safe() -> None:
    names = [f"held-{n}" if n % 3 == 0 else f"shopper-{n}" for n in range(30)]
    async with faulty_gateway() as (gateway, address):
        status, streamed, complaint = await decided("stream", address, *names)
        assert (status, complaint) == (0, "")
        assert {decision["shopper_id"]: decision["decision_id"] for decision in streamed} == {
            made.shopper_id: made.decision_id for made in gateway.decisions.values()
        }
        gateway.requests.clear()
        gateway.faults.append(Fault(is_after=True))
        status, single, _ = await decided("unary", address, "shopper-1")
        assert (status, len(gateway.requests)) == (0, 2)
        assert len({request.decision_id for request in gateway.requests}) == 1
        assert single[0]["decision_id"] == gateway.requests[0].decision_id
        status, rows, _ = await decided("batch", address, "--rows", "7", "Käthe", *shopper_ids(20))
        assert [row["shopper_id"] for row in rows] == ["Käthe", *shopper_ids(20)]
        assert [row["value_micros"] for row in rows] == [
            str(gateway.decisions[row["decision_id"]].value_micros) for row in rows
        ]
        assert gateway.decisions[rows[0]["decision_id"]].shopper_id == "Käthe"


@pytest.mark.usefixtures("node_modules")
@in_a_loop
async def test_node_says_why_it_was_refused() -> None:
    async with faulty_gateway() as (_, address):
        status, lines, complaint = await decided("unary", address, "nobody")
    assert (status, lines) == (1, [])
    assert complaint == "refused: 5 NOT_FOUND: shopper_id must be known, got 'nobody'\n"
