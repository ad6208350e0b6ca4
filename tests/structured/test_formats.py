"""Each format takes what its standard allows and refuses what only looks like it."""

from __future__ import annotations

import time

import pytest

from llmpipe.structured.formats import CHECKS, fits

GOOD = {
    "date": ["2026-11-22", "2024-02-29"],
    "time": ["23:59:59Z", "00:00:00.123+01:00", "23:59:60Z", "00:59:60+01:00"],
    "date-time": ["2026-11-22T13:00:00Z", "2026-11-22t13:00:00.5-08:00"],
    "duration": ["P1D", "PT2H", "P3W", "P1Y2M3DT4H5M6S", "PT36H"],
    "email": [
        "a@example.org",
        "first.last+tag@sub.example.org",
        "x@localhost",
        '"a b@c"@d.de',
        "a@[192.0.2.1]",
        "a@[IPv6:::1]",
    ],
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
    "idn-email": ["jürgen@bücher.example", "실례@실례.테스트", "a@example.org"],
    "idn-hostname": ["bücher.example", "실례.테스트", "example.org"],
    "uri-reference": ["../a?b=c", "//example.org/x", "#part", "", "a/b:c", "https://example.org/", "?q"],
    "iri": ["https://bücher.example/ä?ö#ü", "http://[::1]/", "urn:ä"],
    "iri-reference": ["/ä", "//bücher.example", "#ü", "http://ä.example", ""],
    "uri-template": ["/users/{id}{?page,size*}", "{+path:3}/x", "{#a.b}", "plain", "ü/{x}"],
    "json-pointer": ["", "/", "/a/0/b~1c~0", "/ /", "/ä\n"],
    "relative-json-pointer": ["0", "1/a", "12#", "0/", "3/a~1b"],
    "regex": ["^a+$", "", "(?i)x", "[^/]"],
}
BAD = {
    "date": ["2026-02-30", "2026-1-1", "20261122", "2026-11-22T00:00:00Z", "2026-11-22\n", "２026-11-22", ""],
    "time": ["24:00:00Z", "12:00:00", "12:00Z", "12:60:00Z", "12:00:60Z", "12:00:00+24:00", "12:00:00Z\n"],
    "date-time": ["2026-11-22 13:00:00Z", "2026-11-22T13:00:00", "2026-11-22", "tomorrow", "2026-02-30T00:00:00Z"],
    "duration": ["P", "PT", "1D", "P1H", "P1DT", "P1D2W", "PT1D", "p1d", "P1Y3D"],
    "idn-email": ["a", "@b.de", "a b@c.de", "ä@", "ä@b ä.de"],
    "idn-hostname": ["-ä.example", "a..b", "ä ä", "ä" * 300],
    "uri-reference": ["\\\\x\\y", "a:b c", "1a:b", "#a\\b", "//[::1", "/%zz", "ä"],
    "iri": ["/ä", "https://ä ä/", "http://2001:0db8:85a3:0000:0000:8a2e:0370:7334", "", "http://ä/<x>"],
    "iri-reference": ["\\ä", "#ä\\", "//[ä]", "1ä:b"],
    "uri-template": ["{", "/{id", "{a b}", "{?}", "a}b", "x y", "{a:0}"],
    "json-pointer": ["a", "/~", "/~2", "#/a", "#"],
    "relative-json-pointer": ["", "/a", "-1", "+1", "01", "0##", "0a", "1/~2"],
    "regex": ["(", "[", "a{2,1}", "*", "(?P<x>a)(?P<x>b)", "(" * 5_000],
    "email": [
        "a",
        "@b.de",
        "a@",
        "a b@c.de",
        "a@b@c.de",
        ".a@b.de",
        "a..b@c.de",
        "a@-b.de",
        "a@b.de\n",
        '"a"b@c.de',
        "a@[1.2.3]",
        "ä@b.de",
    ],
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


@pytest.mark.parametrize("name", CHECKS)
def test_a_long_text_takes_no_time(name: str) -> None:
    started = time.process_time()
    for piece in ("a", "a:", "//", "a@", "@", "(", "/", "{a", "%", ".", '"', "é", "1", "[", "a."):
        for end in ("", "!", "@x", "\n"):
            fits(name, piece * (50_000 if name != "regex" else 500) + end)
    fits(name, "x" * 5_000_000)
    assert time.process_time() - started < 5
