"""The product's images, built from wheels by images/Dockerfile and put onto the nodes that run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster import cache, engine, node_load, rootfs, shell, wheels

STEP = "images"
DOCKERFILE = wheels.REPOSITORY / "images" / "Dockerfile"
EXTRAS = {"operator": "operator", "gateway": "gateway", "runtime": "runtime,cli"}
"""Image to the optional dependencies of pyproject.toml that it holds; `glm5 check` runs in the runtime image."""


def tag(image: str) -> str:
    """Return the name of an image of EXTRAS: what the charts of the tests are told to use."""
    return f"glm5-serve/{image}:dev"


def identity(*of: str) -> str:
    """Return 12 hex digits for the content of images: their tags stay the same when they are built anew."""
    return cache.digest([_inputs_of(tag(image)) for image in of])[:12]


def build() -> None:
    """Build the images whose inputs have changed since they were built.

    Raises:
        StepError: a wheel cannot be had, or the build failed.
    """
    engine.ensure()
    with cache.locked(STEP):
        base, project = base_image(), wheels.project()
        for image, extras in EXTRAS.items():
            _build_if_changed(image, extras, base, project)
    shell.say(f"{STEP}: {' '.join(map(tag, EXTRAS))}")


def load() -> None:
    """Put the images onto the workers that lack them."""
    node_load.load([tag(image) for image in EXTRAS])


def base_image() -> str:
    """Return what the images stand on: GLM5_BASE_IMAGE if set, else a small Debian with Python made here."""
    given = os.environ.get("GLM5_BASE_IMAGE")
    if given:
        return given
    root = rootfs.python()
    name = f"glm5-serve/base:{root.parent.name.rsplit('-', 1)[1]}"
    if not engine.has_image(name):
        shell.say(f"{STEP}: making the base image")
        engine.docker(STEP, "import", root, name)
    return name


def _build_if_changed(image: str, extras: str, base: str, project: Path) -> None:
    dependencies = wheels.dependencies(image, extras)
    inputs = cache.digest([base, dependencies.name, project.name, DOCKERFILE])
    if _inputs_of(tag(image)) == inputs:
        return
    shell.say(f"{STEP}: building {tag(image)}")
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache.root()) as folder:
        context = Path(folder)
        shutil.copy(DOCKERFILE, context)
        for name, source in ("dependencies", dependencies), ("project", project), ("pip", wheels.pip()):
            shutil.copytree(source, context / name, copy_function=os.link)
        arguments = {"BASE_IMAGE": base, "ROLE": image, "REVISION": _revision(), "VERSION": _version(context)}
        flags = [f"--build-arg={key}={value}" for key, value in (arguments | {"INPUTS": inputs}).items()]
        engine.docker(STEP, "build", "-q", f"--tag={tag(image)}", *flags, context)


def _inputs_of(name: str) -> str:
    """Return the hash of the inputs of a built image, empty if there is none."""
    query = ["docker", "image", "inspect", "--format", '{{index .Config.Labels "io.glm5.inputs"}}', name]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip()


def _version(context: Path) -> str:
    """Return the version in the name of the project's wheel."""
    return next((context / "project").glob("*.whl")).name.split("-")[1]


def _revision() -> str:
    command = ["git", "-C", str(wheels.REPOSITORY), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
