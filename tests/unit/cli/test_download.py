"""`glm5 download` against a hub on this machine that speaks the two calls it makes, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from glm5_cli.__main__ import main
from glm5_cli.commands import download

COMMIT = "c0ffee" * 6
FILES = {
    "config.json": b'{"model_type": "glm_moe_dsa"}',
    "model-00001-of-00001.safetensors": bytes(range(256)) * 40_000,
    "README.md": b"not wanted",
    "original/weights.bin": b"not wanted",
    "pytorch_model.bin": b"not wanted",
}


class Hub(BaseHTTPRequestHandler):
    """A small hub: the listing of a revision, and files with ranges."""

    token: ClassVar[str] = ""
    break_after: ClassVar[int] = 0
    """The next big answer ends after so many bytes; 0 sends all."""
    damage: ClassVar[bool] = False
    requests: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        Hub.requests.append((path, self.headers.get("range", "")))
        if Hub.token and self.headers.get("authorization") != f"Bearer {Hub.token}":
            return self._send(401, b"{}")
        if path == "/api/models/zai/toy/revision/v1":
            return self._send(200, json.dumps({"sha": COMMIT, "siblings": list(map(_entry, FILES))}).encode())
        name = path.removeprefix(f"/zai/toy/resolve/{COMMIT}/")
        if name not in FILES:
            return self._send(404, b"{}")
        start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = FILES[name][start:]
        self._send(206 if start else 200, body[::-1] if Hub.damage and len(body) > 100 else body)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if Hub.break_after and len(body) > Hub.break_after:
            body, Hub.break_after = body[: Hub.break_after], 0
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


def _entry(name: str) -> dict[str, Any]:
    content = FILES[name]
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return entry


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Hub.token, Hub.break_after, Hub.damage = "", 0, False
    Hub.requests.clear()
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(hub: str, folder: Path, revision: str = "v1") -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and its last words."""
    log = folder.parent / "log"
    flags = ["--revision", revision, "--folder", str(folder), "--endpoint", hub, "--termination-log", str(log)]
    code = main(["download", "zai/toy", *flags])
    return code, json.loads(log.read_text())


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wanted() -> dict[str, bytes]:
    return {name: FILES[name] for name in ("config.json", "model-00001-of-00001.safetensors")}


def test_the_files_of_a_checkpoint_are_fetched_and_nothing_else(hub: str, tmp_path: Path) -> None:
    code, words = fetch(hub, tmp_path / "a" / "b")

    assert code == 0
    assert words["ok"] is True
    assert there(tmp_path / "a" / "b") == wanted()


def test_what_is_there_is_not_fetched_again(hub: str, tmp_path: Path) -> None:
    fetch(hub, tmp_path / "m")
    Hub.requests.clear()

    assert fetch(hub, tmp_path / "m")[0] == 0
    assert [path for path, _ in Hub.requests] == ["/api/models/zai/toy/revision/v1"]


def test_a_broken_download_goes_on_where_it_stopped(hub: str, tmp_path: Path) -> None:
    Hub.break_after = 5_000_000

    assert fetch(hub, tmp_path / "m")[0] == 0
    assert there(tmp_path / "m") == wanted()
    resumed = [range_ for path, range_ in Hub.requests if range_]
    assert len(resumed) == 1
    assert 0 < int(resumed[0].removeprefix("bytes=").rstrip("-")) <= 5_000_000


def test_a_damaged_file_is_never_put_in_place(hub: str, tmp_path: Path) -> None:
    Hub.damage = True

    code, words = fetch(hub, tmp_path / "m")

    assert code == download.RETRY_LATER
    assert "model-00001-of-00001.safetensors: the checksum is" in words["message"]
    assert set(there(tmp_path / "m")) == {"config.json"}


def test_a_private_repository_wants_its_token(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Hub.token = "secret"
    code, words = fetch(hub, tmp_path / "m")
    assert (code, "HF_TOKEN" in words["message"]) == (2, True)

    monkeypatch.setenv("HF_TOKEN", "secret")
    assert fetch(hub, tmp_path / "m")[0] == 0


def test_a_revision_that_is_not_there_is_final(hub: str, tmp_path: Path) -> None:
    code, words = fetch(hub, tmp_path / "m", revision="v2")

    assert code == 2
    assert "no zai/toy at revision v2" in words["message"]


def test_a_hub_that_is_away_is_worth_another_attempt(hub: str, tmp_path: Path) -> None:
    code, words = fetch("http://127.0.0.1:1", tmp_path / "m")

    assert code == download.RETRY_LATER
    assert words["ok"] is False
