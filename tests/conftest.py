"""What every test shares: no network, and where the real medical files lie."""

from __future__ import annotations

import os

# Before anything imports a Hugging Face library: they read these once.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and question files: `$MMEVAL_SHARED`, else `../shared`.

    Tests that compare with real files ask for it and are skipped where it is absent; no such file
    is part of the repository (several forbid redistribution).
    """
    folder = Path(os.environ.get("MMEVAL_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"needs real images: no folder {folder / 'data'} (set MMEVAL_SHARED)")
    return folder


class NetworkUseError(RuntimeError):
    """A test tried to leave this machine."""


@pytest.fixture(scope="session")
def _blocked_addresses() -> Iterator[list[str]]:
    """Refuse every connection and look-up beyond the loopback addresses; list what was refused."""
    blocked: list[str] = []

    def check(host: Any) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if name in (None, "", "localhost"):
            return
        try:
            if ipaddress.ip_address(str(name).partition("%")[0]).is_loopback:
                return
        except ValueError:
            pass
        blocked.append(str(name))
        raise NetworkUseError(f"a test tried to reach {name!r}; tests use 127.0.0.1 only")

    def guarded(method: str) -> Any:
        original = getattr(socket.socket, method)

        def call(self: socket.socket, *args: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(args[-1][0])  # the address is the last argument of all three methods
            return original(self, *args)

        return call

    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host)
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, method, guarded(method))
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        yield blocked


@pytest.fixture(autouse=True)
def blocked_addresses(_blocked_addresses: list[str]) -> Iterator[list[str]]:
    """Fail a test that tried the network, also where the code under test swallowed the error."""
    _blocked_addresses.clear()
    yield _blocked_addresses
    assert not _blocked_addresses, f"the test tried to reach {_blocked_addresses}"
