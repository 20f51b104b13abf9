"""Show every process of a running `glm5 up`."""

import argparse
import asyncio

from rich.console import Console

from glm5_cli import rundir, states
from glm5_cli.errors import CliError
from glm5_cli.table import process_table


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="the whole state of each process as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON, for each `glm5 up` of this user."""
    found = rundir.find()
    if not found:
        raise CliError("no `glm5 up` of yours runs on this machine; start one with `glm5 up`")
    for base_url, processes in found:
        rows = list(zip(processes, asyncio.run(states.fetch_all(processes)), strict=True))
        if arguments.json:
            for _, state in rows:
                print(state.model_dump_json() if state else "null")
        else:
            Console().print(process_table(rows, base_url))
    return 0
