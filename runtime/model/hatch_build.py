"""Compiles the CPU's kernels into the package, for every processor kind that the wheel is for.

The compiler comes with the build's requirements (zig's clang, from PyPI), so a machine needs none of its own, and the
same sources give the same code everywhere. The library runs on glibc 2.17 and later.
"""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("runtime/model/glm5_model/kernels/native/source/native.c")
KINDS = {"x86_64": ("x86_64_v4", "x86_64_v3"), "aarch64": ("aarch64",)}
FLAGS = (
    *("-O3", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fPIC", "-shared", "-fvisibility=hidden", "-g0", "-s"),
    # Products and sums are fused where the source says so and nowhere else: tails must have the bits of whole vectors.
    *("-fno-math-errno", "-ffp-contract=off"),
)


class NativeKernels(BuildHookInterface[Any]):
    """Runs for the wheel and for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say that the wheel is for this kind of machine."""
        machine = platform.machine()
        if sys.platform != "linux" or machine not in KINDS:
            self.app.display_warning(f"no compiled kernels for {sys.platform} {machine}: the CPU will be slow")
            return
        source = Path(self.root) / SOURCE
        for kind in KINDS[machine]:
            _compile(source, machine, kind)
            build_data["artifacts"].append(str(SOURCE.parent.parent / f"{kind}.so"))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"


def _compile(source: Path, machine: str, kind: str) -> None:
    """Compile one library, in place of an older one in one step: a process may have that mapped."""
    target = source.parent.parent / f"{kind}.so"
    draft = target.with_suffix(".so.new")
    tuned = ["-mcpu=generic+crc"] if kind == "aarch64" else [f"-mcpu={kind}"]
    command = ["-m", "ziglang", "cc", *FLAGS, "-target", f"{machine}-linux-gnu.2.17", *tuned]
    subprocess.run([sys.executable, *command, "-o", str(draft), str(source)], check=True)
    draft.replace(target)
