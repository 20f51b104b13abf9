"""The engine on a real toy: its tokens are those of plain decoding, whatever happens around them."""

import asyncio
import random

import numpy as np
import pytest

from glm5_engine.events import Failed, Finished, FinishReason, PromptLogprobs, Started, Token
from glm5_engine.logprobs import token_logprob
from glm5_wire.errors import Draining, Internal, InvalidRequest, QueueFull, Unavailable
from unit.engine.support import WAIT_SECONDS, Client


def prompt(length, seed=0):
    return random.Random(f"{length} {seed}").choices(range(292), k=length)


async def test_one_request_gets_the_tokens_of_plain_decoding(toy, make_engine):
    engine = await make_engine()
    client = Client(prompt(70), max_tokens=20)
    engine.submit(client.request)
    await client.wait()
    assert client.tokens() == toy.greedy(prompt(70), 20)
    assert isinstance(client.events[0], Started)
    assert client.events[-1] == Finished(0, FinishReason.LENGTH)


async def test_requests_in_a_crowd_get_the_tokens_that_they_get_alone(toy, make_engine):
    engine = await make_engine(max_step_tokens=48, micro_batch_rows=8)
    clients = [Client(prompt(length), max_tokens=12) for length in (1, 2, 63, 64, 65, 130, 200, 7)]
    for client in clients:
        engine.submit(client.request)
    for client in clients:
        await client.wait()
        assert client.tokens() == toy.greedy(client.request.prompt, 12)


async def test_scarce_pages_preempt_and_change_no_token(toy, make_engine):
    engine = await make_engine(cache_tokens=6 * 64, max_step_tokens=64)
    clients = [Client(prompt(60 + i, i), max_tokens=90) for i in range(5)]
    for client in clients:
        engine.submit(client.request)
    for client in clients:
        await client.wait()
        assert client.tokens() == toy.greedy(client.request.prompt, 90)
    assert engine.scheduler.num_preemptions > 0
    assert clients[0].of(Finished)[0].num_preemptions == 0
    assert sum(client.of(Finished)[0].num_preemptions for client in clients) == engine.scheduler.num_preemptions


async def test_sampled_tokens_are_the_same_alone_and_in_a_crowd_with_preemption(make_engine):
    fields = {"temperature": 1.0, "top_p": 0.95, "frequency_penalty": 0.5, "max_tokens": 70}
    alone = []
    engine = await make_engine()
    for seed in range(4):
        client = Client(prompt(60, seed), seed=seed, **fields)
        engine.submit(client.request)
        alone.append((await client.wait()).tokens())
    crowded = await make_engine(cache_tokens=5 * 64, max_step_tokens=32)
    clients = [Client(prompt(60, seed), seed=seed, **fields) for seed in range(4)]
    for client in clients:
        crowded.submit(client.request)
    assert [(await client.wait()).tokens() for client in clients] == alone
    assert crowded.scheduler.num_preemptions > 0


async def test_choices_share_the_prompt_and_draw_what_they_draw_alone(make_engine):
    engine = await make_engine()
    client = Client(prompt(100), n=4, temperature=1.0, seed=5, max_tokens=10)
    engine.submit(client.request)
    await client.wait_for(lambda: all(client.tokens(i) for i in range(4)))
    assert engine.pages.num_used == 1 + 4, "one full page shared, one page each"
    await client.wait()
    outputs = [client.tokens(i) for i in range(4)]
    assert len({tuple(tokens) for tokens in outputs}) > 1
    for index in range(4):
        single = Client(prompt(100), n=4, temperature=1.0, seed=5, max_tokens=10)
        single.request.choices = [single.request.choices[index]]
        single.remaining = 1
        engine.submit(single.request)
        assert (await single.wait()).tokens(index) == outputs[index]


async def idle(engine):
    """Return True once the step that ended the last request is over and no page is in use."""
    async with asyncio.timeout(WAIT_SECONDS):
        while engine.num_requests or engine.pages.num_used:  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
    return True


