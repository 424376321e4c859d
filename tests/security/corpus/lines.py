"""Lines of a head that one server reads as one, another as two, and a third not at all."""

from __future__ import annotations

from tests.security.corpus.parts import BODY, END, HEAD, LENGTH, LINE, with_lines

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_NAME = [byte for byte in range(256) if byte not in _TOKEN and byte not in b":\n"]
_NO_VALUE = [byte for byte in (*range(32), 127) if byte not in b"\t\r"]

LINES: dict[str, bytes] = {
    "bare LF everywhere": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "bare LF after the request line": HEAD.replace(b"1.1\r\n", b"1.1\n") + END,
    "bare LF after a header": HEAD + b"X: y\n" + END,
    "bare LF at the end": HEAD + LENGTH + b"\n" + BODY,
    "bare CR after a header": HEAD + b"X: y\r" + END,
    "bare CR in a header": HEAD + b"X: y\rZ: w\r\n" + END,
    "bare CR at the end": HEAD + LENGTH + b"\r" + BODY,
    "two CR": HEAD + b"X: y\r\r\n" + END,
    "LF before CR": HEAD + b"X: y\n\r" + END,
    "folded header": HEAD + b"X: y\r\n z\r\n" + END,
    "folded by tab": HEAD + b"X: y\r\n\tContent-Length: 4\r\n" + END,
    "folded after nothing": HEAD + b"X:\r\n y\r\n" + END,
    "space before the first header": LINE + b" Host: m.demo\r\n{auth}" + END,
    "tab before the first header": LINE + b"\tX: y\r\nHost: m.demo\r\n{auth}" + END,
    "space before the colon": HEAD + b"X : y\r\n" + END,
    "empty name": HEAD + b": y\r\n" + END,
    "empty name after a space": HEAD + b" : y\r\n" + END,
    "no colon": HEAD + b"XYZ\r\n" + END,
    "a request for a header": HEAD + b"GET /metrics HTTP/1.1\r\n" + END,
    "encoded lines in the target": HEAD.replace(b"completions", b"completions\r\nX: y") + END,
    "two credentials": with_lines(b"Authorization: Bearer x"),
    "credential behind LF": LINE + b"Host: m.demo\r\nX: y\n{auth}" + END,
    "two types": with_lines(b"Content-Type: application/json", b"Content-Type: text/plain"),
    "name in Unicode": HEAD + "Tränsfer-Encoding: x\r\n".encode() + END,
    "name with a Kelvin sign": HEAD + "\u212aeep-Alive: x\r\n".encode() + END,
    **{f"name with byte {byte:02x}": with_lines(b"X%cY: z" % byte) for byte in _NO_NAME},
    **{f"value with byte {byte:02x}": with_lines(b"X: a%cb" % byte) for byte in _NO_VALUE},
    **{f"value begins with byte {byte:02x}": with_lines(b"X:%c b" % byte) for byte in (0, 1, 11, 12, 127)},
    **{f"value ends with byte {byte:02x}": with_lines(b"X: a%c" % byte) for byte in (0, 1, 11, 12, 127)},
}

SIZES: dict[str, bytes] = {
    "huge header": HEAD + b"X: " + b"x" * 40_000 + b"\r\n" + END,
    "huge name": HEAD + b"X" * 40_000 + b": y\r\n" + END,
    "huge target": HEAD.replace(b"completions", b"completions?" + b"x" * 40_000) + END,
    "huge method": HEAD.replace(b"POST", b"P" * 40_000) + END,
    "many headers": HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + END,
    "many short headers": HEAD + b"a:\r\n" * 5000 + END,
    "header without end": HEAD + b"X: " + b"x" * 400_000,
    "lines without end": HEAD + b"X: y\r\n" * 100_000,
    "body larger than allowed": HEAD + b"Content-Length: 99999999\r\n\r\n" + BODY,
    "body of a chunk larger than allowed": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1dcd6500\r\n" + b"x" * 100,
}
