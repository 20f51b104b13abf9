"""The command line. Each command is a module with `add(subparsers)` and `run(arguments) -> exit code`."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from glm5_cli.errors import CliError

COMMANDS = ("up", "status", "chat", "bench", "check", "download", "toy")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(prog="glm5", description=__doc__)
    subparsers = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"glm5_cli.commands.{name}")
        command = subparsers.add_parser(name, help=(module.__doc__ or "").splitlines()[0], description=module.__doc__)
        module.add(command)
        command.set_defaults(run=module.run)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error of the user's is one line on stderr and exit code 2."""
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except CliError as error:
        print(f"glm5 {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