async def test_a_choice_that_nobody_wants_ends_and_computes_no_more(make_engine):
    engine = await make_engine()
    fields = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": 60}
    whole, cut = Client(prompt(100), **fields), Client(prompt(100), **fields)
    engine.submit(whole.request)
    await whole.wait()
    engine.submit(cut.request)
    engine.end_choice(cut.request, 0)  # before the prompt is computed: nothing, for the others wait for this one
    await cut.wait_for(lambda: cut.tokens(0) and cut.tokens(2))
    engine.end_choice(cut.request, 0)
    engine.end_choice(cut.request, 0)
    await cut.wait_for(lambda: any(event.choice == 0 for event in cut.of(Finished)))
    engine.end_choice(cut.request, 2)
    engine.end_choice(cut.request, 7)
    await cut.wait()
    assert {(e.choice, e.reason) for e in cut.of(Finished)} == {
        (0, FinishReason.STOP),
        (1, FinishReason.LENGTH),
        (2, FinishReason.STOP),
    }
    assert cut.tokens(1) == whole.tokens(1)
    for index in (0, 2):
        assert len(cut.tokens(index)) < 60
        assert cut.tokens(index) == whole.tokens(index)[: len(cut.tokens(index))]
    assert await idle(engine)


async def test_a_request_is_over_when_its_last_choice_is_unwanted(make_engine):
    engine = await make_engine()
    client = Client(prompt(20), n=2, max_tokens=400)
    engine.submit(client.request)
    await client.wait_for(lambda: client.tokens(0) and client.tokens(1))
    engine.end_choice(client.request, 0)
    engine.end_choice(client.request, 1)
    await client.wait()
    assert client.request.is_over
    assert await idle(engine)


async def test_a_continuation_goes_on_with_the_same_tokens_and_limits(make_engine):
    engine = await make_engine()
    fields = {"n": 3, "temperature": 1.0, "seed": 8, "max_tokens": 20, "presence_penalty": 1.0}
    whole = Client(prompt(90), **fields)
    engine.submit(whole.request)
    await whole.wait()
    outputs = {i: whole.tokens(i)[:count] for i, count in enumerate((0, 7, 20))}
    rest = Client(prompt(90), outputs=outputs, **fields)
    engine.submit(rest.request)
    await rest.wait()
    for index in range(3):
        assert outputs[index] + rest.tokens(index) == whole.tokens(index)
    assert next(e.index for e in rest.of(Token) if e.choice == 1) == 7
    assert len(rest.of(Finished)) == 3


async def test_a_stop_token_ends_the_choice_and_is_not_delivered(toy, make_engine):
    engine = await make_engine()
    tokens = toy.greedy(prompt(30), 10)
    stop = tokens[5]
    client = Client(prompt(30), stop_token_ids=(stop,), max_tokens=10)
    engine.submit(client.request)
    await client.wait()
    assert client.tokens() == tokens[: tokens.index(stop)]
    assert client.of(Finished) == [Finished(0, FinishReason.STOP, stop)]


@pytest.mark.parametrize("length", [1, 2, 64, 150])
async def test_prompt_logprobs_come_once_before_the_tokens(toy, make_engine, length):
    engine = await make_engine(max_step_tokens=40)
    client = Client(prompt(length), n=2, prompt_logprobs=2, max_tokens=3)
    engine.submit(client.request)
    await client.wait()
    (found,) = client.of(PromptLogprobs)
    assert client.events.index(found) < client.events.index(client.of(Token)[0])
    rows = toy.logits(prompt(length)).numpy()[:, :292].astype(np.float64)
    expected = [token_logprob(rows[i], 0.0, prompt(length)[i + 1], 2) for i in range(length - 1)]
    assert list(found.logprobs) == expected
    assert client.tokens() == toy.greedy(prompt(length), 3)


async def test_cancelling_frees_the_pages_and_leaves_the_others_alone(toy, make_engine):
    engine = await make_engine(max_step_tokens=64)
    clients = [Client(prompt(50 + i, i), max_tokens=40) for i in range(6)]
    for client in clients:
        engine.submit(client.request)
    for client in clients[::2]:
        await client.wait_for(lambda c=client: len(c.tokens()) >= 3)
        engine.cancel(client.request)
        engine.cancel(client.request)
    for client in clients[1::2]:
        await client.wait()
        assert client.tokens() == toy.greedy(client.request.prompt, 40)
    assert all(not client.over.is_set() for client in clients[::2])


async def test_cancelling_while_experts_are_silent_ends_the_step_and_frees_its_pages(make_engine):
    engine = await make_engine()
    called, never = asyncio.Event(), asyncio.Event()

    async def silent(pending):
        called.set()
        await never.wait()

    engine.experts.fault = silent
    client = Client(prompt(10))
    engine.submit(client.request)
    await asyncio.wait_for(called.wait(), 60)
    assert engine.pages.num_used == 1
    engine.cancel(client.request)
    engine.experts.fault = None
    after = Client(prompt(10))
    engine.submit(after.request)
    await after.wait()
    assert len(after.tokens()) == 16


