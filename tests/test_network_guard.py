"""The tests' own promise: nothing leaves this machine."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])  # reserved for documentation
def test_a_connection_beyond_this_machine_is_refused(
    host: str, blocked_addresses: list[str]
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(RuntimeError, match=host):
        client.connect((host, 80))
    assert blocked_addresses == [host]
    blocked_addresses.clear()


def test_a_name_look_up_is_refused(blocked_addresses: list[str]) -> None:
    with pytest.raises(RuntimeError, match=r"example\.invalid"):
        socket.create_connection(("example.invalid", 443))
    blocked_addresses.clear()


def test_a_refusal_is_remembered_when_the_code_swallows_it(blocked_addresses: list[str]) -> None:
    with contextlib.suppress(Exception):
        socket.getaddrinfo("telemetry.invalid", 443)
    assert blocked_addresses == ["telemetry.invalid"]
    blocked_addresses.clear()


def test_a_server_on_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"))
        echo.start()
        with socket.create_connection(server.getsockname()) as client:
            assert client.recv(5) == b"hello"
        echo.join()
