"""Report every fault of a checkpoint at once."""

import argparse
import dataclasses
import json
import os
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="DIR", help="folder of a Hugging Face checkpoint")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--termination-log", metavar="FILE", help="write the JSON report there too, cut to 4 KiB")


def run(arguments: argparse.Namespace) -> int:
    """Return 0 where the checkpoint can be served, 1 where it cannot."""
    from glm5_model.checkpoint import check

    faults = [dataclasses.asdict(fault) for fault in check(arguments.model)]
    report = {"model": str(arguments.model), "ok": not faults, "faults": faults}
    if arguments.termination_log:
        write_termination(Path(arguments.termination_log), report)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print_text(report)
    return int(bool(faults))


def print_text(report: dict[str, object]) -> None:
    """Print a paragraph for each fault."""
    faults = report["faults"]
    assert isinstance(faults, list)
    for fault in faults:
        place = os.path.join(str(report["model"]), fault["file"] or "")
        tensor = f" {fault['tensor']}" if fault["tensor"] else ""
        print(f"{fault['kind']}: {place}{tensor}: {fault['message']}\n  cure: {fault['cure']}")
    print(f"{report['model']}: {len(faults)} faults" if faults else f"{report['model']}: good")


def write_termination(path: Path, report: dict[str, object]) -> None:
    """Write as many whole faults as fit in the 4,096 bytes of a termination message."""
    faults = report["faults"]
    assert isinstance(faults, list)
    for count in range(len(faults), -1, -1):
        text = json.dumps(report | {"faults": faults[:count], "num_faults": len(faults)})
        if len(text.encode()) <= 4096:
            path.write_text(text)
            return
