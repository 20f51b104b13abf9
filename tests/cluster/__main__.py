"""`python -m cluster STEP`: build and run what a real Kubernetes for tests needs."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from cluster import cache, demo, helm, images, kind_cluster, kind_tool, kube, node_image, preflight
from cluster.errors import StepError

STEPS: dict[str, tuple[Callable[[], None], str]] = {
    "able": (preflight.main, "say what this machine lacks for the cluster"),
    "kube": (kube.main, "build Kubernetes and etcd as one binary"),
    "helm": (helm.main, "build helm"),
    "kind": (kind_tool.main, "build kind"),
    "node-image": (node_image.main, "build the image of a cluster node"),
    "up": (kind_cluster.up, "make the cluster: 1 control plane, 2 workers"),
    "images": (images.build, "build the operator, gateway and runtime images"),
    "load": (images.load, "put these images onto the nodes"),
    "demo": (demo.main, "install the operator and a deployment, and say how to ask it"),
    "down": (kind_cluster.down, "remove the cluster and end the Docker engine that was started for it"),
}


def main() -> int:
    """Run the steps named on the command line and return the exit code."""
    listed = "\n".join(f"  {name:10} {help_text}" for name, (_, help_text) in STEPS.items())
    parser = argparse.ArgumentParser(
        prog="python -m cluster",
        description=__doc__,
        epilog=f"steps:\n{listed}\ncache and logs: {cache.root()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # As Ctrl-C does: what a step has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser.add_argument("steps", nargs="+", choices=list(STEPS), metavar="STEP")
    try:
        for step in parser.parse_args().steps:
            STEPS[step][0]()
    except StepError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
