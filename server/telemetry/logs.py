"""What the server says on stderr: one JSON object a line for machines, plain lines on a terminal.

In: records of `logging`, with `extra={"decision_id": ..., "client": ..., "method": ..., "status": ...}` where there is
one. Out: lines without any secret of the settings and without any bearer token. Called by `python -m server` first of
all; SlowDecisions is told by server/decide.py, once per micro-batch.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock
from types import TracebackType
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import ArrayLike
from pydantic import SecretStr

from server.settings import Settings

EXTRAS: Final = ("decision_id", "client", "method", "status", "stages_ms")
HIDDEN: Final = "[hidden]"
SHORTEST_SECRET: Final = 6  # a shorter one would hide half of every sentence
# A credential in whatever was quoted: after its scheme, or a signed token wherever it stands.
_CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}|\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\n\t"}
MOST_SLOW_PER_S: Final = 5  # a server that is slow throughout must not become slower by saying so

logger = logging.getLogger(__name__)


def configure_logging(settings: Settings) -> None:
    """Send everything that is logged to stderr, uncaught exceptions of threads included.

    settings  log_format, and the secrets to be hidden
    """
    secrets = secrets_of(settings)
    is_text = sys.stderr.isatty() if settings.log_format is None else settings.log_format == "text"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines(secrets) if is_text else JsonLines(secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full pipe on stderr is no reason to print more to it
    threading.excepthook = _say_thread
    sys.excepthook = _say_end


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every secret that the settings hold, longest first; a default that everybody knows is none."""
    held = {
        value.get_secret_value()
        for name, field in type(settings).model_fields.items()
        if isinstance(value := getattr(settings, name), SecretStr) and value != field.default
    }
    return tuple(sorted((secret for secret in held if len(secret) >= SHORTEST_SECRET), key=len, reverse=True))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what `extra` brought of EXTRAS, exception."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        """Remember what to hide."""
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _hidden(_message(record), self._secrets),
        }
        told |= {name: _plain(value, self._secrets) for name, value in _extras(record)}
        if record.exc_info:
            told["exception"] = _hidden(self.formatException(record.exc_info), self._secrets)
        return orjson.dumps(told).decode()


class TextLines(logging.Formatter):
    """Time, level, logger and message, then name=value for what `extra` brought of EXTRAS."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        """Remember what to hide."""
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """One line, and an exception's lines below it."""
        return _hidden(super().format(record), self._secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        record.message = _message(record)
        extras = "".join(f" {name}={value}" for name, value in _extras(record))
        # A name chosen by a caller must not look like a line of ours.
        return (super().formatMessage(record) + extras).replace("\n", "\\n").translate(_CONTROLS)


class SlowDecisions:
    """Says which decisions took long and where the time went."""

    def __init__(self, slow_ms: float) -> None:
        """Say nothing below `slow_ms`."""
        self._slow_s = slow_ms / 1000
        self._lock = Lock()
        self._second = 0
        self._n_said = 0
        self._n_unsaid = 0

    def batch(self, decision_ids: Sequence[str], waited_s: ArrayLike, stage_s: Mapping[str, float]) -> None:
        """Look at a micro-batch and say its slowest decision, if that was slow.

        decision_ids  (n_rows,)
        waited_s      (n_rows,) float64  what each waited in the queue
        stage_s       seconds by stage, the same for all
        """
        waits = np.asarray(waited_s, np.float64)
        longest = float(waits.max(initial=0.0))
        if decision_ids and longest + sum(stage_s.values()) >= self._slow_s:
            self.slow(decision_ids[int(waits.argmax())], {"queue": longest, **stage_s})

    def slow(self, decision_id: str, stage_s: Mapping[str, float]) -> None:
        """Say that a decision was slow, unless it was not or too many were said this second.

        decision_id  whose it was
        stage_s      seconds by stage, `queue` among them
        """
        total_s = sum(stage_s.values())
        if total_s < self._slow_s:
            return
        with self._lock:
            second = int(time.monotonic())
            if second != self._second:
                self._second, self._n_said = second, 0
            self._n_said += 1
            if self._n_said > MOST_SLOW_PER_S:
                self._n_unsaid += 1
                return
            n_unsaid, self._n_unsaid = self._n_unsaid, 0
        stages_ms = {stage: round(seconds * 1000, 3) for stage, seconds in stage_s.items()}
        more = f"; {n_unsaid} more before it were not said" if n_unsaid else ""
        logger.warning(
            "a decision took %.1f ms, at most %.1f ms is usual%s",
            total_s * 1000,
            self._slow_s * 1000,
            more,
            extra={"decision_id": decision_id, "stages_ms": stages_ms},
        )


def _extras(record: logging.LogRecord) -> Iterable[tuple[str, Any]]:
    return ((name, vars(record)[name]) for name in EXTRAS if vars(record).get(name) not in (None, ""))


def _message(record: logging.LogRecord) -> str:
    """What was to be said, even where its arguments do not fit it: a line that is lost tells nothing."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} {record.args}"


def _plain(value: object, secrets: Sequence[str]) -> object:
    """What orjson can write, nothing secret in it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item, secrets) for name, item in value.items()}
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 64):
        return value
    return _hidden(str(value), secrets)


def _hidden(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _CREDENTIALS.sub(lambda found: f"{found[1]} {HIDDEN}" if found[1] else HIDDEN, text)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate of a broken name cannot be written


def _say_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is None or issubclass(uncaught.exc_type, SystemExit):
        return
    name = uncaught.thread.name if uncaught.thread else "unknown"
    information = (uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)
    logger.critical("thread %s ended by an exception", name, exc_info=information)


def _say_end(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("the server ends by an exception", exc_info=(kind, problem, trace))
