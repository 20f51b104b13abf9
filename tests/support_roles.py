"""Single role processes for tests: started with a settings file, asked over their admin port, killed where wanted."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 240.0


class RoleProcess:
    """One `python -m glm5_ROLE --settings FILE`."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        name, role = fields["name"], fields["role"]
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.role = name, role
        self.fields = {"grpc_port": free_port(), "admin_port": free_port()} | fields
        self.settings = folder / f"{name}.json"
        self.settings.write_text(json.dumps(self.fields))
        self.log_path = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Return host and port for gRPC."""
        return f"127.0.0.1:{self.fields['grpc_port']}"

    @property
    def log(self) -> str:
        """Return all lines so far."""
        return self.log_path.read_text()

    def start(self) -> "RoleProcess":
        """Start it; returns at once."""
        command = [sys.executable, "-m", f"glm5_{self.role}", "--settings", str(self.settings)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def state(self) -> dict[str, Any]:
        """Return the admin state; raises httpx.HTTPError where nobody answers."""
        url = f"http://127.0.0.1:{self.fields['admin_port']}/v1/state"
        return dict(httpx.get(url, timeout=10, trust_env=False).json())

    def page(self, path: str) -> httpx.Response:
        """Return a page of the admin port."""
        return httpx.get(f"http://127.0.0.1:{self.fields['admin_port']}{path}", timeout=10, trust_env=False)

    def wait_ready(self) -> "RoleProcess":
        """Wait until it says that it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log}"
            try:
                if self.state()["ready"]:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.name} was not ready after {START_SECONDS} s:\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def wait(self, seconds: float = 60.0) -> int:
        """Return the exit code."""
        assert self.process is not None
        return self.process.wait(seconds)


def free_port() -> int:
    """Return a port that nobody listens on now, outside the range of outgoing connections."""
    for port in range(20000 + os.getpid() % 8000, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port
    raise AssertionError("no free port")


_given: set[int] = set()
