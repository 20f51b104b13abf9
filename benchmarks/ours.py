"""glm5-serve over HTTP: `glm5 up` with its roles in separate processes."""

import asyncio
import json
import tempfile
import time
from pathlib import Path

from prompts import CLIENTS, OUTPUT_TOKENS, prompts

from support_http import client, complete
from support_stack import running_stack

ROLES = ("--prefill", "2", "--decode", "1", "--experts", "2")
"""Six processes with the gateway: on two cores few shards and one decode worker are best (each costs messages)."""
WARM_UPS = 3


async def ask(url: str, model: str, clients: int, run: int) -> float:
    """Return output tokens a second of all clients asking at once."""
    async with client(url) as http:
        fields = {"max_tokens": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True}
        began = time.perf_counter()
        answers = await asyncio.gather(*(complete(http, model, prompt, **fields) for prompt in prompts(clients, run)))
        seconds = time.perf_counter() - began
    wrong = [answer for answer in answers if answer.error or len(answer.token_ids) != OUTPUT_TOKENS]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {clients} answers failed: {wrong[0].error}")
    return clients * OUTPUT_TOKENS / seconds


def measure(model: Path, numerics: str, run: int) -> dict[int, float]:
    """Return clients to tokens a second of a fresh `glm5 up`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder), model, "--numerics", numerics, *ROLES) as stack,
    ):
        for number in range(WARM_UPS):
            asyncio.run(ask(stack.url, model.name, 8, 90 + number))
        return {clients: asyncio.run(ask(stack.url, model.name, clients, run)) for clients in CLIENTS}


def measure_json(model: Path, numerics: str, run: int) -> str:
    """Return the same as JSON."""
    return json.dumps(measure(model, numerics, run))
