"""How a rival's process begins: it pins itself, and once it listens says so.

In: one JSON argument from starting.py. Out: one line, "PID HOST:PORT", into the named pipe of that argument.
Standard library only: Ray's own environment runs it too.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


def told() -> dict[str, Any]:
    """What starting.py told this process, which from here on keeps to its cores with every thread it will start."""
    message: dict[str, Any] = json.loads(sys.argv[1])
    if message["cores"]:
        os.sched_setaffinity(0, message["cores"])
    return message


def say_ready(message: dict[str, Any], port: int) -> None:
    """Let starting.py know that this process answers on `port` of 127.0.0.1."""
    Path(message["ready"]).write_text(f"{os.getpid()} {HOST}:{port}\n")
