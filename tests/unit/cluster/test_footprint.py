"""What an engine brought is taken back, and nothing of anybody else."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster import footprint
from cluster.footprint import Footprint

CLEAN = Footprint(
    boot="one",
    bridges=[],
    folders=[],
    forwarding="0",
    rules={"iptables filter": ["-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-N MINE", "-A INPUT -i eth0 -j MINE"]},
)
OTHERS = "-A FORWARD -i wg0 -j ACCEPT"
"""Somebody's rule that came while the engine ran."""
USED = replace(
    CLEAN,
    bridges=["docker0", "br-0123456789ab"],
    rules={
        "iptables filter": [
            "-P INPUT ACCEPT",
            "-P FORWARD DROP",
            "-N MINE",
            "-N DOCKER",
            "-N DOCKER-USER",
            "-N OTHERS",
            "-A INPUT -i eth0 -j MINE",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
            OTHERS,
            "-A DOCKER-USER -j RETURN",
        ]
    },
)


def test_rules_go_before_chains_and_bridges() -> None:
    call = ["iptables", "-w", "-t", "filter"]
    assert footprint.commands(CLEAN, USED) == [
        [*call, "-D", "FORWARD", "-j", "DOCKER-USER"],
        [*call, "-D", "FORWARD", "-i", "docker0", "!", "-o", "docker0", "-j", "ACCEPT"],
        [*call, "-D", "DOCKER-USER", "-j", "RETURN"],
        [*call, "-F", "DOCKER"],
        [*call, "-F", "DOCKER-USER"],
        [*call, "-X", "DOCKER"],
        [*call, "-X", "DOCKER-USER"],
        [*call, "-P", "FORWARD", "ACCEPT"],
        ["ip", "link", "delete", "br-0123456789ab"],
        ["ip", "link", "delete", "docker0"],
    ]


def test_what_was_there_before_stays() -> None:
    assert footprint.commands(USED, USED) == []


def test_a_machine_without_a_packet_filter_has_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not any(footprint.now().rules.values())


def test_the_first_note_of_a_life_of_the_machine_holds(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    footprint.note(path)
    first = footprint.read(path)
    assert first is not None

    path.write_text(path.read_text().replace('"forwarding": "', '"forwarding": "as it was '))
    footprint.note(path)
    assert footprint.read(path) == replace(first, forwarding=f"as it was {first.forwarding}")

    path.write_text(path.read_text().replace(first.boot, "an earlier one"))
    footprint.note(path)
    assert footprint.read(path) == first


def test_without_a_note_nothing_is_looked_at_or_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(footprint, "now")
    footprint.remove_since(tmp_path / "before.json")
