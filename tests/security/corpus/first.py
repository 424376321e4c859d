"""Hostile requests, each as its bytes. `{auth}` stands for a valid credential, so that nothing but the form is wrong.

REFUSED must never reach a replica, and must be answered with an error, or with the end of the connection.
NORMALISED reach one, as a request that can be read in one way only.
"""

from __future__ import annotations

BODY = b'{"model":"m"}'
LINE = b"POST /v1/completions HTTP/1.1\r\n"
HEAD = LINE + b"Host: m.demo\r\n{auth}"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: 13\r\n"
END = LENGTH + b"\r\n" + BODY
WHOLE = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"

GET = HEAD.replace(b"POST", b"GET")
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"

REFUSED: dict[str, bytes] = {
    # Two lengths: what one server takes for a body is the next request of the other.
    "length and coding": HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + WHOLE,
    "coding and length": HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + WHOLE,
    "two lengths": HEAD + LENGTH + END,
    "two lengths that differ": HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "list of lengths": HEAD + b"Content-Length: 13, 13\r\n\r\n" + BODY,
    "signed length": HEAD + b"Content-Length: +13\r\n\r\n" + BODY,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    "hexadecimal length": HEAD + b"Content-Length: 0xd\r\n\r\n" + BODY,
    "length with a space": HEAD + b"Content-Length: 1 3\r\n\r\n" + BODY,
    "length beyond integers": HEAD + b"Content-Length: 18446744073709551617\r\n\r\n" + BODY,
    "empty length": HEAD + b"Content-Length:\r\n\r\n" + BODY,
    "length in other digits": HEAD + "Content-Length: ١٣\r\n\r\n".encode() + BODY,
    # Codings that one server knows and the other does not.
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + WHOLE,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "gzip then chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + WHOLE,
    "chunked then gzip": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + WHOLE,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + WHOLE,
    "coding header twice": HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + WHOLE,
    "coding after vertical tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + WHOLE,
    "coding in quotes": HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n' + WHOLE,
    "coding with a parameter": HEAD + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + WHOLE,
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + WHOLE,
    "coding over a line": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + WHOLE,
    "chunked in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + WHOLE,
    # Chunks.
    "chunk size with a sign": CHUNKED + b"+d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"0xd\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED + b"d \r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size beyond integers": CHUNKED + b"1000000000000000d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"c\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunks with bare LF": CHUNKED + b"d\n" + BODY + b"\n0\n\n",
    "chunk extension with bare LF": CHUNKED + b"d;a\n" + BODY + b"\r\n0\r\n\r\n",
    "length in a trailer": CHUNKED + b"d\r\n" + BODY + b"\r\n0\r\nContent-Length: 4\r\n\r\n",
    # Lines.
    "bare LF everywhere": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "bare LF after a header": HEAD + b"X: y\n" + END,
    "bare CR in a header": HEAD + b"X: y\rZ: w\r\n" + END,
    "folded header": HEAD + b"X: y\r\n z\r\n" + END,
    "folded by tab": HEAD + b"X: y\r\n\tContent-Length: 4\r\n" + END,
    "space before the first header": LINE + b" Host: m.demo\r\n{auth}" + END,
    "NUL in a value": HEAD + b"X: a\x00b\r\n" + END,
    "control character in a value": HEAD + b"X: a\x01b\r\n" + END,
    "empty name": HEAD + b": y\r\n" + END,
    "name with a space": HEAD + b"X Y: z\r\n" + END,
    "name beyond ASCII": HEAD + b"X\xe9: z\r\n" + END,
    "no colon": HEAD + b"XYZ\r\n" + END,
    # Where it goes.
    "no host": LINE + b"{auth}" + END,
    "two hosts": HEAD + b"Host: other.demo\r\n" + END,
    "host with a path": HEAD.replace(b"m.demo", b"m.demo/x") + END,
    "host with a user": HEAD.replace(b"m.demo", b"a@m.demo") + END,
    "host with a space": HEAD.replace(b"m.demo", b"m.demo other.demo") + END,
    "absolute target": HEAD.replace(b"/v1", b"http://other.demo/v1") + END,
    "target of another authority": HEAD.replace(b"/v1/completions", b"//other/v1") + END,
    "target with a fragment": HEAD.replace(b"completions", b"completions#x") + END,
    "target with bytes": HEAD.replace(b"completions", b"comple\xfftions") + END,
    "target with a tab": HEAD.replace(b"completions", b"comple\ttions") + END,
    "target that climbs": HEAD.replace(b"/v1", b"/v1/../v1") + END,
    "target with an encoded slash": HEAD.replace(b"/v1/", b"/v1%2f") + END,
    "two credentials": HEAD + b"{auth}" + END,
    # What it is.
    "CONNECT": HEAD.replace(b"POST /v1/completions", b"CONNECT other:80") + b"\r\n",
    "TRACE": HEAD.replace(b"POST", b"TRACE") + b"\r\n",
    "unknown method": HEAD.replace(b"POST", b"FROB") + END,
    "method in small letters": HEAD.replace(b"POST", b"post") + END,
    "GET with a body": HEAD.replace(b"POST", b"GET") + END,
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + END,
    "HTTP/1.2": HEAD.replace(b"1.1", b"1.2") + END,
    "HTTP/2.0 in a line": HEAD.replace(b"1.1", b"2.0") + END,
    "half a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    # Upgrades that a replica might take for agreed to: what follows would be a request that nobody checked.
    "WebSocket without a key": GET + UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n",
    "WebSocket with two keys": GET + UPGRADE + VERSION + KEY + KEY + b"\r\n",
    "WebSocket of an old version": GET + UPGRADE + KEY + b"Sec-WebSocket-Version: 777\r\n\r\n",
    "WebSocket by POST": HEAD + UPGRADE + VERSION + KEY + LENGTH + b"\r\n" + BODY,
    "WebSocket with a body": GET + UPGRADE + VERSION + KEY + LENGTH + b"\r\n" + BODY,
    "WebSocket among others": GET + b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n" + VERSION + KEY + b"\r\n",
    "WebSocket where there is none": GET + UPGRADE + VERSION + KEY + b"\r\n",
    "unknown expectation": HEAD + LENGTH + b"Expect: 200-ok\r\n\r\n" + BODY,
    "compressed body": HEAD + LENGTH + b"Content-Encoding: gzip\r\n\r\n" + BODY,
    # How much of it there is.
    "huge header": HEAD + b"X: " + b"x" * 40_000 + b"\r\n" + END,
    "huge target": HEAD.replace(b"completions", b"completions?" + b"x" * 40_000) + END,
    "many headers": HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + END,
    "header without end": HEAD + b"X: " + b"x" * 400_000,
    "body larger than allowed": HEAD + b"Content-Length: 99999999\r\n\r\n" + BODY,
    # Two requests in the clothes of one.
    "request in a body": HEAD + LENGTH + b"\r\n" + b"GET /metrics HTTP/1.1\r\nHost: m.demo\r\n\r\n",
}

