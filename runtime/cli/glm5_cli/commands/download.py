"""Download a checkpoint from a hub, with checksums; goes on where it stopped."""

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from glm5_cli import hub
from glm5_cli.errors import CliError
from glm5_cli.fetch import Corrupt, fetch

ATTEMPTS = 5
PAUSE_SECONDS = 5.0
REPORT_SECONDS = 10.0
PARALLEL = 4
RETRY_LATER = 3
"""Exit code where another attempt may work; 1 and 2 are final."""


class Progress:
    """Counts bytes of all files and says now and then how far it is."""

    def __init__(self, total: int) -> None:
        """Begin at 0 of `total` bytes."""
        self._total, self._done, self._told_at = total, 0, float("-inf")
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes of any thread; print a line every REPORT_SECONDS and at the end."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._done >= self._total or now - self._told_at >= REPORT_SECONDS:
                self._told_at = now
                share = 100 * self._done / max(1, self._total)
                print(f"{self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB ({share:.0f} %)", flush=True)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("repo", metavar="OWNER/NAME", help="repository on the hub")
    parser.add_argument("--revision", required=True, help="commit or tag")
    parser.add_argument("--folder", required=True, type=Path, help="where the files go; made if it is not there")
    parser.add_argument("--endpoint", default="https://huggingface.co", help="address of the hub or of a mirror")
    parser.add_argument("--termination-log", metavar="FILE", type=Path, help="write the outcome there as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Return 0 when every file is there and right; the token for private repositories is in HF_TOKEN."""
    code, message = 0, ""
    try:
        message = _with_patience(arguments)
    except CliError as error:
        code, message = 2, str(error)
    except (httpx.HTTPError, Corrupt, OSError) as error:
        code, message = RETRY_LATER, f"{arguments.repo}: {error or type(error).__name__}"
    print(message, file=sys.stderr if code else sys.stdout)
    if arguments.termination_log:
        text = json.dumps({"ok": code == 0, "message": message[:2048]})
        arguments.termination_log.write_text(text)
    return code


def _with_patience(arguments: argparse.Namespace) -> str:
    """Try a few times; each attempt goes on where the last one stopped."""
    with hub.client(os.environ.get("HF_TOKEN", "")) as http:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _download(http, arguments)
            except (httpx.HTTPError, Corrupt) as error:
                if attempt == ATTEMPTS:
                    raise
                print(f"attempt {attempt} of {ATTEMPTS} failed: {error or type(error).__name__}", file=sys.stderr)
                time.sleep(PAUSE_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _download(http: httpx.Client, arguments: argparse.Namespace) -> str:
    """Fetch what is missing; return what is there then."""
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    commit, files = hub.files(http, arguments.endpoint, arguments.repo, arguments.revision)
    total = sum(file.size for file in files)
    progress = Progress(total)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for future in [pool.submit(fetch, http, file, folder, progress.add) for file in files]:
            future.result()
    return f"{arguments.repo} at {commit}: {len(files)} files, {total} bytes in {folder}, every checksum right"
