"""Discovery by DNS, against a real DNS server on loopback."""

import socket

import dns.rcode

from glm5_spec.settings import Discovery
from support_dns import DnsServer, dns_server
from support_wire import process, until

NAME = "shards.default.svc.cluster.local"


def free_port() -> int:
    """Return a port that is free on 127.0.0.1 and 127.0.0.2, as pods of one Service have the same."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        port: int = first.getsockname()[1]
        second.bind(("127.0.0.2", port))
        return port


def discovery(server: DnsServer, port: int) -> Discovery:
    return Discovery(dns={"experts": f"{NAME}:{port}"}, dns_server=server.address, refresh_seconds=0.1)


async def test_every_address_behind_a_name_is_a_candidate_and_new_ones_are_noticed() -> None:
    port = free_port()
    async with dns_server() as server:
        server.records[NAME] = ["127.0.0.1"]
        async with (
            process("experts", "shard-0", port=port),
            process("experts", "shard-1", port=port, host="127.0.0.2"),
            process("decode", "decode-0", discovery(server, port)) as decode,
        ):
            await until(lambda: decode.names("experts") == ["shard-0"], decode.registry.all_peers)
            server.records[NAME] = ["127.0.0.1", "127.0.0.2"]
            await until(lambda: decode.names("experts") == ["shard-0", "shard-1"], decode.registry.all_peers)


async def test_empty_and_failed_answers_change_nothing() -> None:
    port = free_port()
    async with dns_server() as server:
        server.records[NAME] = ["127.0.0.1"]
        async with (
            process("experts", "shard-0", port=port),
            process("decode", "decode-0", discovery(server, port)) as decode,
        ):
            await until(lambda: decode.names("experts") == ["shard-0"], decode.registry.all_peers)
            server.records.clear()
            for rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL, dns.rcode.REFUSED):
                server.rcode = rcode
                asked = server.num_questions
                await until(lambda asked=asked: server.num_questions > asked + 2)  # type: ignore[misc]
                assert decode.names("experts") == ["shard-0"], rcode


async def test_a_name_that_appears_later_is_found() -> None:
    port = free_port()
    async with dns_server() as server:
        server.rcode = dns.rcode.NXDOMAIN
        async with (
            process("experts", "shard-0", port=port),
            process("decode", "decode-0", discovery(server, port)) as decode,
        ):
            await until(lambda: server.num_questions > 2)
            assert decode.registry.all_peers() == []
            server.rcode, server.records[NAME] = dns.rcode.NOERROR, ["127.0.0.1"]
            await until(lambda: decode.names("experts") == ["shard-0"], decode.registry.all_peers)
