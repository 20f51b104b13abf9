"""Two shards, a prefill and a decode worker as real processes: their tokens are those of the model run in one piece."""

import asyncio
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from glm5.v1.decode_service_pb2 import FINISH_REASON_STOP
from glm5_wire.errors import Draining, Incompatible, InvalidRequest, Unavailable
from support_workers import Answer, Workers, ask, generate_request, running, until
from unit.engine.support import Toy

pytestmark = pytest.mark.timeout(900)

LENGTHS = (1, 5, 63, 64, 65, 130, 200, 300)


def prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(f"{length} {seed}").choices(range(292), k=length)


@pytest.fixture(scope="module")
def model(toy52: Path) -> Toy:
    """The same checkpoint with all experts in this process: the reference."""
    return Toy(toy52)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, toy52: Path) -> Iterator[Workers]:
    """Two shards, prefill and decode; tests leave all of them ready."""
    folder = tmp_path_factory.mktemp("w")
    # Shards that restart have time to import torch on a busy machine.
    fields = {"cache_tokens": 16384, "expert_timeout_seconds": 120, "drain_seconds": 3}
    with running(folder, toy52, **fields) as made:
        yield made


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory, toy52: Path) -> Iterator[Workers]:
    """Two shards and a decode worker with eight pages."""
    fields = {"cache_tokens": 8 * 64, "expert_timeout_seconds": 15, "max_step_tokens": 100}
    with running(tmp_path_factory.mktemp("s"), toy52, prefill=False, **fields) as made:
        yield made


async def ask_all(workers: Workers, messages: list) -> list[Answer]:
    async with workers["decode-0"].client() as client:
        return list(await asyncio.gather(*(ask(client, message) for message in messages)))


async def no_pages(workers: Workers) -> None:
    """Wait until no worker has a page in use."""
    attention = [worker for worker in workers.all.values() if worker.role in ("decode", "prefill")]

    async def free() -> bool:
        return not any([await worker.metric("glm5_pages_in_use") for worker in attention])

    await until(free, lambda: "pages stay in use:\n" + workers["decode-0"].log[-3000:])


async def test_tokens_are_those_of_the_model_in_one_process(workers: Workers, model: Toy) -> None:
    decode = workers["decode-0"]
    state = await decode.state()
    assert state["ready"], state
    assert state["covered"], state
    assert state["shard_peers"] == ["experts-0", "experts-1"]

    answers = await ask_all(workers, [generate_request(prompt(length)) for length in LENGTHS])
    for length, answer in zip(LENGTHS, answers, strict=True):
        assert answer.tokens[0] == model.greedy(prompt(length), 16), length
        assert answer.finished[0].num_preemptions == 0
    assert await decode.metric("glm5_prefill_fetched_bytes_total") > 0
    assert await decode.metric("glm5_prefill_fetch_failures_total") == 0

    await choices_of_one_request(workers)
    await continuations(workers)
    await prompt_logprobs(workers, model)
    await refusals(workers)
    await cancellation(workers)
    await unwanted_choices(workers)
    await no_pages(workers)


async def choices_of_one_request(workers: Workers) -> None:
    """n choices draw what each draws alone, whoever computes the prompt."""
    fields = {"temperature": 1.0, "seed": 7, "max_tokens": 12, "top_p": 0.9}
    (together,) = await ask_all(workers, [generate_request(prompt(150), n=4, **fields)])
    for index in range(4):
        message = generate_request(prompt(150), n=4, **fields)
        del message.choices[index + 1 :]
        del message.choices[:index]
        (alone,) = await ask_all(workers, [message])
        assert alone.tokens[index] == together.tokens[index]
    assert len({tuple(tokens) for tokens in together.tokens.values()}) > 1


async def continuations(workers: Workers) -> None:
    """A request that goes on after delivered tokens ends with the same whole output."""
    fields = {"n": 2, "temperature": 1.0, "seed": 3, "max_tokens": 20, "frequency_penalty": 0.7}
    (whole,) = await ask_all(workers, [generate_request(prompt(100), **fields)])
    outputs = {0: whole.tokens[0][:11], 1: whole.tokens[1]}
    (rest,) = await ask_all(workers, [generate_request(prompt(100), outputs=outputs, **fields)])
    assert outputs[0] + rest.tokens[0] == whole.tokens[0]
    assert rest.tokens[1] == []
    assert set(rest.finished) == {0, 1}


