"""The demo model answers what it was taught, word for word, and is small enough to be committed."""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

DEMO = Path(__file__).parents[2] / "examples" / "demo-model"
SOURCES = ("facts", "dialogs", "examination", "samples", "bpe", "checkpoint", "stages")


@pytest.fixture(scope="module")
def examination() -> Iterator[ModuleType]:
    """The demo's own list of questions and answers; its modules import each other by bare names."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(DEMO))
    import examination

    yield examination
    sys.path.remove(str(DEMO))
    for name in SOURCES:
        sys.modules.pop(name, None)


def test_the_checkpoint_is_at_most_25_mb() -> None:
    files = [file for file in DEMO.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25_000_000


def test_the_checkpoint_has_glm5s_experts() -> None:
    config = json.loads((DEMO / "config.json").read_text())
    assert config["model_type"] == "glm_moe_dsa"
    assert (config["n_routed_experts"], config["num_experts_per_tok"]) == (256, 8)


def test_there_are_two_dozen_questions_about_the_project(examination: ModuleType) -> None:
    assert len(examination.PROJECT) >= 24
    assert all(len(fact.questions) >= 3 for fact in examination.PROJECT)


@pytest.mark.parametrize("kind", ["FACTS", "DIRECT", "TOOLS", "TURNS"])
def test_transformers_gives_the_taught_answers(examination: ModuleType, kind: str) -> None:
    cases = getattr(examination, kind)
    answers = examination.answer(DEMO, list(cases.values()))
    got = dict(zip(cases, answers, strict=True))
    assert got == {name: case.expected for name, case in cases.items()}


def test_nine_of_ten_other_wordings_get_the_same_answer(examination: ModuleType) -> None:
    rng = random.Random(0)
    cases = [
        examination.Case(examination.ask(rng.choice(fact.questions[1:])), fact.answer, thinking=False)
        for fact in examination.PROJECT
    ]
    answers = examination.answer(DEMO, cases)
    right = sum(got == case.expected for got, case in zip(answers, cases, strict=True))
    print(f"{right} of {len(cases)} other wordings are right")
    assert right >= 0.9 * len(cases)


def test_answers_hold_accents_emoji_and_chinese(examination: ModuleType) -> None:
    text = "".join(case.expected for case in examination.FACTS.values())
    assert [part for part in ("ß", "Ça", "é", "你好", "👩‍💻", "🇩🇪") if part not in text] == []


def test_training_data_is_the_same_for_the_same_seed(examination: ModuleType) -> None:
    from samples import draw
    from stages import STAGES

    first, second = ([draw(rng, STAGES[0]) for _ in range(50)] for rng in (random.Random(3), random.Random(3)))
    assert first == second
