"""A real Kubernetes API (etcd, kube-apiserver, kube-controller-manager) on loopback, for tests marked `apiserver`.

    with ApiServer() as api:
        api.kubectl("create", "namespace", "a")

There are no nodes: pods are admitted, owned and garbage-collected, and stay Pending. The operator's tests use it where
what matters is what the API server accepts, refuses and remembers.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster import kube, kubeconfig
from cluster.processes import Process

START_SECONDS = 120.0
"""Patience for one component; on an idle machine everything is up in less than ten seconds."""
# Below the range from which the kernel takes ports for clients: while the server is stopped nobody gets its port.
PORTS = range(20_000, 30_000)
PORT_TRIES = 5
ETCD_SOCKET = "unix://etcd:1"


class ApiServer:
    """The control plane with a folder of its own; as a context manager it is up inside the block, gone after it."""

    def __init__(self) -> None:
        # Short, since the sockets in it may have paths of at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="glm5-api-"))
        self.port = 0
        self.token = secrets.token_hex(16)
        self._processes: dict[str, Process] = {}

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file of the cluster administrator."""
        return self.folder / "kubeconfig"

    @property
    def ca_file(self) -> Path:
        """The certificate to verify the API server with."""
        return self.folder / "certs" / "apiserver.crt"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all components and wait until the API is ready and controllers work.

        Raises:
            RuntimeError: a component ended or was not ready in time; its last output is in the text.
        """
        try:
            self._prepare()
            self._start_etcd()
            self._start_apiserver_on_a_free_port()
            kubeconfig.write(self.kubeconfig, self.url, self.ca_file, self.token)
            self._start_controllers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process and remove the folder."""
        for process in reversed(self._processes.values()):
            process.end()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop_apiserver(self) -> None:
        """Begin an outage: the API server is killed, connections are refused; etcd and the controllers stay."""
        self._processes.pop("kube-apiserver").end()

    def start_apiserver(self) -> None:
        """End an outage: the API server runs again on the same port with the same certificate and objects."""
        self._spawn("kube-apiserver", self._apiserver_flags())
        self._wait_for("kube-apiserver", self._is_ready)

    def halt(self) -> None:
        """Begin a hang: the API server is stopped in the middle (SIGSTOP), connections stay open and silent."""
        self._processes["kube-apiserver"].send(signal.SIGSTOP)

    def resume(self) -> None:
        """End a hang."""
        self._processes["kube-apiserver"].send(signal.SIGCONT)

    def kubectl(self, *args: str, stdin: str = "", config: Path | None = None) -> str:
        """Return what kubectl prints.

        Raises:
            subprocess.CalledProcessError: kubectl failed; its words are in `stderr` and in the notes.
        """
        # Without the flag kubectl gives up on the schema after 32 s, which a busy machine may need to write it.
        patience = f"--request-timeout={START_SECONDS:.0f}s"
        command = [str(kube.command("kubectl")), "--kubeconfig", str(config or self.kubeconfig), patience, *args]
        try:
            done = subprocess.run(
                command, input=stdin, text=True, capture_output=True, timeout=2 * START_SECONDS, check=True
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise
        return done.stdout

    def apply(self, *objects: dict[str, object]) -> None:
        """Apply objects server-side, as `kubectl apply` of their manifests does."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    def kubeconfig_of(self, namespace: str, service_account: str) -> Path:
        """Return a kubeconfig with a fresh token of an existing service account: its rights and no others."""
        token = self.kubectl("create", "token", "-n", namespace, service_account, "--duration=2h").strip()
        path = self.folder / f"kubeconfig-{namespace}-{service_account}"
        return kubeconfig.write(path, self.url, self.ca_file, token, namespace)

    def _prepare(self) -> None:
        """Write the token of the administrator and the key that signs service account tokens."""
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')
        certs = self.folder / "certs"
        command = [str(kube.command("kubeadm")), "init", "phase", "certs", "sa", "--cert-dir", str(certs)]
        subprocess.run(command, check=True, capture_output=True, timeout=START_SECONDS)

    def _start_etcd(self) -> None:
        # Sockets in the folder, the working directory: no port to lose to somebody else, nobody else can come in.
        client, peer = ETCD_SOCKET, "unix://peer:1"
        flags = {
            "name": "test",
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"test={peer}",
            "unsafe-no-fsync": "true",  # a killed process loses nothing; a lost machine may
        }
        self._spawn("etcd", flags)
        self._wait_for("etcd", (self.folder / ETCD_SOCKET.removeprefix("unix://")).exists)

    def _start_apiserver_on_a_free_port(self) -> None:
        for attempt in range(PORT_TRIES):
            self.port = _free_port()
            try:
                return self.start_apiserver()
            except RuntimeError as error:
                # Somebody else took the port between our look and the server's bind.
                if "address already in use" not in str(error) or attempt == PORT_TRIES - 1:
                    raise
                self._processes.pop("kube-apiserver").end()

    def _apiserver_flags(self) -> dict[str, object]:
        key = self.folder / "certs" / "sa.key"
        return {
            "bind-address": "127.0.0.1",
            "secure-port": self.port,
            "advertise-address": "192.0.2.1",  # a loopback address is refused as an endpoint
            "endpoint-reconciler-type": "none",
            "cert-dir": self.folder / "certs",
            "etcd-servers": ETCD_SOCKET,
            "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "RBAC",
            "allow-privileged": "true",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self.folder / "certs" / "sa.pub",
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": "10.0.0.0/24",
        }

    def _start_controllers(self) -> None:
        flags = {
            "kubeconfig": self.kubeconfig,
            "leader-elect": "false",
            "secure-port": 0,
            "use-service-account-credentials": "true",
            "service-account-private-key-file": self.folder / "certs" / "sa.key",
            "root-ca-file": self.ca_file,
            "kube-api-qps": 200,
            "kube-api-burst": 400,
        }
        self._spawn("kube-controller-manager", flags)
        self._wait_for("kube-controller-manager", self._has_default_account)

    def _spawn(self, component: str, flags: dict[str, object]) -> None:
        argv = [str(kube.command(component)), *(f"--{name}={value}" for name, value in flags.items())]
        log = self.folder / f"{component}.log"
        self._processes[component] = Process(component, argv, log, self.folder)

    def _wait_for(self, component: str, holds: Callable[[], bool]) -> None:
        process = self._processes[component]
        until = time.monotonic() + START_SECONDS
        while not holds():
            ended = process.code is not None
            if ended or time.monotonic() > until:
                what = f"ended with code {process.code}" if ended else f"not ready in {START_SECONDS:.0f} s"
                raise RuntimeError(f"{component}: {what}; log {process.log} ends:\n{process.tail()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        return self._get("/readyz") == b"ok"

    def _has_default_account(self) -> bool:
        return self._get("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _get(self, path: str) -> bytes | None:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return bytes(answer.read())
        except OSError:  # not there yet, refused, not ready (an HTTP error is one too)
            return None


def _free_port() -> int:
    for port in random.sample(PORTS, PORT_TRIES * 20):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port among 100 tried in {PORTS}: see `ss -tln`")
