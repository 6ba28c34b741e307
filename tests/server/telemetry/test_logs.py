"""Lines on stderr as a log collector reads them, from a process of their own; nothing secret is among them."""

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from server.settings import Settings
from server.telemetry.logs import HIDDEN, MOST_SLOW_PER_S, JsonLines, SlowDecisions, TextLines, secrets_of

ROOT = Path(__file__).resolve().parents[3]
SECRET = "a-planted-secret-of-32-bytes-xyz"
SIGNED = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvbmUifQ.c2lnbmF0dXJl"
PROGRAM = """
import logging, sys, threading, warnings
from server.settings import load_settings
from server.telemetry.logs import SlowDecisions, configure_logging
settings = load_settings()
configure_logging(settings)
log = logging.getLogger("server.decide")
log.info("decided", extra={"decision_id": "d-1", "client": "shop", "method": "Decide", "status": "OK", "password": "x"})
log.warning("the key is %s and the settings are %s", settings.explore_key.get_secret_value(), settings)
log.warning("authorization: Bearer " + sys.argv[1])
try:
    raise ValueError("no such key: " + settings.explore_key.get_secret_value())
except ValueError:
    log.exception("it failed", extra={"decision_id": settings.explore_key.get_secret_value()})
log.info("a number %d", "that is none")
SlowDecisions(settings.slow_ms).slow("d-2", {"queue": 0.05, "models": 0.2})
thread = threading.Thread(target=lambda: 1 / 0, name="decider 1")
thread.start()
thread.join()
warnings.warn("of something")
log.info("two\\nlines\\x1b[2J")
raise RuntimeError("the end: " + sys.argv[1])
"""


def run(**settings: str) -> str:
    """What the program says on a stderr that is no terminal."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, SIGNED],
        env=environment(**settings), capture_output=True, text=True, check=False, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with the planted secret."""
    named = {f"STRATAGEM_{name.upper()}": value for name, value in settings.items()}
    return os.environ | {"STRATAGEM_EXPLORE_KEY": SECRET} | named


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    """What the program says in JSON, line by line."""
    return [json.loads(line) for line in run().splitlines()]


def test_every_line_is_json_with_time_level_logger_and_message(lines: list[dict[str, object]]) -> None:
    assert len(lines) == 10
    assert [line for line in lines if not {"time", "level", "logger", "message"} <= line.keys()] == []


def test_a_line_carries_the_decision_the_client_the_method_and_the_status(lines: list[dict[str, object]]) -> None:
    told = {name: lines[0][name] for name in lines[0].keys() - {"time"}}
    assert told == {
        "level": "INFO", "logger": "server.decide", "message": "decided",
        "decision_id": "d-1", "client": "shop", "method": "Decide", "status": "OK",
    }  # fmt: skip


def test_an_exception_is_a_field_of_its_line(lines: list[dict[str, object]]) -> None:
    failed = [line for line in lines if "exception" in line]
    assert [line["message"] for line in failed] == [
        "it failed", "thread decider 1 ended by an exception", "the server ends by an exception",
    ]  # fmt: skip
    for line, kind in zip(failed, ("ValueError", "ZeroDivisionError", "RuntimeError"), strict=True):
        assert str(line["exception"]).startswith("Traceback")
        assert kind in str(line["exception"])


def test_a_slow_decision_says_where_its_time_went(lines: list[dict[str, object]]) -> None:
    slow = next(line for line in lines if line.get("decision_id") == "d-2")
    assert slow["stages_ms"] == {"queue": 50.0, "models": 200.0}
    assert slow["message"] == "a decision took 250.0 ms, at most 100.0 ms is usual"


def test_arguments_that_do_not_fit_are_said_anyway(lines: list[dict[str, object]]) -> None:
    assert "a number %d ('that is none',)" in [line["message"] for line in lines]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_that_is_logged_contains_a_secret(log_format: str) -> None:
    said = run(log_format=log_format)
    assert SECRET not in said
    assert SIGNED not in said
    assert said.count(HIDDEN) >= 4
    assert "the end: " in said


def test_a_text_line_stays_one_line(lines: list[dict[str, object]]) -> None:
    said = run(log_format="text")
    assert r"INFO server.decide two\nlines\x1b[2J" in said
    assert "INFO server.decide decided decision_id=d-1 client=shop method=Decide status=OK" in said
    assert "\x1b" not in said


def test_a_terminal_gets_text() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, SIGNED], env=environment(), stderr=theirs, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        os.close(theirs)
        said = b""
        while chunk := read_some(ours):
            said += chunk
        process.wait(60)
    os.close(ours)
    assert b"INFO server.decide decided decision_id=d-1" in said


def read_some(file: int) -> bytes:
    """What the terminal has; nothing once the other side is closed, which Linux says as an error."""
    try:
        return os.read(file, 65_536)
    except OSError:
        return b""


def test_a_default_that_everybody_knows_is_no_secret() -> None:
    assert secrets_of(Settings()) == ()
    assert secrets_of(Settings(explore_key=SecretStr(SECRET))) == (SECRET,)


numbers = st.one_of(st.integers(), st.floats())
words = st.one_of(st.text(max_size=20), st.binary(max_size=8))


@given(message=st.text(max_size=50), extra=st.one_of(words, numbers, st.dictionaries(st.text(), numbers)))
def test_whatever_is_said_is_one_line_of_json_without_the_secret(message: str, extra: object) -> None:
    record = logging.LogRecord("one", logging.INFO, "file", 1, f"{message}{SECRET}{message}", (), None)
    record.decision_id = extra
    line = JsonLines([SECRET]).format(record)
    assert "\n" not in line
    assert SECRET not in json.dumps(json.loads(line))
    text = TextLines([SECRET]).format(record)
    assert SECRET not in text
    assert len(text.split("\n")) == 1


def test_a_broken_name_can_be_said() -> None:
    record = logging.LogRecord("one", logging.INFO, "file", 1, "file %s", ("\udcff.parquet",), None)
    assert json.loads(JsonLines().format(record))["message"] == "file ?.parquet"


def test_a_batch_names_its_slowest_decision_and_only_if_it_was_slow(caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowDecisions(100.0)
    slow.batch(["a", "b"], np.array([0.001, 0.002]), {"models": 0.05})
    assert caplog.records == []
    slow.batch(["a", "b", "c"], np.array([0.001, 0.06, 0.002]), {"models": 0.05})
    slow.batch([], [], {"models": 0.5})
    assert [vars(record)["decision_id"] for record in caplog.records] == ["b"]
    assert vars(caplog.records[0])["stages_ms"] == {"queue": 60.0, "models": 50.0}


def test_slow_decisions_without_end_are_said_a_few_times_a_second(caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowDecisions(1.0)
    for number in range(200):
        slow.slow(str(number), {"models": 1.0})
    # A second may begin while the loop runs.
    assert MOST_SLOW_PER_S <= len(caplog.records) <= 2 * MOST_SLOW_PER_S
