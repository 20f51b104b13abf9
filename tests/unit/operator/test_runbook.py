"""The runbook has a page for each reason on which somebody has to act, and for no other."""

from __future__ import annotations

import re
from pathlib import Path

from glm5_operator.reasons import Reason

RUNBOOK = Path(__file__).parents[3] / "docs/runbook.md"
GOOD = {"AsSpecified", "Answering", "Settled", "Checked", "PodsReady", "Covered", "ScaledToZero"}
ON_THE_WAY = {
    "Downloading",
    "Checking",
    "Creating",
    "RollingOut",
    "AwaitingShards",
    "AwaitingWorkers",
    "PodsStarting",
}


def test_every_bad_reason_has_its_page_and_every_page_its_reason() -> None:
    pages = re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.M)

    assert len(set(pages)) == len(pages)
    assert set(pages) == {reason.value for reason in Reason} - GOOD - ON_THE_WAY


def test_every_page_says_what_to_do() -> None:
    parts = re.split(r"^#{2,3} ", RUNBOOK.read_text(), flags=re.M)
    pages = {part.split("\n", 1)[0]: part for part in parts}

    assert [name for name, text in pages.items() if name in set(Reason) and "*Do*" not in text] == []
