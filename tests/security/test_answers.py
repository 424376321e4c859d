"""Hostile answers of a replica: a client gets one answer that can be read in one way, or an error of ours."""

from __future__ import annotations

import re

import pytest

from tests.security.corpus import NORMALISED
from tests.security.wire import converse, talk, wired
from tests.security.wiretap import GOOD as FINE
from zerotide.activator.wire.upstream import MOST_INTERIM

GOOD = NORMALISED["plain"]
OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
END = TWO + b"\r\n{}"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
# What a head of ours looks like, byte by byte.
_HEAD = re.compile(
    rb"HTTP/1\.1 [2-5][0-9]{2} [\x20-\x7e]*\r\n"
    rb"(?:[a-z0-9!#$%&'*+.^`|~-]+: (?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\r\n)+\r\n"
)

LOST: dict[str, bytes] = {
    **{f"value with byte {byte:02x}": OK + b"X: a%cb\r\n" % byte + END for byte in (0, 1, 8, 10, 11, 12, 13, 27, 127)},
    **{f"name with byte {byte:02x}": OK + b"X%cY: z\r\n" % byte + END for byte in (0, 1, 10, 13, 32, 34, 40, 127, 233)},
    "bare LF": OK + b"X: y\n" + END,
    "LF for all": (OK + TWO + b"\r\n").replace(b"\r\n", b"\n") + b"{}",
    "a line in a value": OK + b"X: y\n\nHTTP/1.1 200 OK\r\n" + END,
    "folded": OK + b"X: y\r\n z\r\n" + END,
    "space before the colon": OK + b"Content-Length : 2\r\n\r\n{}",
    "empty name": OK + b": y\r\n" + END,
    "no colon": OK + b"XYZ\r\n" + END,
    "two lengths": OK + TWO + END,
    "two lengths that differ": OK + b"Content-Length: 5\r\n" + END,
    "list of lengths": OK + b"Content-Length: 2, 2\r\n\r\n{}",
    "signed length": OK + b"Content-Length: +2\r\n\r\n{}",
    "negative length": OK + b"Content-Length: -2\r\n\r\n{}",
    "hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\n{}",
    "length with a space": OK + b"Content-Length: 0 2\r\n\r\n{}",
    "empty length": OK + b"Content-Length:\r\n\r\n{}",
    "length beyond 64 bits": OK + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "length and coding": OK + TWO + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding and length": OK + b"Transfer-Encoding: chunked\r\n" + TWO + b"\r\n2\r\n{}\r\n0\r\n\r\n",
    "unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\n{}",
    "gzip then chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked then identity": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n2\r\n{}\r\n0\r\n\r\n",
    "a flood of interim answers": HINT * 10_000 + FINE,
    "one interim answer too many": HINT * (MOST_INTERIM + 1) + FINE,
    "interim answers without end": HINT * 20,
    "switched protocols": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "huge head": OK + b"X: " + b"x" * 70_000 + b"\r\n" + END,
    "many lines": OK + b"X: y\r\n" * 20_000 + END,
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/2": bytes.fromhex("000000040000000000"),
    "a version of two digits": FINE.replace(b"HTTP/1.1", b"HTTP/1.10"),
    "a status of two digits": FINE.replace(b" 200 ", b" 20 "),
    "a status of four digits": FINE.replace(b" 200 ", b" 2000 "),
    "a status with a sign": FINE.replace(b" 200 ", b" +20 "),
    "a reason with a line": FINE.replace(b" OK", b" OK\nX: y"),
}
CUT = {
    "a chunk with a sign": OK + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": OK + b"Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "chunks with bare LF": OK + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
}
WHOLE: dict[str, bytes] = {
    "as many interim answers as may be": HINT * MOST_INTERIM + FINE,
    "a reason with NUL": FINE.replace(b" OK", b" O\x00K"),
    "space around values": OK + b"X:  \t y \t \r\n" + END,
    "hop-by-hop by name": OK + b"Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n" + END,
    "other bytes in a value": OK + b"X: \xe9\r\n" + END,
    "data after the end": FINE + b"HTTP/1.1 200 OK\r\nX-Second: 1\r\nContent-Length: 6\r\n\r\nsecond",
    "bytes after the end": FINE + b"garbage\r\n\r\n",
    "no content, and some": b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nX-Second: 1\r\n" + END,
    "no content, and a length": b"HTTP/1.1 204 No Content\r\n" + END,
    "not modified, and a body": b"HTTP/1.1 304 Not Modified\r\n" + END,
}


def heads(answer: bytes) -> list[bytes]:
    """Return the heads in what a client got; fails where one is not of our form."""
    head = _HEAD.match(answer)
    assert head is not None, answer
    return [head.group(), *re.findall(rb"HTTP/1\.1 [0-9]{3}", answer[head.end() :])]


@pytest.mark.parametrize("warm", [False, True], ids=["first", "behind a good one"])
async def test_answers_that_could_be_read_in_two_ways(warm: bool) -> None:
    """The client gets 502 and a code, nothing of theirs, and the connection to the replica is not used again."""
    wrong: dict[str, bytes] = {}
    async with wired() as (stack, tap):
        for case, data in LOST.items():
            if warm:
                tap.answer, tap.hang_up = FINE, False
                assert (await talk(stack, GOOD, GOOD))[9:12] == b"200", case
            before = len(tap.lines)
            tap.answer, tap.hang_up = data, True
            answer = await talk(stack, GOOD)
            if answer[9:12] != b"502" or b"x-zerotide-error: upstream_lost\r\n" not in answer or len(heads(answer)) > 1:
                wrong[case] = answer
            tap.answer, tap.hang_up = FINE, False
            assert (await talk(stack, GOOD))[9:12] == b"200", case
            assert len(tap.lines) > before, case
    assert wrong == {}


async def test_answers_that_go_wrong_behind_their_head() -> None:
    """The client's answer ends without its end: it cannot be taken for a whole one."""
    async with wired() as (stack, tap):
        for case, data in CUT.items():
            tap.answer, tap.hang_up = data, True
            answer = await talk(stack, GOOD)
            assert answer[9:12] == b"502" or not answer.endswith(b"0\r\n\r\n"), (case, answer)
            assert len(heads(answer)) == 1, case


async def test_answers_that_can_be_read_in_one_way() -> None:
    """They are passed on in our form, once, and what comes after their end reaches nobody."""
    async with wired() as (stack, tap):
        for case, data in WHOLE.items():
            tap.answer, tap.hang_up = data, False
            answer = await talk(stack, GOOD)
            tap.answer = FINE
            following = await converse(stack, GOOD, GOOD)
            assert [one[9:12] for one in following] == [b"200"] * 2, case
            assert all(one.endswith(b"\r\n\r\n{}") for one in following), case
            for one in (answer, *following):
                assert len(heads(one)) == 1, (case, one)
                for word in (b"second", b"x-second", b"garbage", b"x-secret", b"keep-alive:", b"Early Hints"):
                    assert word not in one, (case, one)