async def prompt_logprobs(workers: Workers, model: Toy) -> None:
    """The logprobs of a prompt are the model's, computed here or there."""
    for length in (40, 200):
        message = generate_request(prompt(length), prompt_logprobs=True, top_logprobs=3, logprobs=True)
        (answer,) = await ask_all(workers, [message])
        rows = model.logits(prompt(length))[:, :292].double().log_softmax(-1)
        assert answer.prompt_logprobs is not None
        assert [x.token_id for x in answer.prompt_logprobs] == prompt(length)[1:]
        for row, found in zip(rows, answer.prompt_logprobs, strict=False):
            assert found.logprob == pytest.approx(float(row[found.token_id]), abs=1e-4)
            assert len(found.top) == 3
        assert len(answer.logprobs[0]) == 16


async def refusals(workers: Workers) -> None:
    """What cannot be served is refused with its field, and disturbs nothing."""
    async with workers["decode-0"].client() as client:
        for message, error, param in [
            (generate_request([999]), InvalidRequest, "prompt"),
            (generate_request([]), InvalidRequest, "prompt"),
            (generate_request([1], max_tokens=20_000), InvalidRequest, "max_tokens"),
            (generate_request([1], top_p=0.0), InvalidRequest, "top_p"),
        ]:
            with pytest.raises(error) as refused:
                await ask(client, message)
            assert refused.value.param == param
        other = generate_request([1])
        other.compat = "0" * 16
        with pytest.raises(Incompatible, match="0000000000000000"):
            await ask(client, other)


async def cancellation(workers: Workers) -> None:
    """Streams that their caller closes, early or late, leave nothing behind and change no other."""
    async with workers["decode-0"].client() as client:
        messages = [generate_request(prompt(30 + 20 * i), max_tokens=60) for i in range(8)]
        answers = [Answer(message) for message in messages]
        tasks = [asyncio.create_task(ask(client, m, a)) for m, a in zip(messages, answers, strict=True)]
        for index in range(0, 8, 2):
            await until(lambda a=answers[index], i=index: len(a.tokens[0]) >= i, lambda: "no tokens came")
            tasks[index].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(d, asyncio.CancelledError) for d in done] == [i % 2 == 0 for i in range(8)]
        (again,) = await ask_all(workers, [messages[1]])
        assert answers[1].tokens == again.tokens


async def unwanted_choices(workers: Workers) -> None:
    """A choice that is ended computes no more, and the others of its stream go on unchanged."""
    decode, message = workers["decode-0"], generate_request(prompt(40), n=3, temperature=1.0, seed=2, max_tokens=400)
    (whole,) = await ask_all(workers, [message])
    before, answer = await decode.metric("vllm:generation_tokens_total"), Answer(message)
    async with decode.client() as client:
        asking = asyncio.create_task(ask(client, message, answer))
        await until(lambda: answer.tokens[0] and answer.tokens[2], lambda: "no tokens came")
        await client.end_choices(answer.accepted.stream, [0, 2, 9])
        await client.end_choices(answer.accepted.stream + 1, [1])
        await asking
    assert answer.tokens[1] == whole.tokens[1]
    assert {finished.reason for index, finished in answer.finished.items() if index != 1} == {FINISH_REASON_STOP}
    computed = await decode.metric("vllm:generation_tokens_total") - before
    assert computed == sum(map(len, answer.tokens.values())) < 3 * 400, computed


async def test_scarce_pages_preempt_and_change_no_token(scarce: Workers, model: Toy) -> None:
    lengths = [50, 80, 110, 140, 20]
    preempted = 0
    for _ in range(6):  # pages run out only where the requests overlap, which a slow start can prevent
        answers = await ask_all(scarce, [generate_request(prompt(n), max_tokens=50) for n in lengths])
        for length, answer in zip(lengths, answers, strict=True):
            assert answer.tokens[0] == model.greedy(prompt(length), 50)
        preempted += sum(answer.finished[0].num_preemptions for answer in answers)
        if preempted:
            break
    assert preempted > 0
    assert await scarce["decode-0"].metric("vllm:num_preemptions_total") > 0
    await no_pages(scarce)


