"""The folder of one `glm5 up`: settings files, the discovery file, and who runs. It goes when `glm5 up` ends."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A process of a running `glm5 up`, as written to processes.json."""

    name: str
    role: str
    pid: int
    grpc_address: str
    admin_address: str


def base() -> Path:
    """Return the folder that has one folder for each running `glm5 up` of this user."""
    root = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return root / f"glm5-{os.getuid()}"


def create() -> Path:
    """Return a new folder of this process, readable by this user alone."""
    path = base() / str(os.getpid())
    path.mkdir(parents=True, mode=0o700, exist_ok=True)
    return path


def write_json(path: Path, value: object) -> None:
    """Replace `path` in one step, so that no reader sees half of it."""
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(value, indent=1))
    scratch.replace(path)


def write_processes(path: Path, processes: list[Running], base_url: str) -> None:
    """Say who runs and where clients ask."""
    rows = [{slot: getattr(process, slot) for slot in Running.__slots__} for process in processes]
    write_json(path / "processes.json", {"base_url": base_url, "processes": rows})


def find() -> list[tuple[str, list[Running]]]:
    """Return (base URL, processes) of each `glm5 up` of this user that is alive."""
    found = []
    for path in sorted(base().glob("*/processes.json")):
        if Path(f"/proc/{path.parent.name}").exists():
            content = json.loads(path.read_text())
            found.append((content["base_url"], [Running(**row) for row in content["processes"]]))
    return found
