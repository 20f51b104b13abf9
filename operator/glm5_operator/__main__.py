"""`python -m glm5_operator`: one replica of the operator, with settings from the environment."""

import asyncio
import os
import signal
import sys

from glm5_operator import logs, process
from glm5_operator.errors import SettingsError
from glm5_operator.settings import Settings, from_environment


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    try:
        settings = from_environment(os.environ)
        logs.start(settings)
        asyncio.run(_run(settings))
    except SettingsError as error:
        sys.stderr.write(f"glm5-operator: {error}\n")
        return 2
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await process.run(settings, stop)


if __name__ == "__main__":
    sys.exit(main())
