"""Where a request goes and what it wants: hosts, targets, methods, versions, other protocols."""

from __future__ import annotations

from tests.security.corpus.parts import BODY, END, HEAD, LENGTH, LINE, by, to, with_lines

HOSTS: dict[str, bytes] = {
    "no host": LINE + b"{auth}" + END,
    "two hosts": with_lines(b"Host: other.demo"),
    "one host twice": with_lines(b"Host: m.demo"),
    **{
        f"host {value!r}": HEAD.replace(b"m.demo", value) + END
        for value in (
            b"m.demo/x",
            b"a@m.demo",
            b"m.demo other.demo",
            b"m.demo,other.demo",
            b"m.demo\tx",
            b"m.demo#x",
            b"m.demo?x",
            b"m.demo:",
            b"m.demo:x",
            b"m.demo:80:80",
            b"m.demo:123456",
            b"m.demo%00",
            b"http://m.demo",
            b"[::1",
            b"[::1]x",
            b"m\xe9.demo",
            b"m.demo\x00",
            b"m.demo" * 100,
        )
    },
}

TARGETS: dict[str, bytes] = {
    "absolute target": to(b"http://other.demo/v1/completions"),
    "absolute target of the host itself": to(b"http://m.demo/v1/completions"),
    "absolute target by another scheme": to(b"file:///etc/passwd"),
    "target of a proxy": to(b"https://169.254.169.254/latest/meta-data/"),
    "authority for a target": to(b"m.demo:80"),
    "no target": HEAD.replace(b"/v1/completions", b"") + END,
    "star": to(b"*"),
    "query for a target": to(b"?x"),
    "relative target": to(b"v1/completions"),
    **{
        f"target {target!r}": to(target)
        for target in (
            b"//other/v1",
            b"//v1/completions",
            b"/v1//completions",
            b"/v1/../v1/completions",
            b"/v1/./completions",
            b"/v1/../admin",
            b"/v1/completions/..",
            b"/v1/completions/",
            b"/v1/completions/.",
            b"/v1/completions;x=y",
            b"/v1;x=y/completions",
            b"/v1/completions%00",
            b"/v1/completions%20",
            b"/v1%2fcompletions",
            b"/v1/%63ompletions",
            b"/%2e%2e/v1/completions",
            b"/v1/%2e%2e/admin",
            b"/v1/..%2fadmin",
            b"/v1/%252e%252e/admin",
            b"/v1/..;/admin",
            b"/v1\\completions",
            b"/V1/completions",
            b"/admin",
            b"/metrics",
            b"/load_lora_adapter",
            b"/endpoints/demo/m/../../../metrics",
            b"/endpoints/demo/m//v1/completions",
            b"/endpoints/demo/../demo/m/v1/completions",
            b"/endpoints/demo%2fm/v1/completions",
            b"/endpoints/demo/m;x/v1/completions",
            b"/endpoints/demo/m%2fv1/completions",
            b"/endpoints/demo/m/endpoints/demo/m/v1/completions",
            b"/endpoints//m/v1/completions",
            b"/endpoints/demo//v1/completions",
            b"/v1/completions#x",
            b"/v1/completions?x#y",
            b"/v1/comple\xfftions",
            b"/v1/comple\ttions",
            b"/v1/completions?a\x00b",
            b"/v1/completions?a\x7fb",
            b"/v1/completions?a b",
            b"/v1/completions\r",
            b"/v1/completions\x0b",
        )
    },
}

METHODS: dict[str, bytes] = {
    "CONNECT": HEAD.replace(b"POST /v1/completions", b"CONNECT other:80") + b"\r\n",
    "CONNECT with a body": HEAD.replace(b"POST /v1/completions", b"CONNECT other:80") + END,
    "TRACE": HEAD.replace(b"POST", b"TRACE") + b"\r\n",
    "GET with a body": by(b"GET"),
    "HEAD with a body": by(b"HEAD"),
    "OPTIONS with a body": by(b"OPTIONS"),
    "DELETE with a body": by(b"DELETE"),
    **{
        f"method {method!r}": by(method)
        for method in (
            b"post",
            b"Post",
            b"FROB",
            b"PUT",
            b"PATCH",
            b"PRI",
            b"SOURCE",
            b"DESCRIBE",
            b"M-SEARCH",
            b"POST\t",
            b" POST",
            b"\tPOST",
            b"POST ",
            b"PO ST",
            b"POST\x00",
            b"\x00POST",
            b"\xefPOST",
            b"",
            b"P",
        )
    },
}

VERSIONS: dict[str, bytes] = {
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/0.9 with a body": b"POST /v1/completions\r\n\r\n" + BODY,
    "HTTP/1.0 with a wish for another": HEAD.replace(b"1.1", b"1.0") + b"Connection: upgrade\r\nUpgrade: x\r\n" + END,
    "RTSP/1.1 with a wish for another": HEAD.replace(b"HTTP", b"RTSP") + b"Connection: upgrade\r\nUpgrade: x\r\n" + END,
    "RTSP/1.1 after empty lines": b"\r\n\r\n" + HEAD.replace(b"HTTP", b"RTSP") + END,
    **{
        f"version {version!r}": HEAD.replace(b"HTTP/1.1", version) + END
        for version in (
            b"HTTP/1.0",
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/2",
            b"HTTP/3",
            b"HTTP/0.9",
            b"HTTP/1.10",
            b"HTTP/01.1",
            b"HTTP/1.1 ",
            b" HTTP/1.1",
            b"HTTP/1.1\t",
            b"HTTP/1,1",
            b"HTTP/+1.1",
            b"HTTP/1",
            b"HTTP 1.1",
            b"http/1.1",
            b"HTTQ/1.1",
            b"ICE/1.0",
            b"RTSP/1.0",
            b"RTSP/1.1",
            b"",
        )
    },
}

PROTOCOLS: dict[str, bytes] = {
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SMTP": b"EHLO x\r\nMAIL FROM:<a@b>\r\n",
    "Redis": b"*1\r\n$4\r\nINFO\r\n",
    "PROXY protocol from a stranger": b"PROXY TCP4 6.6.6.6 127.0.0.1 1 80\r\n" + HEAD + END,
    "PROXY protocol, version 2": b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + bytes(12) + HEAD + END,
    "WebSocket where it is not allowed": HEAD.replace(b"POST", b"GET")
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "WebSocket by POST": with_lines(b"Connection: Upgrade", b"Upgrade: websocket"),
    "unknown expectation": HEAD + LENGTH + b"Expect: 200-ok\r\n\r\n" + BODY,
    "expectation twice": HEAD + LENGTH + b"Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n" + BODY,
    "compressed body": HEAD + LENGTH + b"Content-Encoding: gzip\r\n\r\n" + BODY,
    "request in a body": HEAD + LENGTH + b"\r\n" + b"GET /metrics HTTP/1.1\r\nHost: m.demo\r\n\r\n",
}