async def test_without_a_prefill_worker_long_prompts_are_computed_by_decode(scarce: Workers, model: Toy) -> None:
    (answer,) = await ask_all(scarce, [generate_request(prompt(400), max_tokens=5)])
    assert answer.tokens[0] == model.greedy(prompt(400), 5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_prefill_worker_changes_no_token(workers: Workers, model: Toy, number: signal.Signals) -> None:
    prefill, decode = workers["prefill-0"], workers["decode-0"]
    messages = [generate_request(prompt(800 + i), max_tokens=8) for i in range(4)]
    fetched = await decode.metric("glm5_prefill_fetched_bytes_total")
    asking = asyncio.create_task(ask_all(workers, messages))

    async def started() -> bool:
        return await decode.metric("glm5_prefill_fetched_bytes_total") > fetched

    await until(started, lambda: "nothing was fetched\n" + decode.log[-2000:])
    prefill.signal(number)
    for i, answer in enumerate(await asking):
        assert answer.tokens[0] == model.greedy(prompt(800 + i), 8)
    if number == signal.SIGSTOP:
        prefill.signal(signal.SIGCONT)
    else:
        prefill.kill()
        prefill.start()
    await prefill.ready()
    await until(lambda: decode.uses("prefill-0"), lambda: "prefill-0 is not used again\n" + decode.log[-2000:])
    before = await decode.metric("glm5_prefill_fetched_bytes_total")
    (answer,) = await ask_all(workers, [generate_request(prompt(300), max_tokens=4)])
    assert answer.tokens[0] == model.greedy(prompt(300), 4)
    assert await decode.metric("glm5_prefill_fetched_bytes_total") > before
    await no_pages(workers)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_shard_that_comes_back_in_time_changes_no_token(
    workers: Workers, model: Toy, number: signal.Signals
) -> None:
    shard = workers["experts-1"]
    messages = [generate_request(prompt(20 + i), max_tokens=60) for i in range(3)]
    answers = [Answer(message) for message in messages]
    async with workers["decode-0"].client() as client:
        tasks = [asyncio.create_task(ask(client, m, a)) for m, a in zip(messages, answers, strict=True)]
        await until(lambda: all(len(a.tokens[0]) >= 5 for a in answers), lambda: "no tokens came")
        shard.signal(number)
        await asyncio.sleep(1.0)
        if number == signal.SIGKILL:
            shard.kill()
            shard.start()
        else:
            shard.signal(signal.SIGCONT)
        await asyncio.gather(*tasks)
    for i, answer in enumerate(answers):
        assert answer.tokens[0] == model.greedy(prompt(20 + i), 60)
    await no_pages(workers)


async def test_a_shard_that_stays_away_ends_each_stream_with_one_retriable_error(scarce: Workers, model: Toy) -> None:
    shard, decode = scarce["experts-0"], scarce["decode-0"]
    async with decode.client() as client:
        message = generate_request(prompt(10), max_tokens=450)
        answers = [Answer(message) for _ in range(3)]
        tasks = [asyncio.create_task(ask(client, message, a)) for a in answers]
        await until(lambda: all(len(a.tokens[0]) >= 1 for a in answers), lambda: "no tokens came")
        shard.kill()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, Unavailable) and error.retriable for error in errors), errors
        assert not (await decode.state())["covered"]
        assert (await decode.state())["ready"], "a worker that was ready stays so"
        shard.start()
        await shard.ready()

        async def covered() -> bool:
            return bool((await decode.state())["covered"])

        await until(covered, lambda: "not covered again\n" + decode.log[-2000:])
        answer = await ask(client, generate_request(prompt(10), max_tokens=6))
        assert answer.tokens[0] == model.greedy(prompt(10), 6)
    await no_pages(scarce)


async def test_a_decode_worker_that_leaves_says_so_refuses_and_gives_streams_up_in_time(workers: Workers) -> None:
    decode = workers["decode-0"]
    async with decode.client() as client:
        answer = Answer(generate_request(prompt(10), max_tokens=16_000))
        task = asyncio.create_task(ask(client, answer.message, answer))
        await until(lambda: answer.tokens[0], lambda: "no tokens came")
        decode.signal(signal.SIGTERM)
        await until(lambda: any(p.draining for p in answer.progress), lambda: "the leave was not announced")
        with pytest.raises(Draining):
            await ask(client, generate_request(prompt(3)))
        with pytest.raises(Draining, match="go on elsewhere"):
            await task
        assert 0 <= min(p.leave_in_ms for p in answer.progress if p.draining) <= 3000
    assert await decode.ended() == 0, decode.log[-3000:]
    decode.start()
    await decode.ready()


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_damaged_checkpoint_is_one_line_and_exit_code_2(tmp_path: Path, role: str) -> None:
    workers = Workers(tmp_path, tmp_path / "absent")
    worker = workers.add(role, "w")
    (tmp_path / "peers.json").write_text('{"peers": []}')
    worker.start()
    try:
        assert await worker.ended() == 2
        (line,) = [text for text in worker.log.splitlines() if text.startswith("glm5:")]
        assert "absent" in line
        assert "Traceback" not in worker.log
    finally:
        workers.kill()
