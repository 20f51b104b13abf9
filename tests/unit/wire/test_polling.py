"""Who reads the sockets of a role process: the thread that waits for gRPC's completions, not gRPC's event engine."""

import os
import subprocess
import sys

import pytest

CALLS = 300
SCRIPT = """
import asyncio
from pathlib import Path
import PACKAGE
import grpc.aio

class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        async def answer(request, context):
            return request
        return grpc.unary_unary_rpc_method_handler(answer)

def wakes(task):
    lines = (line.partition(":") for line in (task / "status").read_text().splitlines())
    return next(int(number) for name, _, number in lines if name == "voluntary_ctxt_switches")

async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(CALLS):
            await channel.unary_unary("/a/b")(b"x")
        tasks = Path("/proc/self/task").iterdir()
        print(sum(wakes(task) for task in tasks if (task / "comm").read_text().startswith("event_engine")))
    await server.stop(0)

asyncio.run(main())
"""


def engine_wakes(package: str) -> int:
    """Return how often threads of the event engine woke up during some hundred calls."""
    script = SCRIPT.replace("PACKAGE", package).replace("CALLS", str(CALLS))
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.parametrize("package", ["glm5_decode", "glm5_experts", "glm5_gateway", "glm5_prefill"])
def test_a_role_reads_its_sockets_without_the_event_engine(package: str) -> None:
    assert engine_wakes(package) < CALLS


def test_without_us_the_event_engine_reads() -> None:
    assert engine_wakes("grpc") > 2 * CALLS
