"""A real `glm5 up` for tests: started as a user starts it, asked over its ports, killed where a test wants it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 240.0
GLM5 = Path(sys.executable).parent / "glm5"


class Stack:
    """One running `glm5 up`."""

    def __init__(self, folder: Path, model: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.model = model
        self._log_path = folder / "up.log"
        self._log = self._log_path.open("w")
        command = [str(GLM5), "up", "--model", str(model), "--port", "0", "--grpc-port", "0", *options]
        environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
        self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=environment)
        self._run_dir = folder / f"glm5-{os.getuid()}" / str(self.process.pid)

    @property
    def log(self) -> str:
        """Return all lines so far."""
        return self._log_path.read_text()

    def wait_ready(self) -> None:
        """Wait until `glm5 up` has printed its table."""
        wait_for(self._started, START_SECONDS, lambda: f"glm5 up did not start:\n{self.log[-4000:]}")

    def _started(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"glm5 up ended with {self.process.returncode}:\n{self.log[-4000:]}")
        return "Ctrl-C drains" in self.log

    def _running(self) -> dict[str, Any]:
        return json.loads((self._run_dir / "processes.json").read_text())

    @property
    def url(self) -> str:
        """Return the base URL of the gateway."""
        return str(self._running()["base_url"])

    def row(self, name: str) -> dict[str, Any]:
        """Return what `glm5 up` says of a process."""
        return next(row for row in self._running()["processes"] if row["name"] == name)

    @property
    def names(self) -> list[str]:
        """Return the names of all processes."""
        return [row["name"] for row in self._running()["processes"]]

    @property
    def grpc_address(self) -> str:
        """Return the gateway's gRPC address."""
        return str(self.row("gateway-0")["grpc_address"])

    def state(self, name: str) -> dict[str, Any]:
        """Return the admin state of a process; raises httpx.HTTPError where it does not answer."""
        response = httpx.get(f"http://{self.row(name)['admin_address']}/v1/state", timeout=10, trust_env=False)
        return dict(response.json())

    def metrics(self, name: str) -> str:
        """Return the metrics page of a process."""
        return httpx.get(f"http://{self.row(name)['admin_address']}/metrics", timeout=10, trust_env=False).text

    def metric(self, name: str, metric: str) -> float:
        """Return the sum of all samples of one metric, which must be there."""
        samples = [line for line in self.metrics(name).splitlines() if line.split("{")[0].split(" ")[0] == metric]
        assert samples, f"{name} has no metric {metric}"
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process; returns its pid."""
        pid = int(self.state(name).get("pid") or self.row(name)["pid"])
        os.kill(pid, number)
        return pid

    def stop(self) -> int:
        """Send SIGINT, as Ctrl-C does; returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._log.close()


def wait_for(condition: Callable[[], bool], seconds: float, words: str | Callable[[], str]) -> None:
    """Return once `condition()` holds; fail with `words` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(words if isinstance(words, str) else words())
        time.sleep(0.05)


@contextlib.contextmanager
def running_stack(folder: Path, model: Path, *options: str) -> Iterator[Stack]:
    """Yield a stack that is ready; it is gone afterwards."""
    stack = Stack(folder, model, *options)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
