"""Kubernetes and etcd as one static binary; the name it is called by says which component runs."""

from __future__ import annotations

from pathlib import Path

from cluster import cache, gotool, shell

VERSION = "v1.34.4"
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubeadm",
    "kubectl",
)


def binary() -> Path:
    """Return the binary, built if absent (about 10 minutes on 2 cores when nothing is cached).

    Raises:
        StepError: the build failed.
    """
    return gotool.build("kube", "kube", _ldflags()) / "kube"


def command(component: str) -> Path:
    """Return a link to the binary that runs `component`, one of COMPONENTS."""
    if component not in COMPONENTS:
        raise ValueError(f"{component} is none of {', '.join(COMPONENTS)}")
    return _links() / component


def _links() -> Path:
    target = binary()

    def make(draft: Path) -> None:
        for component in COMPONENTS:
            (draft / component).symlink_to(target)

    return cache.artifact("kube-links", [str(target), *COMPONENTS], make)


def _ldflags() -> str:
    """Return linker flags with the version, without which kubeadm refuses to work."""
    package = "k8s.io/component-base/version"
    major, minor, _ = VERSION.removeprefix("v").split(".")
    values = {"gitVersion": VERSION, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s", "-w", *(f"-X {package}.{key}={value}" for key, value in values.items())])


def main() -> None:
    """Build it and say where it is."""
    shell.say(f"kube: {binary()}")
