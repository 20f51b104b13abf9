"""What a newcomer wants to see: the operator, a deployment of the demo model, and a port to ask."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

from cluster import cache, helm, images, kind_cluster, kube, shell, wheels
from cluster.errors import StepError

STEP = "demo"
NAMESPACE = "glm5-demo"
OPERATOR_NAMESPACE = "glm5-system"
NAME = "toy"
READY_SECONDS = 15 * shell.MINUTE
VOLUME = Path(__file__).parent / "files" / "demo" / "volume.yaml"
EXAMPLES = wheels.REPOSITORY / "examples"
SERVICE = {"type": "NodePort", "httpNodePort": kind_cluster.DEMO_PORT}


def main() -> None:
    """Install the operator, apply examples/toy.yaml, wait until it answers, and say how to ask.

    Raises:
        StepError: the operator does not start or the deployment does not become Ready; the log has the pods.
    """
    install_model()
    install_operator()
    _namespace(NAMESPACE)
    kind_cluster.kubectl("apply", "-f", str(VOLUME))
    kind_cluster.kubectl("wait", "-f", str(VOLUME), "--for=jsonpath={.status.phase}=Bound", "--timeout=50s")
    kind_cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(EXAMPLES / "toy.yaml"))
    # Images that were built anew have the same tags: another id makes the pods roll.
    spec = {"service": SERVICE, "restart": {"id": images.identity("runtime", "gateway")}}
    kind_cluster.kubectl("patch", "glm5", "-n", NAMESPACE, NAME, "--type=merge", "-p", json.dumps({"spec": spec}))
    _wait_ready()
    shell.say(_how_to_ask())


def install_model(name: str = "demo") -> None:
    """Copy the demo checkpoint of the examples to the folder that the nodes see."""
    found = sorted((EXAMPLES / "demo-model").rglob("config.json"))
    if not found:
        reason = f"no checkpoint (config.json) below {EXAMPLES / 'demo-model'}"
        raise StepError(STEP, reason, "train it: examples/demo-model/README.md says how")
    shutil.copytree(found[0].parent, kind_cluster.models() / name, dirs_exist_ok=True)


def install_operator() -> None:
    """Install the operator's chart with the image built here, or upgrade to it."""
    shell.say(f"{STEP}: installing the operator")
    repository, image_tag = images.tag("operator").split(":")
    command: list[str | Path] = [helm.binary(), "upgrade", "--install", "glm5-operator"]
    command += [wheels.REPOSITORY / "charts" / "glm5-operator", "--namespace", OPERATOR_NAMESPACE]
    command += ["--create-namespace", "--take-ownership", "--wait", "--timeout=5m"]
    command += ["--set", f"image.repository={repository}", "--set", f"image.tag={image_tag}"]
    # An image that was built anew has the same tag: another annotation makes the pods roll.
    command += ["--set-string", f"podAnnotations.image={images.identity('operator')}"]
    environment = {"KUBECONFIG": str(kind_cluster.kubeconfig())}
    cure = f"`kubectl -n {OPERATOR_NAMESPACE} describe pods` says why it does not start"
    shell.run(STEP, command, env=environment, timeout_seconds=6 * shell.MINUTE, cure=cure)


def _namespace(name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kind_cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def _wait_ready() -> None:
    shell.say(f"{STEP}: waiting until {NAME} is Ready")
    wait = ["wait", "-n", NAMESPACE, f"glm5/{NAME}", "--for=condition=Ready", f"--timeout={READY_SECONDS:.0f}s"]
    try:
        kind_cluster.kubectl(*wait, timeout_seconds=READY_SECONDS + 30)
    except StepError as error:
        log = cache.log_file("demo-state")
        log.write_text(kind_cluster.kubectl("describe", "glm5,pods", "-n", NAMESPACE))
        cure = "the log has the conditions of the deployment and the events of its pods"
        raise StepError(STEP, f"{NAME} is not Ready after {READY_SECONDS:.0f} s", cure, log) from error


def _how_to_ask() -> str:
    url = f"http://127.0.0.1:{kind_cluster.DEMO_PORT}"
    model = kind_cluster.kubectl("get", "glm5", "-n", NAMESPACE, NAME, "-o", "jsonpath={.spec.model.servedNames[0]}")
    question = json.dumps({"model": model, "messages": [{"role": "user", "content": "What is glm5-serve?"}]})
    kubectl = shutil.which("kubectl") or kube.command("kubectl")
    return f"""{STEP}: ready

{textwrap.indent(kind_cluster.kubectl("get", "glm5", "-n", NAMESPACE), "  ")}
ask it:     curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{question}'
look at it: KUBECONFIG={kind_cluster.kubeconfig()} {kubectl} get glm5,pods -n {NAMESPACE}
remove it:  make kind-down
"""