NORMALISED: dict[str, bytes] = {
    "plain": HEAD + END,
    "chunks": CHUNKED + WHOLE,
    "chunks with extensions and trailers": CHUNKED
    + b"3;a=b\r\n"
    + BODY[:3]
    + b"\r\nA\r\n"
    + BODY[3:]
    + b"\r\n0\r\nX-T: y\r\n\r\n",
    "coding in capitals": HEAD + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + WHOLE,
    "empty lines first": b"\r\n\r\n" + HEAD + END,
    "space around values": HEAD + b"X-A:  \t y \t \r\n" + END,
    "hop-by-hop by name": HEAD
    + b"Connection: X-Secret, Keep-Alive\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n"
    + LENGTH
    + b"\r\n"
    + BODY,
    "headers with underscores": HEAD + b"X_Forwarded_For: 6.6.6.6\r\nContent_Length: 4\r\n" + END,
    "forged headers": HEAD
    + b"X-Forwarded-For: 6.6.6.6\r\nX-Zerotide-Replica: x\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
    + LENGTH
    + b"\r\n"
    + BODY,
    "another target and method": HEAD
    + b"X-Original-URL: /metrics\r\nX-Rewrite-Url: /metrics\r\nX-HTTP-Method-Override: DELETE\r\n"
    + b"X-HTTP-Method: DELETE\r\nX-Method-Override: DELETE\r\n"
    + LENGTH
    + b"\r\n"
    + BODY,
    "TE": HEAD + b"TE: trailers\r\nTrailer: X\r\n" + END,
    "proxy credentials": HEAD
    + b"Proxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\n"
    + LENGTH
    + b"\r\n"
    + BODY,
    "offer of h2c": HEAD
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    + LENGTH
    + b"\r\n"
    + BODY,
}