async def test_a_step_that_fails_is_begun_again_and_changes_no_token(toy, make_engine):
    engine = await make_engine(micro_batch_rows=2)
    calls = 0

    async def fail_sometimes(pending):
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise Unavailable("expert rows lost", "shard 1", "connection reset", "")

    engine.experts.fault = fail_sometimes
    clients = [Client(prompt(20 + i), max_tokens=6) for i in range(3)]
    for client in clients:
        engine.submit(client.request)
    for client in clients:
        await client.wait()
        assert client.tokens() == toy.greedy(client.request.prompt, 6)
    assert calls >= 5


async def test_experts_that_stay_away_end_the_requests_of_the_step_with_one_retriable_error_each(make_engine):
    engine = await make_engine(expert_timeout_seconds=0.3)

    async def fail(pending):
        raise Unavailable("expert rows lost", "shard 1", "connection reset", "")

    engine.experts.fault = fail
    clients = [Client(prompt(20), n=2), Client(prompt(30))]
    for client in clients:
        engine.submit(client.request)
    for client in clients:
        await client.wait()
        (failed,) = client.of(Failed)
        assert client.events[-1] is failed
        assert failed.error.retriable
    engine.experts.fault = None
    after = Client(prompt(10))
    engine.submit(after.request)
    assert len((await after.wait()).tokens()) == 16


async def test_a_bug_in_a_step_ends_its_requests_and_not_the_worker(make_engine):
    engine = await make_engine()

    async def fail(pending):
        raise ValueError("broken")

    engine.experts.fault = fail
    client = Client(prompt(20))
    engine.submit(client.request)
    await client.wait()
    (failed,) = client.of(Failed)
    assert isinstance(failed.error, Internal)
    assert "broken" in str(failed.error)


async def test_a_prompt_without_choices_is_computed_and_kept_until_it_is_let_go(make_engine):
    engine = await make_engine(max_step_tokens=64)
    client = Client(prompt(150), n=0)
    (sequence,) = engine.submit(client.request)
    await client.wait_for(lambda: sequence.cached == 150)
    assert engine.pages.num_used == 3
    engine.cancel(client.request)
    assert engine.pages.num_used == 0


async def test_the_counter_moves_while_experts_are_awaited_and_while_nothing_is_to_do(make_engine):
    engine = await make_engine()
    assert engine.progress < engine.progress
    called, never = asyncio.Event(), asyncio.Event()

    async def silent(pending):
        called.set()
        await never.wait()

    engine.experts.fault = silent
    client = Client(prompt(10))
    engine.submit(client.request)
    await asyncio.wait_for(called.wait(), 60)
    assert engine.progress < engine.progress
    engine.cancel(client.request)


async def test_a_draining_engine_refuses_new_requests(make_engine):
    engine = await make_engine()
    engine.is_draining = True
    with pytest.raises(Draining):
        engine.submit(Client(prompt(3)).request)


async def test_a_full_queue_refuses_with_the_time_to_come_back(make_engine):
    engine = await make_engine(max_num_seqs=1, max_queue=1)
    clients = [Client(prompt(3)) for _ in range(2)]
    for client in clients:
        engine.submit(client.request)
    with pytest.raises(QueueFull, match="1 requests wait") as refused:
        engine.submit(Client(prompt(3)).request)
    assert refused.value.retry_after
    for client in clients:
        await client.wait()


@pytest.mark.parametrize(
    ("client", "param", "part"),
    [
        (lambda: Client([]), "prompt", "no tokens"),
        (lambda: Client([1, 292]), "prompt", "token id 292 is outside the vocabulary of 292"),
        (lambda: Client([1] * 3000), "prompt", "3000 tokens, max_model_len is 2048"),
        (lambda: Client([1] * 2000, max_tokens=100), "max_tokens", "2000 tokens + max_tokens 100 = 2100"),
        (lambda: Client([1], outputs={0: [1, 2, 3]}, max_tokens=2), "output_token_ids", "3 tokens were delivered"),
        (lambda: Client([1], outputs={0: [999]}), "output_token_ids", "999"),
        (lambda: Client([1], logit_bias={999: 1.0}), "logit_bias", "999"),
        (lambda: Client([1], stop_token_ids=(999,)), "stop_token_ids", "999"),
        (lambda: Client([1], n=9), "n", "choice indices"),
    ],
)
async def test_what_can_never_work_is_refused_with_the_field(make_engine, client, param, part):
    engine = await make_engine()
    with pytest.raises(InvalidRequest, match=part.replace("+", r"\+")) as refused:
        engine.submit(client().request)
    assert refused.value.param == param
