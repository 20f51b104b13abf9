"""The life of a role process, on real shards: probes, health, logs, traces, leaving, and being found silent."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import grpc.aio
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from glm5.v1 import expert_service_pb2 as experts
from glm5.v1 import expert_service_pb2_grpc as experts_rpc
from glm5.v1 import peer_service_pb2 as peers
from glm5.v1 import peer_service_pb2_grpc as peers_rpc
from glm5_wire.channel import open_channel
from glm5_wire.errors import Incompatible, InvalidRequest, from_rpc_error
from glm5_wire.tensors.codec import to_proto
from support_collector import Collector
from support_roles import RoleProcess
from support_work import batch

PATIENT_SECONDS = 30.0
"""Of detection, where a test is not about it: the machine may be busy with others."""
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


def shard_of(folder: Path, model: Path, **fields: Any) -> RoleProcess:
    defaults = {"role": "experts", "name": "shard-0", "model_path": str(model), "shard": 0, "num_shards": 1}
    return RoleProcess(folder, **(defaults | {"dtype": "float32", "detection_seconds": 10.0} | fields))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, toy: Path, collector: Collector) -> Iterator[RoleProcess]:
    """A shard that the tests of this file only ask; the last one ends it."""
    folder = tmp_path_factory.mktemp("life")
    telemetry = {"otlp_endpoint": collector.url, "json_logs": True}
    process = shard_of(folder, toy, telemetry=telemetry, socket_dir=str(folder)).start().wait_ready()
    yield process
    process.kill()


def test_probes_and_state_answer_over_http(shard: RoleProcess) -> None:
    for probe in ("/startupz", "/readyz", "/livez"):
        answer = shard.page(probe)
        assert (answer.status_code, answer.text) == (200, "ok"), probe
    state = shard.state()
    assert (state["role"], state["name"], state["ready"], state["draining"]) == ("experts", "shard-0", True, False)
    assert state["grpc_address"].endswith("shard-0.sock")
    assert {(run["first"], run["count"]) for run in state["holdings"]} == {(0, 256)}
    assert state["memory_bytes"] > 10 << 20
    assert "glm5_experts_rows_total" in shard.page("/metrics").text


def test_every_log_line_is_json(shard: RoleProcess) -> None:
    entries = [json.loads(line) for line in shard.log.splitlines()]
    assert any(entry["message"].startswith("experts loaded") for entry in entries)
    assert {(entry["role"], entry["name"]) for entry in entries} == {("experts", "shard-0")}


async def test_health_and_reflection_are_served(shard: RoleProcess) -> None:
    async with open_channel(shard.address, PATIENT_SECONDS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "glm5.v1.ExpertService", "glm5.v1.PeerService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in (await call.read()).list_services_response.service}
        call.cancel()
        assert names >= {"glm5.v1.ExpertService", "glm5.v1.PeerService", "grpc.health.v1.Health"}


async def test_the_unix_socket_and_the_port_lead_to_the_same_process(shard: RoleProcess) -> None:
    found = []
    for address in (shard.address, shard.state()["grpc_address"]):
        async with open_channel(address, PATIENT_SECONDS) as channel:
            answer = await peers_rpc.PeerServiceStub(channel).Describe(peers.DescribeRequest(), timeout=30)
            found.append(answer.peer.incarnation)
    assert found[0] == found[1]


async def opened(channel: grpc.aio.Channel, hello: experts.Hello) -> Any:
    call = experts_rpc.ExpertServiceStub(channel).Stream()
    await call.write(experts.StreamRequest(hello=hello))
    return call


async def test_a_stream_of_another_compat_is_refused_by_name(shard: RoleProcess) -> None:
    async with open_channel(shard.address, PATIENT_SECONDS) as channel:
        call = await opened(channel, experts.Hello(compat="0" * 16, lane=experts.LANE_DECODE, caller="test"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = from_rpc_error(caught.value)
        assert isinstance(error, Incompatible)
        assert f"the caller has compat {'0' * 16}, this shard {shard.state()['compat']}" in str(error)


async def test_a_stream_without_hello_is_refused(shard: RoleProcess) -> None:
    async with open_channel(shard.address, PATIENT_SECONDS) as channel:
        call = experts_rpc.ExpertServiceStub(channel).Stream()
        await call.write(experts.StreamRequest(cancel=experts.Cancel(sequence=1)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert isinstance(from_rpc_error(caught.value), InvalidRequest)


async def test_a_wrong_batch_ends_neither_the_stream_nor_the_shard(shard: RoleProcess) -> None:
    compat = shard.state()["compat"]
    async with open_channel(shard.address, PATIENT_SECONDS) as channel:
        call = await opened(channel, experts.Hello(compat=compat, lane=experts.LANE_DECODE, caller="test"))
        welcome = (await call.read()).welcome
        assert welcome.peer.holdings
        assert welcome.window == 8
        assert welcome.max_rows == 1024
        for sequence, message in enumerate([batch([[4], [5]]), batch([[1]], weight_version=7)], 1):
            message.sequence = sequence
            await call.write(experts.StreamRequest(batch=message))
            answer = await call.read()
            assert answer.failure.sequence == sequence
        assert answer.failure.error == experts.BATCH_ERROR_STALE_WEIGHTS
        assert answer.failure.peer.weight_version == 1
        call.cancel()
    assert shard.page("/livez").status_code == 200


async def test_a_sampled_batch_goes_on_with_the_callers_trace(shard: RoleProcess, collector: Collector) -> None:
    state = shard.state()
    layer = state["holdings"][0]["layer"]
    async with open_channel(shard.address, PATIENT_SECONDS) as channel:
        call = await opened(channel, experts.Hello(compat=state["compat"], lane=experts.LANE_DECODE, caller="test"))
        await call.read()
        message = batch([[0, 9]], layer=layer, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
        message.rows.CopyFrom(to_proto(torch.ones(1, 64)))
        message.crc32c = _crc(message)
        await call.write(experts.StreamRequest(batch=message))
        answer = await call.read()
        assert list(answer.result.rows.shape) == [2, 64], answer
        call.cancel()
    async with asyncio.timeout(60):
        while not any(span.trace == TRACE for span in list(collector.spans)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    [span] = [span for span in collector.spans if span.trace == TRACE]
    assert span.name == "experts.product"
    assert span.parent == "b7ad6b7169203331"


def _crc(message: experts.Batch) -> int:
    crc = 0
    for part in (message.rows.data, message.row_offsets, message.expert_ids, message.gates):
        crc = google_crc32c.extend(crc, part)
    return crc


async def test_a_stopped_process_is_found_silent_and_serves_again_when_it_goes_on(shard: RoleProcess) -> None:
    async with open_channel(shard.address, 1.0) as channel:
        stub = peers_rpc.PeerServiceStub(channel)
        watch = stub.Watch(peers.WatchRequest())
        assert (await watch.read()).peer.name == "shard-0"
        shard.send(signal.SIGSTOP)
        try:
            # Without grpc.http2.ping_timeout_ms this takes 60 s, without keepalive for ever.
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _read_to_the_end(watch)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        finally:
            shard.send(signal.SIGCONT)
        async with asyncio.timeout(60):
            while True:
                try:
                    answer = await stub.Describe(peers.DescribeRequest(), timeout=5)
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)
        assert answer.peer.name == "shard-0"


async def _read_to_the_end(watch: Any) -> None:
    async with asyncio.timeout(45):
        while True:
            await watch.read()


async def test_sigterm_announces_the_leave_and_ends_with_code_0_though_streams_are_open(shard: RoleProcess) -> None:
    compat = shard.state()["compat"]
    async with open_channel(shard.address, PATIENT_SECONDS) as channel:
        watch = peers_rpc.PeerServiceStub(channel).Watch(peers.WatchRequest())
        call = await opened(channel, experts.Hello(compat=compat, lane=experts.LANE_DECODE, caller="test"))
        await call.read()
        assert not (await watch.read()).peer.draining
        shard.send(signal.SIGTERM)
        async with asyncio.timeout(60):
            while not (await watch.read()).peer.draining:
                pass
            assert (await call.read()).progress.draining
    assert await asyncio.to_thread(shard.wait) == 0
    assert "shard-0.sock" not in os.listdir(shard.fields["socket_dir"])


def test_a_taken_port_and_a_wrong_setting_end_the_process_with_one_line(tmp_path: Path, toy: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = shard_of(tmp_path / "a", toy, grpc_port=port).start()
        second = shard_of(tmp_path / "b", toy, admin_port=port).start()
        third = shard_of(tmp_path / "c", toy, discovery={"dns": {"experts": "nonsense"}}).start()
        assert [process.wait(240) for process in (first, second, third)] == [2, 2, 2]
    assert f"glm5: gRPC port 127.0.0.1:{port}" in first.log
    assert f"glm5: admin port 127.0.0.1:{port}: Address already in use; free it or set admin_port" in second.log
    assert "glm5: discovery.dns.experts: 'nonsense' is not host:port" in third.log
    for process in (first, second, third):
        assert "Traceback" not in process.log
