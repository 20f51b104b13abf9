"""Through `glm5 up` over HTTP: the tokens of transformers, and the same bits however the work is split.

Which of two tokens, experts or positions is the greater one can hang on the order of a sum. So our one-process model
computes every answer again (and must come to the same tokens), transformers replays its choices with our own tokens as
input, and each choice and each token that transformers would not have taken is judged by its own margin.
"""

import asyncio
from pathlib import Path

import pytest

from support_http import Answer, client, complete, complete_all, log_uniform_prompts
from support_replay import CHOICE_MARGIN, TOKEN_MARGIN, verdicts
from support_stack import Stack, running_stack

NUM_PROMPTS, LONGEST, NUM_TOKENS, VOCABULARY = 64, 2000, 64, 256
PROMPTS = log_uniform_prompts(NUM_PROMPTS, LONGEST, VOCABULARY)
GREEDY = {"max_tokens": NUM_TOKENS, "temperature": 0, "ignore_eos": True}
FLOAT = ("--dtype", "float32")
LEAST_TOKENS = 2112
"""Pages for the longest prompt with its answer and no more."""
PATIENCE_ROUNDS = 5
"""Who meets whom is a matter of time: one round in some has no preemption."""


def tokens(answers: list[Answer]) -> list[list[int]]:
    """Return the tokens; every answer must be whole."""
    assert [answer.error for answer in answers] == [""] * len(answers)
    assert {answer.finish_reason for answer in answers} == {"length"}
    return [answer.token_ids for answer in answers]


def greedy(stack: Stack) -> list[list[int]]:
    """Return the greedy tokens of all prompts, asked at once."""
    return tokens(asyncio.run(complete_all(stack.url, stack.model.name, PROMPTS, **GREEDY)))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, toy: Path):
    with running_stack(tmp_path_factory.mktemp("parity"), toy, *FLOAT) as running:
        yield running


@pytest.fixture(scope="module")
def expected(stack: Stack) -> list[list[int]]:
    """The answers of the ordinary layout: 4 shards, pages for all."""
    return greedy(stack)


def assert_greedy(path: Path, prompts: list[list[int]], outputs: list[list[int]]) -> None:
    """Assert that transformers would have chosen every token, but where two are as good as equal."""
    choices, tokens, largest = [], [], 0.0
    for prompt, verdict in zip(prompts, verdicts(path, prompts, outputs), strict=True):
        where = f"prompt of {len(prompt)} tokens"
        assert verdict.is_ours, f"{where}: one process computes other tokens than `glm5 up`"
        choices += [choice.margin for choice in verdict.choices]
        assert max(choices, default=0) < CHOICE_MARGIN, f"{where}: {verdict.choices}"
        tokens += [margin for _, margin in verdict.tokens]
        assert max(tokens, default=0) < TOKEN_MARGIN, f"{where}: {verdict.tokens}"
        largest = max(largest, verdict.largest)
    print(f"{path.name}: {len(choices)} choices differ, margins up to {max(choices, default=0):.1e}")
    print(f"{len(tokens)} of {len(prompts) * NUM_TOKENS} tokens differ, margins up to {max(tokens, default=0):.1e}")
    print(f"logits differ by {largest:.1e} at most")


@pytest.mark.timeout(900)
def test_the_tokens_of_64_prompts_at_once_are_those_of_transformers(expected: list[list[int]], toy: Path) -> None:
    """Of every fourth one, to be quick; the `long` tests judge all, the longest included."""
    assert_greedy(toy, PROMPTS[2::4], expected[2::4])


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_all_of_them_are(expected: list[list[int]], toy: Path) -> None:
    assert_greedy(toy, PROMPTS, expected)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_the_same_holds_for_shared_indexers(tmp_path: Path, toy52: Path) -> None:
    with running_stack(tmp_path, toy52, *FLOAT) as running:
        outputs = greedy(running)
    assert_greedy(toy52, PROMPTS, outputs)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shards", [2, 8])
def test_other_numbers_of_shards_change_no_token(tmp_path: Path, toy: Path, expected: list, shards: int) -> None:
    with running_stack(tmp_path, toy, *FLOAT, "--experts", str(shards), "--decode", "1") as running:
        assert greedy(running) == expected


@pytest.mark.timeout(900)
def test_preemption_changes_no_token(tmp_path: Path, toy: Path, expected: list[list[int]]) -> None:
    scarce = ("--decode", "1", "--set", f"decode.cache_tokens={LEAST_TOKENS}")
    with running_stack(tmp_path, toy, *FLOAT, *scarce) as running:
        for _ in range(PATIENCE_ROUNDS):
            assert greedy(running) == expected
            if preemptions := running.metric("decode-0", "vllm:num_preemptions_total"):
                break
        print(f"{preemptions:.0f} preemptions")
        assert preemptions > 0, "pages were not scarce: the test proves nothing"


SAMPLED = {"max_tokens": 32, "temperature": 0.9, "top_p": 0.95, "top_k": 40, "ignore_eos": True}


@pytest.mark.timeout(900)
def test_a_sampled_request_gets_the_same_tokens_alone_and_in_a_crowd(stack: Stack) -> None:
    prompts = PROMPTS[2:26]

    async def crowd_then_alone() -> None:
        async with client(stack.url) as http:
            name = stack.model.name
            crowd = await asyncio.gather(
                *(complete(http, name, prompt, seed=seed, **SAMPLED) for seed, prompt in enumerate(prompts))
            )
            for seed in range(0, len(prompts), 4):
                alone = await complete(http, name, prompts[seed], seed=seed, **SAMPLED)
                assert tokens([alone]) == tokens([crowd[seed]])
            assert len({tuple(answer.token_ids) for answer in crowd}) > len(prompts) // 2, "nothing was drawn"

    asyncio.run(crowd_then_alone())
