"""All processes of one `glm5 up`: settings and discovery files, starts, restarts, ordered stop."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from glm5_cli import rundir
from glm5_cli.layout import Layout, Unit, units
from glm5_cli.ports import free_ports
from glm5_cli.process import SupervisedProcess
from glm5_cli.rundir import Running

STOP_ORDER = ("gateway", "decode", "prefill", "experts")
"""Whoever asks stops before who is asked, so that what runs can finish."""

_LONGEST_SOCKET_PATH = 107
"""Bytes that Linux allows."""


class Supervisor:
    """Starts and stops what a layout names."""

    def __init__(self, layout: Layout, write: Callable[[str, str], None], drain_seconds: float = 30.0) -> None:
        """`write(name, line)` receives the log, the name being a process or `glm5`."""
        self.layout = layout
        self.drain_seconds = drain_seconds
        self.path = rundir.create()
        self._units = [self._with_ports(unit) for unit in units(layout)]
        self.processes = [SupervisedProcess(unit, self._settings_path(unit), write) for unit in self._units]
        self._tasks: list[asyncio.Task[None]] = []

    def _with_ports(self, unit: Unit) -> Unit:
        """Return the unit with a fixed port for each 0: peers find it again after a restart."""
        names = ["grpc_port", "admin_port"] + (["http_port"] if unit.role == "gateway" else [])
        missing = [name for name in names if not unit.fields.get(name)]
        ports = dict(zip(missing, free_ports(len(missing), self.layout.host), strict=True))
        files: dict[str, object] = {"discovery": {"file": str(self.path / "peers.json"), "refresh_seconds": 1.0}}
        if len(str(self.path / f"{unit.name}.sock")) <= _LONGEST_SOCKET_PATH:
            files["socket_dir"] = str(self.path)
        return Unit(unit.name, unit.role, {"drain_seconds": self.drain_seconds} | files | unit.fields | ports)

    def _peer_address(self, unit: Unit) -> str:
        """Return where the other processes find `unit`: its Unix socket where it has one, which is faster."""
        folder = unit.fields.get("socket_dir")
        return f"unix:{folder}/{unit.name}.sock" if folder else f"{self.layout.host}:{unit.fields['grpc_port']}"

    def _settings_path(self, unit: Unit) -> Path:
        return self.path / f"{unit.name}.json"

    @property
    def base_url(self) -> str:
        """Return where clients ask the first gateway."""
        gateway = next(unit for unit in self._units if unit.role == "gateway")
        return f"http://{self.layout.host}:{gateway.fields['http_port']}"

    def running(self) -> list[Running]:
        """Return who runs, with pids and addresses."""
        host = self.layout.host
        return [
            Running(
                name=process.unit.name,
                role=process.unit.role,
                pid=process.pid,
                grpc_address=f"{host}:{process.unit.fields['grpc_port']}",
                admin_address=f"{host}:{process.unit.fields['admin_port']}",
            )
            for process in self.processes
        ]

    async def start(self) -> None:
        """Write all files, then start every process; returns before they are ready."""
        for unit in self._units:
            rundir.write_json(self._settings_path(unit), unit.fields)
        peers = [{"role": unit.role, "address": self._peer_address(unit)} for unit in self._units]
        rundir.write_json(self.path / "peers.json", {"peers": peers})
        self._tasks = [asyncio.create_task(process.run()) for process in self.processes]

    def publish(self) -> None:
        """Write who runs, for `glm5 status`."""
        rundir.write_processes(self.path, self.running(), self.base_url)

    def failure(self) -> str:
        """Return why a process cannot run at all; empty where all can."""
        return next((process.failure for process in self.processes if process.failure), "")

    async def stop(self) -> None:
        """Stop role after role, remove the folder; every process is gone afterwards."""
        for role in STOP_ORDER:
            group = [process for process in self.processes if process.unit.role == role]
            await asyncio.gather(*(process.stop(self.drain_seconds + 10) for process in group))
        await asyncio.gather(*self._tasks)
        shutil.rmtree(self.path, ignore_errors=True)

    async def kill(self) -> None:
        """End every process at once."""
        await asyncio.gather(*(process.stop(0.1) for process in self.processes))
