from __future__ import annotations

from collections.abc import Callable

import pytest

from degradations import bench


class Machine:
    """A clock that only its work moves on; what the work costs may change as time passes."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now = 0.0
        self.slowness = slowness
        self.log: list[str] = []

    def work(self, who: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.log.append(who)
            self.now += seconds * self.slowness(self.now)

        return call


def timed(
    machine: Machine, calls: dict[str, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> bench.Row:
    monkeypatch.setitem(bench._CLOCKS, "wall", lambda: machine.now)
    return bench._row("name", 1, 2, calls, rounds=5, seconds=0.1, device="cpu", clock="wall")


def test_ours_and_peers_take_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    calls = {who: machine.work(who, 1 / 128) for who in ("", "peer")}
    calls["slow"] = machine.work("slow", 1 / 4)
    row = timed(machine, calls, monkeypatch)
    # Two images a call; everything is called once before it is timed.
    assert row.images_per_second == 256.0
    assert row.peers == {"peer": 256.0, "slow": 8.0}
    assert row.ratios == {"peer": 1.0, "slow": 32.0}
    assert row.ratio == 1.0
    assert machine.log[:3] == ["", "peer", "slow"]
    assert machine.log[3:8] == ["", "", "peer", "peer", "slow"]
    assert machine.log[8:13] == ["slow", "peer", "peer", "", ""]
    # The quick have their half second, the slow their five turns.
    assert machine.log.count("slow") == 1 + 5
    assert machine.log.count("") == machine.log.count("peer") == 1 + 64


def test_a_machine_that_changes_speed_does_not_change_who_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Other work slows the machine down to a third, for 130 ms of every 300.
    machine = Machine(lambda now: 3.0 if now % 0.3 < 0.13 else 1.0)
    calls = {"": machine.work("", 1 / 4096), "peer": machine.work("peer", 1 / 3072)}
    assert timed(machine, calls, monkeypatch).ratio == pytest.approx(4 / 3, rel=0.02)


def test_without_peers_there_is_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    assert timed(machine, {"": machine.work("", 1 / 128)}, monkeypatch).ratio is None
