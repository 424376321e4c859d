"""Flags, the price file and deliveries: nonsense is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND, parse_time
from zerotide.billing.prices import Meter
from zerotide.exporter.errors import ExporterError, PriceFileError, SettingsError
from zerotide.exporter.intake import read_delivery
from zerotide.exporter.main import main
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.settings import parse


def test_flags_beat_the_environment_which_beats_defaults() -> None:
    environment = {"ZEROTIDE_LEDGER": "/data/l.sqlite", "ZEROTIDE_PRICES": "/etc/p.yaml", "POD_NAMESPACE": "sys"}
    settings = parse(["--port", "0", "--settle-lag", "10s"], environment)
    assert (settings.ledger, settings.prices) == (Path("/data/l.sqlite"), Path("/etc/p.yaml"))
    assert (settings.port, settings.settle_lag_us) == (0, 10 * SECOND)
    assert settings.activator_user == "system:serviceaccount:sys:zerotide-activator"
    assert settings.operator_user == "system:serviceaccount:sys:zerotide-operator"
    assert parse(["--ledger", "/x"], environment).ledger == Path("/x")
    told = parse([], {"ZEROTIDE_DATABASE": "postgresql://me@db/ledger"})
    assert (told.database, parse([], {}).database) == ("postgresql://me@db/ledger", "")
    told = parse([], {"ZEROTIDE_OTLP_ENDPOINT": "http://c:4318/v1/metrics/", "ZEROTIDE_OTLP_HEADERS": "a=b, c = d=e"})
    assert (told.otlp_endpoint, told.otlp_headers) == ("http://c:4318", {"a": "b", "c": "d=e"})
    assert (parse([], {}).otlp_endpoint, parse([], {}).otlp_interval_us) == ("", 60 * SECOND)
    assert (parse([], {"ZEROTIDE_ARCHIVE": "/a"}).archive, parse([], {}).archive) == (Path("/a"), None)
    assert (parse([], {}).prices, parse([], {}).price_book) == (None, "default")
    told = parse([], {"ZEROTIDE_EGRESS_ALLOW": "10.0.0.0/8, fd00::/8", "ZEROTIDE_EGRESS_CA_FILE": "/ca.crt"})
    assert (told.egress.names("10.1.2.3"), told.egress_ca_file) == (True, Path("/ca.crt"))
    assert (parse([], {}).egress.names("10.1.2.3"), parse([], {}).egress_ca_file) == (False, None)


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "many"],
        ["--port", "70000"],
        ["--settle-lag", "soon"],
        ["--otlp-endpoint", "collector:4318"],
        ["--otlp-headers", "secret"],
        ["--log-format", "xml"],
        ["--log-level", "loud"],
        ["--cluster", ""],
        ["--database", "mysql://me:secret@db/ledger"],
        ["--egress-allow", "10.0.0.1/8"],
    ],
)
def test_nonsense_is_refused_by_the_flags_name(flags: list[str]) -> None:
    with pytest.raises(SettingsError, match=flags[0]):
        parse(flags, {})


def test_the_process_says_what_is_wrong_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--port", "many"])
    assert caught.value.code == 2
    assert "--port 'many'" in capsys.readouterr().err


def test_the_shipped_prices_load_and_a_file_replaces_them(tmp_path: Path) -> None:
    assert load_prices(None).at(Meter.CPU_TIME, "", parse_time("2026-11-22T00:00:00Z")) is not None
    own = tmp_path / "prices.yaml"
    own.write_text("currency: EUR")
    assert load_prices(own).book.currency == "EUR"


@pytest.mark.parametrize("text", ["currency: [", "currency: euro", "- a", "\x00"])
def test_a_broken_price_file_is_named(tmp_path: Path, text: str) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(text)
    with pytest.raises(PriceFileError, match=r"prices\.yaml"):
        load_prices(own)
    with pytest.raises(ExporterError):
        load_prices(tmp_path / "absent.yaml")


def test_a_delivery_is_taken_apart_and_nothing_is_lost() -> None:
    good, end = intent(forwarded_us=T0), settlement(ended_us=T0 + 1)
    body = good.encode() + b"\n{broken\n" + end.encode() + b'{"kind":"other"}'
    delivery = read_delivery(body)
    assert delivery.records == [good, end]
    assert [(number, each.line) for number, each in zip(delivery.lines, delivery.refused, strict=True)] == [
        (3, b"{broken"),
        (5, b'{"kind":"other"}'),
    ]
    assert all("no usage record" in each.error for each in delivery.refused)
    assert delivery.places == [1, 4]
    assert read_delivery(b"") == ([], [], [], [])
