"""What is wrong with a checkpoint's tensors, judged by names, shapes and types."""

import re
from collections.abc import Iterator

from glm5_model import names
from glm5_model.checkpoint.blocks import scale_shape
from glm5_model.checkpoint.header import TYPES, TensorInfo
from glm5_model.config import ModelConfig
from glm5_model.errors import CheckpointError

_OTHER = "check that config.json belongs to these files"
_AGAIN = "download the checkpoint again"
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_EXPERT = re.compile(r"model\.layers\.\d+\.mlp\.experts\.(\d+)\.")

Tensors = dict[str, TensorInfo]
Errors = Iterator[CheckpointError]


def tensor_errors(
    config: ModelConfig, tensors: Tensors, block: tuple[int, int], unreadable: set[str] | None, folder: str
) -> Errors:
    """Yield everything that does not fit the config.

    Args:
        config: of the model.
        tensors: what the checkpoint holds.
        block: rows and columns of an FP8 block.
        unreadable: tensors that lie in damaged files and do not count as missing; None if that may be any.
        folder: the checkpoint's folder, named where a tensor is in no file.
    """
    mtp = names.layer_prefix(config.num_layers)
    with_mtp = config.num_mtp_layers > 0 and any(name.startswith(mtp) for name in tensors)
    wanted = names.all_shapes(config, with_mtp)
    for name, shape in wanted.items():
        if name in tensors:
            yield from _one(name, tensors[name], shape, tensors, block)
        elif unreadable is not None and name not in unreadable:
            kind = "mtp_incomplete" if name.startswith(mtp) else "tensor_missing"
            yield CheckpointError(folder, name, f"is missing, wanted {list(shape)}", _OTHER, kind)
    yield from _beyond(config, tensors)
    yield from _lonely_scales(tensors)


def _one(name: str, info: TensorInfo, shape: tuple[int, ...], tensors: Tensors, block: tuple[int, int]) -> Errors:
    """Yield what is wrong with one wanted tensor."""
    if info.type_name not in TYPES:
        message = f"has type {info.type_name}, wanted one of {sorted(TYPES)}"
        yield CheckpointError(info.file, name, message, "use a bf16, fp32 or block-FP8 checkpoint", "wrong_type")
    if info.shape != shape:
        message = f"has shape {list(info.shape)}, wanted {list(shape)}"
        yield CheckpointError(info.file, name, message, _OTHER, "wrong_shape")
    scale = tensors.get(name + names.SCALE_SUFFIX)
    if info.type_name == "F8_E4M3" and scale is None:
        yield CheckpointError(info.file, name, f"is FP8 without {names.SCALE_SUFFIX}", _AGAIN, "scale_missing")
    if scale is not None:
        yield from _scale(name, info, scale, block)


def _scale(name: str, info: TensorInfo, scale: TensorInfo, block: tuple[int, int]) -> Errors:
    """Yield what is wrong with the multipliers of one weight."""
    scale_name = name + names.SCALE_SUFFIX
    if info.type_name != "F8_E4M3":
        message = f"multiplies a weight of type {info.type_name}, wanted F8_E4M3"
        yield CheckpointError(scale.file, scale_name, message, _AGAIN, "scale_unexpected")
    if scale.type_name != "F32":
        message = f"has type {scale.type_name}, wanted F32"
        yield CheckpointError(scale.file, scale_name, message, _AGAIN, "scale_type")
    if len(info.shape) == 2 and scale.shape != scale_shape(info.shape, block):
        message = f"has shape {list(scale.shape)}, wanted {list(scale_shape(info.shape, block))}"
        yield CheckpointError(scale.file, scale_name, message, _OTHER, "scale_shape")


def _beyond(config: ModelConfig, tensors: Tensors) -> Errors:
    """Yield layers and experts that the config does not know; other additions are left alone."""
    for name, info in tensors.items():
        layer, expert = _LAYER.match(name), _EXPERT.match(name)
        if layer and int(layer[1]) > config.num_layers:
            message = f"belongs to a layer beyond the {config.num_layers} of config.json and the MTP layer"
            yield CheckpointError(info.file, name, message, _OTHER, "unexpected_layer")
        elif expert and int(expert[1]) >= config.num_experts:
            message = f"belongs to an expert beyond the {config.num_experts} of config.json"
            yield CheckpointError(info.file, name, message, _OTHER, "unexpected_expert")


def _lonely_scales(tensors: Tensors) -> Errors:
    """Yield multipliers whose weight is not there."""
    for name, info in tensors.items():
        if name.endswith(names.SCALE_SUFFIX) and name.removesuffix(names.SCALE_SUFFIX) not in tensors:
            yield CheckpointError(info.file, name, "its weight is missing", _AGAIN, "scale_lonely")
