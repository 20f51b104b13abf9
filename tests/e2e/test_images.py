"""The images hold what their role needs and nothing that would be a burden or a danger."""

from __future__ import annotations

import json
import subprocess

import pytest

from cluster import images

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.usefixtures("cluster")]
FENCES = ["--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges"]

FIND = "import importlib.util as u, sys; print(*[name for name in sys.argv[1:] if u.find_spec(name)])"


@pytest.mark.parametrize(
    ("image", "present", "absent"),
    [
        ("operator", ["glm5_operator.__main__", "kopf", "kubernetes"], ["torch", "grpc", "numpy", "fastapi"]),
        ("gateway", ["glm5_gateway.__main__", "grpc", "fastapi", "tokenizers"], ["torch", "kopf"]),
        (
            "runtime",
            ["glm5_prefill.__main__", "glm5_decode.__main__", "glm5_experts.__main__", "glm5_cli.__main__", "torch"],
            ["kopf", "fastapi"],
        ),
    ],
)
def test_an_image_holds_its_role_and_no_more(image: str, present: list[str], absent: list[str]) -> None:
    run(image, "python3", "-c", f"import {', '.join(present)}")
    found = run(image, "python3", "-c", FIND, *absent).split()
    assert found == []


@pytest.mark.parametrize("image", images.EXTRAS)
def test_an_image_runs_as_nobody_and_says_what_it_is(image: str) -> None:
    user = run(image, "python3", "-c", "import os; print(os.getuid(), os.getgid())")
    config = json.loads(docker("image", "inspect", images.tag(image)))[0]["Config"]

    assert user.split() == ["65532", "65532"]
    assert config["Labels"]["org.opencontainers.image.title"] == f"glm5-serve {image}"
    assert config["Labels"]["org.opencontainers.image.version"]
    assert config["Entrypoint"] == ["python3", "-m"]


def test_the_operator_image_adds_less_than_200_mb_to_its_base() -> None:
    sizes = [
        json.loads(docker("image", "inspect", tag))[0]["Size"] for tag in (images.tag("operator"), images.base_image())
    ]
    assert sizes[0] - sizes[1] < 200_000_000


def run(image: str, program: str, *args: str) -> str:
    return docker("run", *FENCES, "--entrypoint", program, images.tag(image), *args)


def docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
