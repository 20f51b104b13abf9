"""A small real DNS server on loopback, whose answers a test changes while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """Answers A questions from `records`, and every question with `rcode` where that is not NOERROR."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.rcode = dns.rcode.NOERROR
        self.num_questions = 0
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: Any) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA | dns.flags.AA
        answer.set_rcode(self.rcode)
        [asked] = question.question
        addresses = self.records.get(str(asked.name).rstrip("."), [])
        if self.rcode == dns.rcode.NOERROR and asked.rdtype == dns.rdatatype.A and addresses:
            answer.answer.append(dns.rrset.from_text(asked.name, 1, "IN", "A", *addresses))
        self.num_questions += asked.rdtype == dns.rdatatype.A
        assert self._transport is not None
        self._transport.sendto(answer.to_wire(), address)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def dns_server() -> AsyncIterator[DnsServer]:
    """Yield a server on a free port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
