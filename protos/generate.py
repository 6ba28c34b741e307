"""Writes the Python stubs beside each .proto: `python protos/generate.py [FOLDER]`.

In: every .proto under this folder. Out: *_pb2.py, *_pb2.pyi and *_pb2_grpc.py under FOLDER, or beside the sources.
The stubs are committed, so that a user needs no compiler; tests/server/test_protos.py regenerates and compares them.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).resolve().parent


def proto_files() -> list[Path]:
    """Every .proto, as a path relative to this folder, in a stable order."""
    return sorted(path.relative_to(SOURCES) for path in SOURCES.rglob("*.proto"))


def generate(folder: Path) -> None:
    """Write the stubs of every .proto under `folder`.

    raises  SystemExit  with the compiler's status if a .proto does not compile
    """
    well_known = files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    names = [str(path) for path in proto_files()]
    status = protoc.main(["protoc", f"-I{SOURCES}", f"-I{well_known}", *outputs, *names])
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES)
