"""A node image of the contract that kind expects, for machines that can pull none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from cluster import cache, control_images, engine, kind_tool, kube, rootfs, shell

STEP = "node-image"
FILES = Path(__file__).parent / "files" / "node"
# The container that imports the images runs something else.
ENTRYPOINT = ("--change", 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]', "--change", "CMD []")
CONTAINERD_CHANGES = (
    ('sandbox_image = "registry.k8s.io/pause:3.10"', f'sandbox_image = "{control_images.PAUSE_TAG}"'),
    # A machine may withhold CAP_SYS_RESOURCE, without which a score cannot be lowered.
    ("restrict_oom_score_adj = false", "restrict_oom_score_adj = true"),
)
CNI_CONFIG = """
# The pod network of this node, rendered as soon as the node has its range of addresses.
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_template = "/etc/containerd/cni.template"
"""
IMPORT_SCRIPT = """
set -eu
containerd > /tmp/containerd.log 2>&1 &
for _ in $(seq 300); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.1; done
ctr -n k8s.io images import --all-platforms --no-unpack --digests /images.tar
kill %1
wait %1 || true
rm -rf /run/containerd /tmp/* /images.tar
"""


def tag() -> str:
    """Return the tag of the node image: GLM5_NODE_IMAGE if set, else the one built here from these sources.

    Raises:
        StepError: a part of it does not build.
    """
    given = os.environ.get("GLM5_NODE_IMAGE")
    if given:
        return given
    name = f"kindest/node:local-{cache.digest(_inputs())}"
    with cache.locked(STEP):
        if not engine.has_image(name):
            _build(name)
    return name


def main() -> None:
    """Build it and say its name."""
    engine.ensure()
    shell.say(f"{STEP}: {tag()}")


def _inputs() -> list[cache.Input]:
    changes = [text for pair in CONTAINERD_CHANGES for text in pair]
    own: list[cache.Input] = [FILES, kind_tool.MODULE, rootfs.node().parent.name, *changes, CNI_CONFIG]
    return [*own, *ENTRYPOINT, IMPORT_SCRIPT, *control_images.inputs()]


def _build(name: str) -> None:
    images = control_images.archive()
    shell.say(f"{STEP}: building {name}")
    with tempfile.TemporaryDirectory(prefix="node-image-", dir=cache.root()) as folder:
        context = Path(folder)
        _fill_context(context)
        engine.docker(STEP, "build", "-q", f"--tag={name}-empty", context)
    _import_images(f"{name}-empty", name, images)
    engine.docker(STEP, "rmi", "--no-prune", f"{name}-empty")


def _fill_context(context: Path) -> None:
    (context / "root.tar").hardlink_to(rootfs.node())
    (context / "kube").hardlink_to(kube.binary())
    shutil.copy(FILES / "Dockerfile", context)
    files = context / "files"
    shutil.copytree(kind_tool.node_files(), files, copy_function=shutil.copyfile)
    shutil.copytree(FILES, files, dirs_exist_ok=True, ignore=shutil.ignore_patterns("Dockerfile"))
    (files / "kind" / "version").write_text(kube.VERSION)
    _change_containerd(files / "etc" / "containerd" / "config.toml")
    _set_modes(files)


def _change_containerd(path: Path) -> None:
    text = path.read_text()
    for old, new in CONTAINERD_CHANGES:
        assert old in text, f"{old!r} is not in kind's {path.name}: adapt CONTAINERD_CHANGES to {kind_tool.MODULE}"
        text = text.replace(old, new)
    path.write_text(text + CNI_CONFIG)


def _set_modes(files: Path) -> None:
    """Make scripts executable and the rest not, as kind's Dockerfile does; modules carry no modes."""
    for path in files.rglob("*"):
        is_program = path.parent.name == "bin"
        path.chmod(0o755 if path.is_dir() or is_program else 0o644)


def _import_images(empty: str, name: str, images: Path) -> None:
    with _container(empty) as container:
        engine.docker(STEP, "cp", images, f"{container}:/images.tar")
        engine.docker(STEP, "exec", container, "bash", "-c", IMPORT_SCRIPT)
        engine.docker(STEP, "commit", *ENTRYPOINT, container, name)


@contextlib.contextmanager
def _container(image: str) -> Iterator[str]:
    name = f"node-image-{uuid.uuid4().hex[:12]}"
    options = ["--detach", "--privileged", "--entrypoint", "sleep", "--name", name]
    engine.docker(STEP, "run", *options, image, "infinity")
    try:
        yield name
    finally:
        engine.docker(STEP, "rm", "--force", "--volumes", name)
