"""Asks admin ports for their state."""

import asyncio

import httpx

from glm5_cli.rundir import Running
from glm5_spec.admin import RoleState


async def fetch(client: httpx.AsyncClient, address: str) -> RoleState | None:
    """Return the state behind an admin address, None where nobody answers."""
    try:
        response = await client.get(f"http://{address}/v1/state", timeout=2.0)
        return RoleState.model_validate_json(response.content)
    except (httpx.HTTPError, ValueError):
        return None


async def fetch_all(processes: list[Running]) -> list[RoleState | None]:
    """Return the states of all processes, in their order."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return list(await asyncio.gather(*(fetch(client, process.admin_address) for process in processes)))
