"""Completions over HTTP as token ids, alone or many at once."""

import asyncio
import json
import math
import random
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(60, read=600)


@dataclass(slots=True)
class Answer:
    """One completion: its tokens, how it ended, and the error where it failed."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    status: int = 200
    error: str = ""
    usage: dict[str, Any] | None = None


def client(url: str) -> httpx.AsyncClient:
    """Return a client without a limit of connections, which asks nobody's proxy."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits, trust_env=False)


def log_uniform_prompts(count: int, longest: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Return `count` random prompts whose lengths are log-uniform in 1 to `longest`; both ends occur."""
    generator = random.Random(seed)
    lengths = [1, longest, *(round(math.exp(generator.uniform(0, math.log(longest)))) for _ in range(count - 2))]
    return [[generator.randrange(vocabulary) for _ in range(length)] for length in lengths]


async def complete(http: httpx.AsyncClient, model: str, prompt: list[int], **fields: Any) -> Answer:
    """Return the answer to one prompt of token ids, streamed."""
    body = {"model": model, "prompt": prompt, "stream": True, "return_token_ids": True, **fields}
    answer = Answer()
    try:
        async with http.stream("POST", "/v1/completions", json=body) as response:
            answer.status = response.status_code
            if response.status_code != 200:
                answer.error = (await response.aread()).decode()
                return answer
            async for line in response.aiter_lines():
                read_event(line, answer)
    except httpx.HTTPError as error:
        answer.error = f"{type(error).__name__}: {error}"
    return answer


def read_event(line: str, answer: Answer) -> None:
    """Add what one line of the stream says."""
    if not line.startswith("data: ") or line == "data: [DONE]":
        return
    event = json.loads(line[6:])
    if "error" in event:
        answer.error = json.dumps(event["error"])
    for choice in event.get("choices", ()):
        answer.token_ids += choice.get("token_ids") or []
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    answer.usage = event.get("usage") or answer.usage


async def complete_all(url: str, model: str, prompts: list[list[int]], **fields: Any) -> list[Answer]:
    """Return the answers to all prompts, asked at once."""
    async with client(url) as http:
        return list(await asyncio.gather(*(complete(http, model, prompt, **fields) for prompt in prompts)))
