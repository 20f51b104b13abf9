"""Start every role on this machine and say how to ask.

Ctrl-C drains and stops everything; a second Ctrl-C stops at once.
"""

import argparse
import asyncio
import dataclasses
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from glm5_cli import states
from glm5_cli.announce import announce
from glm5_cli.deployment import layout_from_file
from glm5_cli.errors import CliError
from glm5_cli.layout import Layout
from glm5_cli.overrides import overrides
from glm5_cli.ports import is_free
from glm5_cli.supervisor import Supervisor
from glm5_spec.admin import RoleState

START_SECONDS = 600.0
"""Every process must be ready in this time."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-f", "--file", help="a GLM5Deployment as it is applied to Kubernetes")
    parser.add_argument("--model", metavar="DIR", help="checkpoint folder (default: the demo model)")
    for role, what in (("prefill", "prefill workers"), ("decode", "decode workers"), ("experts", "shards of a group")):
        parser.add_argument(f"--{role}", type=int, metavar="N", help=f"number of {what}")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--numerics", choices=("invariant", "fast"))
    parser.add_argument("--port", type=int, default=8000, help="HTTP port of the gateway, 0 for a free one (8000)")
    parser.add_argument("--grpc-port", type=int, default=8001, help="gRPC port of the gateway, 0 for a free one (8001)")
    parser.add_argument("--api-key-file", metavar="F", help="file with one API key a line")
    parser.add_argument(
        "--drain-seconds", type=float, default=30.0, help="how long running answers may go on at Ctrl-C"
    )
    parser.add_argument("--otlp-endpoint", metavar="URL", help="where traces go (OTLP over HTTP)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ROLE.FIELD=VALUE",
        help="a field of a role's settings (docs/settings.md), for example decode.cache_tokens=4096",
    )
    parser.add_argument("--log-format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C, SIGTERM, or a failure that no restart can mend."""
    return asyncio.run(serve(layout(arguments), arguments.drain_seconds))


def demo_model() -> Path:
    """Return the folder of the demo model.

    Raises:
        CliError: this installation came without it.
    """
    path = Path(__file__).parents[4] / "examples" / "demo-model"
    if not (path / "config.json").exists():
        raise CliError(f"there is no demo model at {path}; say which checkpoint to serve with --model DIR")
    return path


def layout(arguments: argparse.Namespace) -> Layout:
    """Return what to start: defaults, then the file, then the command line."""
    for role in ("prefill", "decode", "experts"):
        if (count := getattr(arguments, role)) is not None and count < (role != "prefill"):
            raise CliError(f"--{role} {count}: at least {int(role != 'prefill')}")
    if arguments.file:
        base, unused = layout_from_file(arguments.file, arguments.model)
        for name in unused:
            print(f"glm5 up: {name} means nothing on one machine and is not used", file=sys.stderr)
    else:
        model = Path(arguments.model) if arguments.model else demo_model()
        base = Layout(model_path=str(model), served_names=(model.resolve().name,))
    changes = {
        "prefill": arguments.prefill,
        "decode": arguments.decode,
        "shards": arguments.experts,
        "dtype": arguments.dtype,
        "numerics": arguments.numerics,
        "api_key_file": arguments.api_key_file,
        "otlp_endpoint": arguments.otlp_endpoint,
        "http_port": arguments.port,
        "grpc_port": arguments.grpc_port,
        "json_logs": arguments.log_format == "json",
    }
    found = dataclasses.replace(base, **{key: value for key, value in changes.items() if value is not None})
    found = dataclasses.replace(found, overrides=overrides(arguments.set))
    if not Path(found.model_path, "config.json").is_file():
        raise CliError(f"{found.model_path} has no config.json: --model wants a Hugging Face checkpoint folder")
    return found


class Log:
    """One log for all processes, with the name of each before its lines; bare lines for machines."""

    def __init__(self, console: Console, json_logs: bool) -> None:
        self._console = console
        self._json = json_logs

    def __call__(self, name: str, line: str) -> None:
        """Print one line."""
        prefix = "" if self._json else f"{name:<12} | "
        self._console.print(prefix + line, markup=False, highlight=False, soft_wrap=True)


async def serve(what: Layout, drain_seconds: float) -> int:
    """Start, print the table, wait for the end, stop; returns the exit code."""
    for port, option in ((what.http_port, "--port"), (what.grpc_port, "--grpc-port")):
        if port and not is_free(port, what.host):
            raise CliError(f"port {port} is taken by another process; choose one with {option}, 0 takes a free one")
    console = Console(stderr=True)
    log = Log(console, what.json_logs)
    supervisor = Supervisor(what, log, drain_seconds)
    interrupts: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupts.put_nowait, None)
    await supervisor.start()
    interrupted = asyncio.create_task(interrupts.get())
    try:
        ready = asyncio.create_task(wait_ready(supervisor, console))
        await asyncio.wait({ready, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
        elif failure := ready.result():
            log("glm5", failure)
            return 1
        else:
            await announce(supervisor)
            return await watch(supervisor, interrupted, log)
        return 0
    finally:
        await _stop(supervisor, interrupted, interrupts, log)


async def _stop(
    supervisor: Supervisor, interrupted: asyncio.Task[None], interrupts: asyncio.Queue[None], log: Log
) -> None:
    """Stop in order; at once where a second interrupt comes."""
    if interrupted.done():
        log("glm5", f"stopping: what runs may go on for {supervisor.drain_seconds:.0f} s; Ctrl-C stops at once")
    interrupted.cancel()
    stopping = asyncio.create_task(supervisor.stop())
    again = asyncio.create_task(interrupts.get())
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not stopping.done():
        await supervisor.kill()
    await stopping


async def wait_ready(supervisor: Supervisor, console: Console) -> str:
    """Show the progress of loading until all are ready; returns why they cannot be, or nothing."""
    deadline = time.monotonic() + START_SECONDS
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}
        while True:
            if failure := supervisor.failure():
                return failure
            running = supervisor.running()
            found = await states.fetch_all(running)
            for process, state in zip(running, found, strict=True):
                if process.name not in bars:
                    bars[process.name] = progress.add_task(process.name, total=1.0)
                done = 1.0 if state and state.ready else min(state.loading_progress, 0.99) if state else 0.0
                progress.update(bars[process.name], completed=done)
            if all(state and state.ready for state in found) and _gateways_cover(found):
                return ""
            if time.monotonic() > deadline:
                slow = [row.name for row, state in zip(running, found, strict=True) if not (state and state.ready)]
                return f"not ready after {START_SECONDS:.0f} s: {', '.join(slow)}; look at their lines above"
            await asyncio.sleep(0.2)


def _gateways_cover(found: list[RoleState | None]) -> bool:
    """Return whether a request would be answered now."""
    return all(state.covered for state in found if state and state.role == "gateway")


async def watch(supervisor: Supervisor, interrupted: asyncio.Task[None], log: Log) -> int:
    """Wait for the interrupt; a process that cannot run at all ends everything. Returns the exit code."""
    while not interrupted.done():
        await asyncio.wait({interrupted}, timeout=1.0)
        supervisor.publish()
        if failure := supervisor.failure():
            log("glm5", f"{failure}; stopping everything")
            return 1
    return 0
