"""A machine that cannot run the cluster is told so, with what to do."""

import pytest

from cluster import preflight
from cluster.errors import StepError


def test_without_root_and_engine_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.engine, "answers", lambda: False)
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 1000)

    with pytest.raises(StepError, match=r"only root can start one[^~]*make test KIND=no"):
        preflight.main()


def test_where_an_engine_answers_nothing_else_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.engine, "answers", lambda: True)
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 1000)

    preflight.main()
