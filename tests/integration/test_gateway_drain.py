"""A decode worker that is asked to leave: its streams go on elsewhere, unchanged, and nobody hears of it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from support_http import client, complete
from support_stack import running_stack, wait_for

PROMPTS = [[number, *range(20 + 7 * number)] for number in range(6)]
FIELDS = {"max_tokens": 200, "temperature": 0.7, "ignore_eos": True}


@pytest.mark.timeout(600)
def test_streams_of_a_draining_worker_go_on_elsewhere_unchanged(tmp_path: Path, toy: Path) -> None:
    with running_stack(tmp_path, toy, "--dtype", "float32", "--experts", "2", "--drain-seconds", "120") as stack:
        name = stack.model.name

        async def ask(drained: bool) -> list[list[int]]:
            async with client(stack.url) as http:
                asking = [
                    asyncio.create_task(complete(http, name, prompt, seed=seed, **FIELDS))
                    for seed, prompt in enumerate(PROMPTS)
                ]
                if drained:
                    busy = "decode-0 got no stream"
                    await asyncio.to_thread(wait_for, lambda: stack.state("decode-0")["in_flight"] > 0, 120, busy)
                    os.kill(stack.row("decode-0")["pid"], signal.SIGTERM)
                answers = await asyncio.wait_for(asyncio.gather(*asking), 400)
            assert [answer.error for answer in answers] == [""] * len(PROMPTS)
            assert {answer.finish_reason for answer in answers} == {"length"}
            return [answer.token_ids for answer in answers]

        expected = asyncio.run(ask(drained=False))
        assert asyncio.run(ask(drained=True)) == expected
        assert stack.metric("gateway-0", "glm5_gateway_moves_total") >= 1
