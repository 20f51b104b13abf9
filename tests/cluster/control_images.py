"""The images that kubeadm runs on a node, built from our own binaries and saved as one archive."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from cluster import cache, debian, engine, gotool, kube, rootfs, shell

STEP = "control-images"
# kubeadm asks for these names: `kubeadm config images list`.
KUBE_TAGS = (
    *(
        f"registry.k8s.io/kube-{part}:{kube.VERSION}"
        for part in ("apiserver", "controller-manager", "scheduler", "proxy")
    ),
    "registry.k8s.io/etcd:3.6.5-0",
)
COREDNS_TAG = "registry.k8s.io/coredns/coredns:v1.12.1"
PAUSE_TAG = "registry.k8s.io/pause:3.10.1"
IPTABLES = tuple(f"{family}{tail}" for family in ("iptables", "ip6tables") for tail in ("", "-save", "-restore"))

KUBE_DOCKERFILE = """FROM scratch
ADD root.tar /
ADD kube.tar /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
ONE_BINARY_DOCKERFILE = """FROM scratch
COPY {name} /{name}
ENTRYPOINT ["/{name}"]
"""


def archive() -> Path:
    """Return the tar (as `docker save` writes it) of every image that a node needs.

    Raises:
        StepError: one of them does not build.
    """
    return cache.artifact("control-images", inputs(), _make) / "images.tar"


def inputs() -> list[cache.Input]:
    """Return what decides about the content of the archive."""
    parts = [kube.binary(), _coredns(), rootfs.netfilter()]
    folders: list[cache.Input] = [part.parent.name for part in parts]  # named by the hash of their inputs
    return [*folders, _pause_source(), KUBE_DOCKERFILE, ONE_BINARY_DOCKERFILE, *KUBE_TAGS, COREDNS_TAG, PAUSE_TAG]


def _make(draft: Path) -> None:
    debian.install(*debian.COMPILER)
    shell.say(f"{STEP}: building")
    _build_kube(draft / "kube")
    _build_one(draft / "coredns", _coredns(), COREDNS_TAG)
    pause = draft / "pause-binary" / "pause"
    pause.parent.mkdir()
    shell.run(STEP, ["gcc", "-Os", "-static", "-s", "-Wall", "-o", pause, _pause_source()])
    _build_one(draft / "pause", pause, PAUSE_TAG)
    tags = [*KUBE_TAGS, COREDNS_TAG, PAUSE_TAG]
    engine.docker(STEP, "save", "-o", draft / "images.tar", *tags)


def _build_kube(context: Path) -> None:
    context.mkdir()
    (context / "root.tar").hardlink_to(rootfs.netfilter())
    _write_kube_tar(context / "kube.tar")
    (context / "Dockerfile").write_text(KUBE_DOCKERFILE)
    engine.docker(STEP, "build", "-q", *(f"--tag={tag}" for tag in KUBE_TAGS), context)
    (context / "kube.tar").unlink()


def _write_kube_tar(path: Path) -> None:
    """Write the binary, its names, and the names of iptables (no package script made those)."""
    with tarfile.open(path, "w") as tar:
        tar.add(kube.binary(), "usr/local/bin/kube")
        for component in kube.COMPONENTS:
            _add_link(tar, f"usr/local/bin/{component}", "kube")
        for name in IPTABLES:
            _add_link(tar, f"usr/sbin/{name}", "xtables-legacy-multi")


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname, link.mode = tarfile.SYMTYPE, target, 0o777
    tar.addfile(link, io.BytesIO())


def _build_one(context: Path, binary: Path, tag: str) -> None:
    context.mkdir()
    (context / binary.name).hardlink_to(binary)
    (context / "Dockerfile").write_text(ONE_BINARY_DOCKERFILE.format(name=binary.name))
    engine.docker(STEP, "build", "-q", f"--tag={tag}", context)


def _coredns() -> Path:
    return gotool.build("coredns", "coredns", "-s -w") / "coredns"


def _pause_source() -> Path:
    return Path(__file__).parent / "files" / "pause" / "pause.c"
