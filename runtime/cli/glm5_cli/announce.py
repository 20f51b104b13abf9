"""What `glm5 up` prints once everything is ready."""

import sys
from pathlib import Path

from rich.console import Console

from glm5_cli import states
from glm5_cli.supervisor import Supervisor
from glm5_cli.table import process_table


async def announce(supervisor: Supervisor) -> None:
    """Print the table of processes and two commands that work as printed."""
    supervisor.publish()
    running = supervisor.running()
    rows = list(zip(running, await states.fetch_all(running), strict=True))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(process_table(rows, supervisor.base_url))
    print(how_to_ask(supervisor), flush=True)


def how_to_ask(supervisor: Supervisor) -> str:
    """Return a curl command and a chat command."""
    url = supervisor.base_url
    key = " -H 'Authorization: Bearer KEY'" if supervisor.layout.api_key_file else ""
    question = '{"role": "user", "content": "What is a shard?"}'
    body = f'{{"model": "{supervisor.layout.served_names[0]}", "messages": [{question}], "temperature": 0}}'
    program = Path(sys.argv[0])
    chat = f"{program if program.name == 'glm5' else 'glm5'} chat --url {url}"
    return (
        "Ask it:\n\n"
        f"  curl -s {url}/v1/chat/completions{key} \\\n"
        "    -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'\n\n"
        f"  {chat}\n\n"
        "Ctrl-C drains and stops everything."
    )
