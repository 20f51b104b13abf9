"""What decides which code a library runs on this machine."""

import torch


def describe(device: torch.device) -> list[str]:
    """Return the facts on which bits depend: library builds and the processor's kind."""
    facts = [torch.__version__, torch.__config__.show(), f"threads={torch.get_num_threads()}"]
    if device.type == "cpu":
        return [*facts, "cpu", torch.backends.cpu.get_cpu_capability()]
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return [*facts, "cuda", properties.name, f"{properties.major}.{properties.minor}"]
    return [*facts, str(device.type)]
