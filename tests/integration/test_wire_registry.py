"""Discovery and watching, between real gRPC servers in this process."""

import asyncio
import socket
from pathlib import Path

from glm5.v1 import peer_pb2 as pb
from glm5_spec.settings import Discovery
from support_wire import listing, process, until


async def test_a_peer_in_the_file_is_found_and_a_new_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    async with process("experts", "shard-0") as first, process("experts", "shard-1") as second:
        discovery = listing(path, ("experts", first.server.address))
        async with process("decode", "decode-0", discovery) as decode:
            await until(lambda: decode.names("experts") == ["shard-0"], decode.registry.all_peers)
            listing(path, ("experts", first.server.address), ("experts", second.server.address))
            await until(lambda: decode.names("experts") == ["shard-0", "shard-1"], decode.registry.all_peers)


async def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    async with (
        process("experts", "shard-0") as shard,
        process("decode", "decode-0", listing(path, ("experts", shard.server.address))) as decode,
    ):
        await until(lambda: decode.names("experts") == ["shard-0"])
        for text in ("", "{", '{"peers": [{"role": "cook", "address": "x"}]}', "[]"):
            path.write_text(text)
            await asyncio.sleep(0.15)
            assert decode.names("experts") == ["shard-0"]


async def test_a_newcomer_that_does_not_answer_takes_nobody_out_of_service(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        stranger = f"127.0.0.1:{silent.getsockname()[1]}"
        async with process("experts", "shard-0") as shard:
            known = ("experts", shard.server.address)
            async with process("decode", "decode-0", listing(tmp_path / "p", known)) as decode:
                await until(lambda: decode.registry.looked)
                listing(tmp_path / "p", known, ("experts", stranger))
                await until(lambda: stranger in [peer.address for peer in decode.registry.all_peers()])
                assert decode.registry.looked


async def test_the_first_candidates_are_awaited_also_where_they_come_late(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stranger = f"127.0.0.1:{silent.getsockname()[1]}"
        async with process("decode", "decode-0", listing(tmp_path / "p")) as decode:
            await until(lambda: decode.registry.looked)
            listing(tmp_path / "p", ("experts", stranger))
            await until(lambda: bool(decode.registry.all_peers()))
            assert not decode.registry.looked


async def test_who_announces_itself_is_looked_at_without_any_source(tmp_path: Path) -> None:
    async with process("decode", "decode-0") as decode:
        discovery = listing(tmp_path / "peers.json", ("decode", decode.server.address))
        async with process("experts", "shard-0", discovery) as shard:
            await until(lambda: decode.names("experts") == ["shard-0"], decode.registry.all_peers)
            await until(lambda: shard.registry.untold(pb.ROLE_DECODE) == [])


async def test_a_peer_of_another_deployment_is_dropped_with_the_reason(tmp_path: Path) -> None:
    async with (
        process("experts", "shard-0", deployment="other") as shard,
        process("decode", "decode-0", listing(tmp_path / "p", ("experts", shard.server.address))) as decode,
    ):
        await until(lambda: decode.registry.looked)
        [state] = decode.registry.all_peers()
        assert not state.usable
        assert state.reason == "belongs to deployment other, not d"


async def test_draining_and_readiness_reach_the_watchers_at_once(tmp_path: Path) -> None:
    async with (
        process("experts", "shard-0") as shard,
        process("decode", "decode-0", listing(tmp_path / "p", ("experts", shard.server.address))) as decode,
    ):
        changes: list[list[str]] = []
        decode.registry.on_change(lambda: changes.append(decode.names("experts")))
        await until(lambda: decode.names("experts") == ["shard-0"])
        shard.peer.draining = True
        shard.registry.notify()
        await until(lambda: decode.names("experts") == [])
        assert decode.registry.all_peers()[0].reason == "is draining"
        shard.peer.draining = False
        shard.registry.notify()
        await until(lambda: decode.names("experts") == ["shard-0"])
        assert changes[-1] == ["shard-0"]
        assert [] in changes


async def test_a_dead_peer_is_unusable_and_its_successor_at_the_address_has_a_new_handle(tmp_path: Path) -> None:
    async with process("experts", "shard-0") as shard:
        port = int(shard.server.address.rpartition(":")[2])
        discovery = listing(tmp_path / "p", ("experts", shard.server.address))
        async with process("decode", "decode-0", discovery) as decode:
            await until(lambda: decode.names("experts") == ["shard-0"])
            [before] = decode.registry.peers(pb.ROLE_EXPERTS)
            await shard.registry.stop()
            await shard.server.stop(0)
            await until(lambda: decode.names("experts") == [])
            async with process("experts", "shard-0", port=port):
                await until(lambda: decode.names("experts") == ["shard-0"], decode.registry.all_peers)
                [after] = decode.registry.peers(pb.ROLE_EXPERTS)
                assert after is not before
                assert after.peer.incarnation != before.peer.incarnation


async def test_a_reported_failure_makes_a_peer_unusable_until_it_has_answered_again(tmp_path: Path) -> None:
    async with (
        process("experts", "shard-0") as shard,
        process("decode", "decode-0", listing(tmp_path / "p", ("experts", shard.server.address))) as decode,
    ):
        await until(lambda: decode.names("experts") == ["shard-0"])
        [handle] = decode.registry.peers(pb.ROLE_EXPERTS)
        decode.registry.report_failure(handle, "a stream broke")
        assert decode.names("experts") == []
        await until(lambda: decode.names("experts") == ["shard-0"])
        assert decode.registry.peers(pb.ROLE_EXPERTS) == [handle]


async def test_a_process_does_not_become_its_own_peer(tmp_path: Path) -> None:
    path = tmp_path / "p"
    async with process("decode", "decode-0", Discovery(file=str(path), refresh_seconds=0.1)) as decode:
        listing(path, ("experts", decode.server.address.replace("127.0.0.1", "localhost")))
        await until(lambda: bool(decode.registry.all_peers()) and decode.registry.looked)
        assert decode.registry.all_peers()[0].reason == "is this process itself"
