"""Tensors cross the wire bit for bit, and wrong messages are named."""

import pytest
import torch

from glm5.v1 import tensor_pb2 as pb
from glm5_wire.errors import InvalidRequest
from glm5_wire.tensors.codec import element_type, from_bytes, from_proto, to_bytes, to_proto


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint16, torch.int32])
@pytest.mark.parametrize("shape", [(), (0, 4), (3,), (2, 5), (2, 3, 4)])
def test_a_tensor_comes_back_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.arange(torch.Size(shape).numel()) * 7).to(dtype).view(shape)
    message = pb.Tensor.FromString(to_proto(tensor).SerializeToString())
    back = from_proto(message)
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert to_bytes(back) == to_bytes(tensor)


def test_a_strided_tensor_is_sent_in_row_major_order() -> None:
    tensor = torch.arange(12, dtype=torch.float32).view(3, 4).t()
    assert torch.equal(from_proto(to_proto(tensor)), tensor)


def test_received_bytes_are_viewed_and_not_copied() -> None:
    data = bytes(range(16))
    first, second = from_bytes(data, torch.int32), from_bytes(data, torch.int32)
    assert first.data_ptr() == second.data_ptr()


def test_a_length_that_does_not_fit_the_shape_is_named() -> None:
    message = pb.Tensor(element_type=pb.ELEMENT_TYPE_FLOAT32, shape=[2, 2], data=b"123")
    with pytest.raises(InvalidRequest, match=r"shape \[2, 2\] of torch.float32 needs 16 bytes, there are 3"):
        from_proto(message)


def test_a_negative_dimension_is_named() -> None:
    with pytest.raises(InvalidRequest, match="shape"):
        from_proto(pb.Tensor(element_type=pb.ELEMENT_TYPE_FLOAT32, shape=[-1, -1], data=b"1234"))


def test_an_unknown_element_type_is_named() -> None:
    with pytest.raises(InvalidRequest, match="element type 0"):
        from_proto(pb.Tensor(shape=[1], data=b"1234"))
    with pytest.raises(InvalidRequest, match=r"torch\.float64"):
        element_type(torch.float64)
