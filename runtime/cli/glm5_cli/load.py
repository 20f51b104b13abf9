"""Requests sent in a closed or open loop, with the time of each token."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class Load:
    """What to send."""

    model: str
    prompts: list[list[int]]
    output_tokens: int
    clients: int
    rate: float | None
    """Requests a second of an open loop; None is a closed loop of `clients`."""
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What came back; times in seconds of the monotonic clock."""

    sent: float
    token_times: list[float] = field(default_factory=list)
    """Arrival of each token; tokens of one event share theirs."""
    ended: float = 0.0
    error: str = ""


async def run_load(client: httpx.AsyncClient, load: Load) -> list[Outcome]:
    """Send every prompt and return the outcomes in the order of the prompts."""
    if load.rate:
        return await _open_loop(client, load, load.rate)
    return await _closed_loop(client, load)


async def _closed_loop(client: httpx.AsyncClient, load: Load) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    waiting = iter(range(len(load.prompts)))

    async def one_client() -> None:
        for number in waiting:
            outcomes[number] = await _ask(client, load, number)

    await asyncio.gather(*(one_client() for _ in range(load.clients)))
    return [outcomes[number] for number in range(len(load.prompts))]


async def _open_loop(client: httpx.AsyncClient, load: Load, rate: float) -> list[Outcome]:
    generator = random.Random(load.seed)
    tasks = []
    for number in range(len(load.prompts)):
        tasks.append(asyncio.create_task(_ask(client, load, number)))
        await asyncio.sleep(generator.expovariate(rate))
    return list(await asyncio.gather(*tasks))


async def _ask(client: httpx.AsyncClient, load: Load, number: int) -> Outcome:
    """Stream one completion of forced length."""
    outcome = Outcome(sent=time.monotonic())
    body = {
        "model": load.model,
        "prompt": load.prompts[number],
        "max_tokens": load.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "return_token_ids": True,
    }
    try:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code >= 400:
                outcome.error = f"HTTP {response.status_code}: {(await response.aread()).decode(errors='replace')}"
            else:
                await _read(response, outcome)
    except httpx.HTTPError as error:
        outcome.error = f"{type(error).__name__}: {error}"
    outcome.ended = time.monotonic()
    if not outcome.error and len(outcome.token_times) != load.output_tokens:
        outcome.error = f"{len(outcome.token_times)} tokens instead of {load.output_tokens}"
    return outcome


async def _read(response: httpx.Response, outcome: Outcome) -> None:
    """Note the arrival of each token."""
    async for line in response.aiter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line[6:])
        if "error" in event:
            outcome.error = event["error"]["message"]
        for choice in event.get("choices", ()):
            outcome.token_times += [time.monotonic()] * len(choice.get("token_ids") or ())
