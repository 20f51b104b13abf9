"""Put a load on a gateway and say how fast it answers: closed loop (clients) or open loop (rate)."""

import argparse
import asyncio
import json
import random
import time
from pathlib import Path

import httpx
from rich.console import Console

from glm5_cli.commands.chat import base_url, raise_for_error
from glm5_cli.errors import CliError
from glm5_cli.load import Load, Outcome, run_load
from glm5_cli.report import report, report_table


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--url", help="address of the gateway (default: the running `glm5 up`)")
    parser.add_argument("--model", help="model to ask (default: the first that is served)")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--clients", type=int, default=8, help="closed loop: clients that ask one after the other (8)")
    parser.add_argument("--rate", type=float, help="open loop: requests a second, Poisson; --clients is then unused")
    parser.add_argument("--requests", type=int, default=64, help="requests in all (64)")
    parser.add_argument("--prompt-tokens", type=int, default=64, help="random tokens of each prompt (64)")
    parser.add_argument("--output-tokens", type=int, default=64, help="forced length of each answer (64)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the load, print the table; exit code 1 where a request failed."""
    outcomes, seconds = asyncio.run(measure(base_url(arguments), arguments))
    found = report(outcomes, seconds)
    Console().print(report_table(found))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1))
    for error in sorted({outcome.error for outcome in outcomes if outcome.error}):
        print(f"failed: {error}")
    return int(found["failed"] > 0)


async def measure(url: str, arguments: argparse.Namespace) -> tuple[list[Outcome], float]:
    """Return the outcome of each request, and the seconds from the first to the last."""
    headers = {"Authorization": f"Bearer {arguments.api_key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=httpx.Timeout(30, read=600), trust_env=False
    ) as client:
        model = arguments.model or await first_model(client)
        generator = random.Random(arguments.seed)
        vocabulary = await highest_plain_token(client)
        prompts = [
            [generator.randrange(vocabulary) for _ in range(arguments.prompt_tokens)] for _ in range(arguments.requests)
        ]
        load = Load(model, prompts, arguments.output_tokens, arguments.clients, arguments.rate, arguments.seed)
        began = time.monotonic()
        outcomes = await run_load(client, load)
        return outcomes, time.monotonic() - began


async def first_model(client: httpx.AsyncClient) -> str:
    """Return the name of the first model that is served."""
    try:
        response = await client.get("/v1/models")
    except httpx.HTTPError as error:
        raise CliError(f"nobody answers at {client.base_url}: {error}; is the gateway up?") from error
    if response.status_code >= 400:
        raise_for_error(response)
    return str(response.json()["data"][0]["id"])


async def highest_plain_token(client: httpx.AsyncClient) -> int:
    """Return a bound below which token ids are those of plain bytes in every GLM tokenizer."""
    response = await client.post("/tokenize", json={"prompt": "~"})
    return max([64, *map(int, response.json()["tokens"])])
