"""What each type of accelerator asks of Kubernetes."""

from typing import Any

from glm5_spec.resource.pods import Accelerator

_RESOURCES = {
    "nvidia": "nvidia.com/gpu",
    "ascend-a2": "huawei.com/Ascend910",
    "ascend-a3": "huawei.com/Ascend910",
}
# A2 and A3 offer their devices under one name; these labels of MindCluster tell the nodes apart.
_NODES = {
    "ascend-a2": {"accelerator": "huawei-Ascend910", "accelerator-type": "module-910b-8"},
    "ascend-a3": {"accelerator": "huawei-Ascend910", "accelerator-type": "module-a3-16"},
}
_DRIVER = {"driver": ("/usr/local/Ascend/driver", "Directory"), "install-info": ("/etc/ascend_install.info", "File")}


def devices(accelerator: Accelerator) -> dict[str, int]:
    """Return the extended resource of one pod; empty for cpu."""
    if accelerator.type == "cpu":
        return {}
    return {accelerator.resource_name or _RESOURCES[accelerator.type]: accelerator.count or 1}


def node_labels(accelerator: Accelerator) -> dict[str, str]:
    """Return the labels of nodes that have the accelerator, where its resource name does not say enough.

    Whoever names the resource himself (another device plugin) also selects the nodes himself.
    """
    return {} if accelerator.resource_name else dict(_NODES.get(accelerator.type, {}))


def driver_volumes(accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return the volumes with the node's driver, where they were asked for."""
    if accelerator.host_driver == "None":
        return []
    return [{"name": name, "hostPath": {"path": path, "type": kind}} for name, (path, kind) in _DRIVER.items()]


def driver_mounts(accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return where these volumes are in the container."""
    if accelerator.host_driver == "None":
        return []
    return [{"name": name, "mountPath": path, "readOnly": True} for name, (path, _) in _DRIVER.items()]


def volcano_labels(accelerator: Accelerator, scheduler: str | None) -> dict[str, str]:
    """Return the label by which MindCluster's volcano knows pods of an Ascend device."""
    if scheduler == "volcano" and accelerator.type.startswith("ascend"):
        return {"ring-controller.atlas": "ascend-910b"}
    return {}


def volcano_env(accelerator: Accelerator, scheduler: str | None) -> list[dict[str, Any]]:
    """Return the variable through which MindCluster's volcano hands out devices: it annotates the pod with them."""
    if scheduler != "volcano" or not accelerator.type.startswith("ascend"):
        return []
    path = f"metadata.annotations['{_RESOURCES[accelerator.type]}']"
    return [{"name": "ASCEND_VISIBLE_DEVICES", "valueFrom": {"fieldRef": {"fieldPath": path}}}]
