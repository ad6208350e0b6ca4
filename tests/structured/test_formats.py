"""Each format takes what its standard allows and refuses what only looks like it."""

from __future__ import annotations

import pytest

from llmpipe.structured.formats import fits

GOOD = {
    "date": ["2026-11-22", "2024-02-29"],
    "time": ["23:59:59Z", "00:00:00.123+01:00", "23:59:60Z", "00:59:60+01:00"],
    "date-time": ["2026-11-22T13:00:00Z", "2026-11-22t13:00:00.5-08:00"],
    "duration": ["P1D", "PT2H", "P3W", "P1Y2M3DT4H5M6S", "PT36H"],
    "email": ["a@example.org", "first.last+tag@sub.example.org", "x@localhost"],
    "hostname": ["example.org", "a-b.c", "localhost", "x" * 63 + ".de"],
    "uri": [
        "https://example.org/a?b=c#d",
        "urn:isbn:0451450523",
        "mailto:a@b.de",
        "http://[::1]:80/",
        "http://u:p@h/%20",
    ],
    "ipv4": ["192.0.2.1", "0.0.0.0", "255.255.255.255"],
    "ipv6": ["::1", "2001:db8::1", "::ffff:192.0.2.1"],
    "uuid": ["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
}
BAD = {
    "date": ["2026-02-30", "2026-1-1", "20261122", "2026-11-22T00:00:00Z", "2026-11-22\n", "２026-11-22", ""],
    "time": ["24:00:00Z", "12:00:00", "12:00Z", "12:60:00Z", "12:00:60Z", "12:00:00+24:00", "12:00:00Z\n"],
    "date-time": ["2026-11-22 13:00:00Z", "2026-11-22T13:00:00", "2026-11-22", "tomorrow", "2026-02-30T00:00:00Z"],
    "duration": ["P", "PT", "1D", "P1H", "P1DT", "P1D2W", "PT1D", "p1d", "P1Y3D"],
    "email": ["a", "@b.de", "a@", "a b@c.de", "a@b@c.de", ".a@b.de", "a..b@c.de", "a@-b.de", "a@b.de\n"],
    "hostname": ["", "-a.de", "a_.de", "a..b", "x" * 64, "a." * 150, "a b"],
    "uri": [
        "example.org",
        "/a",
        "http://a b",
        "http://a/%zz",
        "http://a/\u00e9",
        "",
        "http://[::1",
        "1http://a",
        "http://a/{b}",
    ],
    "ipv4": ["1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4.5", "1.2.3.4\n", "a.b.c.d"],
    "ipv6": ["1.2.3.4", ":::", "fe80::1%eth0", "::1/64", "12345::"],
    "uuid": [
        "2eb8aa08aa9811eab4aa73b441d16380",
        "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
        "g" * 8 + "-aa98-11ea-b4aa-73b441d16380",
    ],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in GOOD.items() for text in texts])
def test_takes(name: str, text: str) -> None:
    assert fits(name, text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_refuses(name: str, text: str) -> None:
    assert not fits(name, text)


def test_what_is_not_text_or_not_known_always_fits() -> None:
    assert fits("date", 3)
    assert fits("isbn", "x")
