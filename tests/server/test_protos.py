"""The protos keep buf's STANDARD and COMMENTS rules; buf itself is not needed to check them."""

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parents[2] / "protos"
FILES = sorted(PROTOS.rglob("stratagem/v1/*.proto"))
# Paths of a FileDescriptorProto: 4 message (2 field), 5 enum (2 value), 6 service (2 method).
FIELD, MESSAGE, ENUM, SERVICE = 2, 4, 5, 6


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    """Every proto with its comments."""
    target = tmp_path_factory.mktemp("protos") / "set"
    names = [str(file.relative_to(PROTOS)) for file in FILES]
    flags = ["--include_source_info", f"--descriptor_set_out={target}"]
    assert protoc.main(["protoc", f"-I{PROTOS}", *flags, *names]) == 0
    return list(descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file)


def test_everything_has_a_comment_that_ends_a_sentence(described: list[descriptor_pb2.FileDescriptorProto]) -> None:
    bare = []
    for file in described:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for path, name in named(file):
            if not comments.get(path, "").endswith((".", "?", ":")):
                bare.append(f"{file.name} {name}")
    assert bare == []


def named(file: descriptor_pb2.FileDescriptorProto) -> list[tuple[tuple[int, ...], str]]:
    """Path and name of every message, field, enum, value, service and method."""
    found = []
    for kind, parts, inner in (
        (MESSAGE, file.message_type, "field"),
        (ENUM, file.enum_type, "value"),
        (SERVICE, file.service, "method"),
    ):
        for place, part in enumerate(parts):
            found.append(((kind, place), part.name))
            found += [
                ((kind, place, FIELD, row), f"{part.name}.{sub.name}") for row, sub in enumerate(getattr(part, inner))
            ]
    return found


def test_enums_begin_with_unspecified_and_bear_their_prefix(
    described: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for enum in (enum for file in described for enum in file.enum_type):
        prefix = re.sub(r"(?<!^)([A-Z])", r"_\1", enum.name).upper() + "_"
        assert (enum.value[0].name, enum.value[0].number) == (prefix + "UNSPECIFIED", 0)
        assert all(value.name.startswith(prefix) for value in enum.value)


def test_services_and_requests_are_named_for_their_verbs(described: list[descriptor_pb2.FileDescriptorProto]) -> None:
    for service in (service for file in described for service in file.service):
        assert service.name.endswith("Service")
        for method in service.method:
            assert method.input_type == f".stratagem.v1.{method.name}Request"
            assert method.output_type == f".stratagem.v1.{method.name}Response"


def test_fields_are_lower_snake_in_one_package_and_numbered_without_holes(
    described: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for message in (message for file in described for message in file.message_type):
        assert file_package(described) == {"stratagem.v1"}
        assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name) for field in message.field)
        assert [field.number for field in message.field] == list(range(1, len(message.field) + 1))


def file_package(described: list[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    """Packages of all files."""
    return {file.package for file in described}
