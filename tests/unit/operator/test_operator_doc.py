"""docs/operator.md lists exactly the settings, conditions, reasons, events and metrics that the code has."""

import re
from pathlib import Path

import pytest

from glm5_operator.conditions import CONDITIONS
from glm5_operator.metrics import REGISTRY
from glm5_operator.reasons import ConditionType, EventReason, Reason
from glm5_operator.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs/operator.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Return the first two columns of the table below a heading."""
    section = DOC.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^\| (\S+) \| ?(.*?) ?\|", section, re.MULTILINE)
    return dict(found[1:])  # without the table's head


@pytest.mark.parametrize(
    ("heading", "words"), [("Conditions", ConditionType), ("Reasons", Reason), ("Events", EventReason)]
)
def test_each_word_is_explained_and_no_other(heading: str, words: type) -> None:
    found = rows(heading)

    assert set(found) == {word.value for word in words}  # type: ignore[attr-defined]
    assert all(found.values())


def test_each_setting_is_described_with_its_default() -> None:
    found = rows("Settings")

    assert set(found) == {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    for field, info in Settings.model_fields.items():
        if info.default_factory is None:
            shown = "" if info.default in ("", ()) else str(info.default)
            assert found[f"{PREFIX}{field.upper()}"] == shown


def test_each_metric_is_described_in_its_own_words() -> None:
    found = rows("Metrics of the operator")
    suffix = {"counter": "_total"}

    assert found == {f"{one.name}{suffix.get(one.type, '')}": one.documentation for one in REGISTRY.collect()}


def test_each_condition_has_one_function_and_each_reason_is_used() -> None:
    assert len(CONDITIONS) == len(ConditionType)
    code = "".join(path.read_text() for path in (ROOT / "operator/glm5_operator").glob("*.py"))
    for words in (Reason, EventReason):
        unused = [word.name for word in words if f"{words.__name__}.{word.name}" not in code]
        assert not unused
