"""The doctor says what is there, what is missing, and what to type."""

import socket
from pathlib import Path

from server.doctor import Finding, examine
from server.settings import Settings
from tests.server.doors import Doors, settings_in


def found(settings: Settings, triton_folder: Path) -> dict[str, Finding]:
    """Every finding by its part."""
    return {finding.part: finding for finding in examine(settings, triton_folder)}


def test_an_empty_place_is_told_how_to_be_filled(tmp_path: Path) -> None:
    findings = found(settings_in(tmp_path, tmp_path / "nothing"), tmp_path / "triton")
    missing = {part for part, finding in findings.items() if not finding.is_ok}
    assert {"model repository", "Triton environment", "plan", "gateway"} <= missing
    assert all(findings[part].remedy for part in missing)
    assert "manifest.json" in findings["model repository"].found


def test_packages_are_compared_with_their_pins(tmp_path: Path) -> None:
    packages = found(settings_in(tmp_path, tmp_path), tmp_path)["packages"]
    assert packages.is_ok, packages.found


def test_a_running_gateway_is_found_where_it_listens(doors: Doors, tmp_path: Path) -> None:
    port = int(doors.gateway.address.split(":")[1])
    findings = found(doors.settings.model_copy(update={"port": port}), tmp_path)
    assert findings["gateway"].is_ok
    assert findings["model repository"].is_ok
    assert findings["plan"].found == "plan-1"


def test_a_listener_that_speaks_no_grpc_is_not_a_gateway(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = settings_in(tmp_path, tmp_path, port=silent.getsockname()[1])
        assert not found(settings, tmp_path)["gateway"].is_ok
