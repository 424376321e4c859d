"""Reading keys at a URL that somebody wrote: what it leads to, what answers, and what is made of it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.activator.access.issuer import Publisher, key_set, rsa, says, waits
from tests.activator.stack import FakeApi
from zerotide.activator.access import loading
from zerotide.activator.access.keyset import read_keys
from zerotide.activator.access.loading import LONGEST, Loader
from zerotide.activator.access.trust import KeysConfigMap, KeysUrl
from zerotide.activator.admission.naming import Name
from zerotide.activator.failures import AddressRefused, KeysMalformed, KeysMissing, KeysUnavailable, KeysUnreachable
from zerotide.api.egress import PUBLIC_ONLY, Egress
from zerotide.kube import Forbidden


@pytest.fixture
def wary(authorities: Path) -> Loader:
    """Return a loader that reaches public addresses only."""
    return Loader(FakeApi(), PUBLIC_ONLY, authorities)


async def test_keys_are_read(loader: Loader, publisher: Publisher) -> None:
    """By an honest issuer's address, over TLS."""
    text = await loader.load(KeysUrl(publisher.url))
    assert read_keys(text).pick("rsa", "RS256").key_type == "RSA"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_not_connected_to(wary: Loader, publisher: Publisher, host: str) -> None:
    """Whatever name leads to them."""
    with pytest.raises(AddressRefused, match=r"neither public nor in policy\.egress\.allow"):
        await wary.load(KeysUrl(publisher.url.replace("localhost", host)))
    assert publisher.asked == []


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost."])
async def test_private_addresses_in_other_writing(wary: Loader, publisher: Publisher, host: str) -> None:
    """What a resolver might take for one leads nowhere either."""
    with pytest.raises(KeysUnavailable):
        await wary.load(KeysUrl(publisher.url.replace("localhost", host)))
    assert publisher.asked == []


