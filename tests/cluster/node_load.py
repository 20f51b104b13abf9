"""Put images of the Docker engine onto nodes: one archive, all nodes at once, only what a node lacks.

`kind load` would write and read an archive of a gigabyte for every image and node.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import cache, engine, kind_cluster, shell

STEP = "load"
MARKS = "/var/lib/glm5-loaded"
"""A folder of each node with a file per image that is there, named by the engine's id; it lives as long as the node."""


def load(tags: Sequence[str], nodes: Sequence[str] = ()) -> None:
    """Put images onto `nodes`, by default all workers: no pod of ours is allowed on the control plane.

    Raises:
        StepError: an image does not exist, or a node refuses it.
    """
    targets = list(nodes) or kind_cluster.nodes()[1:]
    lacking = {node: [tag for tag in tags if not _is_there(node, tag)] for node in targets}
    wanted = sorted({tag for absent in lacking.values() for tag in absent})
    if not wanted:
        return
    shell.say(f"{STEP}: {' '.join(wanted)} onto {' '.join(targets)}")
    with tempfile.NamedTemporaryFile(prefix="images-", suffix=".tar", dir=cache.root()) as archive:
        engine.docker(STEP, "save", "-o", archive.name, *wanted)
        with ThreadPoolExecutor(len(targets)) as pool:
            for done in [pool.submit(_import, node, Path(archive.name), absent) for node, absent in lacking.items()]:
                done.result()


def _import(node: str, archive: Path, absent: Sequence[str]) -> None:
    if not absent:
        return
    step = f"{STEP}-{node}"
    shell.run(step, ["docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "-"], stdin=archive)
    marks = [f"{MARKS}/{_mark(tag)}" for tag in absent]
    shell.run(step, ["docker", "exec", node, "mkdir", "-p", MARKS])
    shell.run(step, ["docker", "exec", node, "touch", *marks])


def _is_there(node: str, tag: str) -> bool:
    command = ["docker", "exec", node, "test", "-e", f"{MARKS}/{_mark(tag)}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def _mark(tag: str) -> str:
    """Return a file name for the image that `tag` names now; another build of it has another."""
    image_id = shell.output(STEP, ["docker", "image", "inspect", "--format", "{{.Id}}", tag]).strip()
    return f"{tag.replace('/', '_')}@{image_id}"