def leads(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let any name lead to these addresses, one after the other, and then nowhere."""
    left = list(addresses)

    async def resolve(self: object, host: str, port: int = 0, family: object = None) -> list[dict[str, object]]:
        if not left:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        family, address = socket.AF_INET, left.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", resolve)


async def test_a_name_that_leads_elsewhere_the_next_time(
    authorities: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is judged that is connected to, each time: what a name led to before does not count."""
    leads(monkeypatch, "127.0.0.1", "127.0.0.2")
    loader = Loader(FakeApi(), Egress.of(["127.0.0.1/32"]), authorities)
    await loader.load(KeysUrl(publisher.url))
    with pytest.raises(AddressRefused):
        await loader.load(KeysUrl(publisher.url))
    assert publisher.asked == ["/jwks"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(loader: Loader, publisher: Publisher, status: int) -> None:
    """Least of all to a private address."""
    publisher.answer = says(status, location="https://169.254.169.254/latest/meta-data")
    with pytest.raises(KeysUnreachable, match=str(status)):
        await loader.load(KeysUrl(publisher.url))
    publisher.answer = says(status, location=publisher.url + "/elsewhere")
    with pytest.raises(KeysUnreachable, match=str(status)):
        await loader.load(KeysUrl(publisher.url))
    assert publisher.asked == ["/jwks", "/jwks"]


@pytest.mark.parametrize("status", [204, 206, 400, 401, 404, 500, 503])
async def test_answers_that_are_no_success(loader: Loader, publisher: Publisher, status: int) -> None:
    """Whatever their text says."""
    publisher.answer = says(status, key_set(rsa()) if status != 204 else "")
    with pytest.raises(KeysUnreachable, match=str(status)):
        await loader.load(KeysUrl(publisher.url))


async def test_an_answer_that_takes_too_long(
    loader: Loader, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first byte, or between two."""
    monkeypatch.setattr(loading, "TIMEOUT", 0.2)
    never = asyncio.Event()
    publisher.answer = waits(never, "")
    with pytest.raises(KeysUnreachable, match=r"within 0\.2 s"):
        await loader.load(KeysUrl(publisher.url))

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"keys":[')
        await never.wait()
        return response

    publisher.answer = drip
    with pytest.raises(KeysUnreachable, match=r"within 0\.2 s"):
        await loader.load(KeysUrl(publisher.url))
    never.set()


async def test_an_answer_without_end(loader: Loader, publisher: Publisher) -> None:
    """It is read to the bound, compressed or not, and no further."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    publisher.answer = flood
    with pytest.raises(KeysMalformed, match=f"larger than {LONGEST} bytes"):
        await loader.load(KeysUrl(publisher.url))


async def test_a_compressed_answer_is_not_unpacked(loader: Loader, publisher: Publisher) -> None:
    """It was not asked for, and a small one could be a large one."""
    publisher.answer = says(200, "x" * 99, **{"Content-Encoding": "gzip"})
    assert await loader.load(KeysUrl(publisher.url)) == b"x" * 99


async def test_an_answer_that_breaks_off(loader: Loader, publisher: Publisher) -> None:
    """A part of a set is none."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"keys":[]}')
        assert request.transport is not None
        request.transport.abort()
        return response

    publisher.answer = cut
    with pytest.raises(KeysUnreachable, match="no answer"):
        await loader.load(KeysUrl(publisher.url))


async def test_an_issuer_that_cannot_prove_itself(publisher: Publisher) -> None:
    """A certificate of nobody that is trusted, or for another name."""
    stranger = Loader(FakeApi(), Egress.of(["127.0.0.0/8"]))
    with pytest.raises(KeysUnreachable, match="certificate"):
        await stranger.load(KeysUrl(publisher.url))


async def test_authorities_that_change(publisher: Publisher, authorities: Path, tmp_path: Path) -> None:
    """They are taken in as they are now; a file that is none is a failure, never a reason to believe anybody."""
    file = tmp_path / "ca.crt"
    loader = Loader(FakeApi(), Egress.of(["127.0.0.0/8"]), file)
    for content in (None, "", "no certificate"):
        if content is not None:
            file.write_text(content)
        with pytest.raises(KeysUnreachable, match=r"the authorities in .* cannot be read"):
            await loader.load(KeysUrl(publisher.url))
    file.write_text(authorities.read_text())
    assert await loader.load(KeysUrl(publisher.url))


async def test_another_name_than_the_certificate_s(
    loader: Loader, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys would be anybody's."""
    leads(monkeypatch, "127.0.0.1")
    with pytest.raises(KeysUnreachable, match="certificate"):
        await loader.load(KeysUrl(publisher.url.replace("localhost", "issuer.example")))


async def test_nobody_there(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, and no name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(KeysUnreachable, match="no connection"):
            await loader.load(KeysUrl(f"https://127.0.0.1:{free.getsockname()[1]}/"))
    leads(monkeypatch)
    with pytest.raises(KeysUnreachable, match="no connection"):
        await loader.load(KeysUrl("https://name.invalid/"))


async def test_a_config_map() -> None:
    """Of the endpoint's namespace, by its key; what is not there is told from what cannot be asked for."""
    api = FakeApi()
    loader = Loader(api, PUBLIC_ONLY)
    source = KeysConfigMap("demo", "issuer", "jwks.json")
    with pytest.raises(KeysMissing, match="no such ConfigMap"):
        await loader.load(source)
    api.config_maps[Name("demo", "issuer")] = {"other": "x"}
    with pytest.raises(KeysMissing, match="no such key"):
        await loader.load(source)
    api.config_maps[Name("demo", "issuer")]["jwks.json"] = "{}"
    assert await loader.load(source) == b"{}"
    api.config_maps[Name("demo", "issuer")]["jwks.json"] = "x" * (LONGEST + 1)
    with pytest.raises(KeysMalformed, match="larger"):
        await loader.load(source)
    api.down = Forbidden(403, "Forbidden", "no")
    with pytest.raises(KeysUnreachable, match="cannot be read"):
        await loader.load(source)
