"""The formats that are checked: all that JSON Schema names.

date-time, date, time: RFC 3339 (an offset or Z is part of the first and the last; second 60 is a leap second) ·
duration: ISO 8601 as in RFC 3339 appendix A · email, idn-email: RFC 5321 and 6531, a quoted local part and an
address literal among them · hostname: RFC 1123 ·
ipv4, ipv6: dotted quad, RFC 4291 without zone · uuid: RFC 9562 · the others: `addresses`.

Any other format describes and decides nothing; the linter says so.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

from llmpipe.late import late
from llmpipe.structured import addresses

_TIME = late(
    r"(?P<h>[01][0-9]|2[0-3]):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9]|60)(?:\.[0-9]+)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<oh>[01][0-9]|2[0-3]):(?P<om>[0-5][0-9]))"
)
_DATE = late(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = late(
    r"P(?:[0-9]+W|(?=[0-9T])(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)?"
    r"(?:T(?=[0-9])(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?)"
)
_LABEL = late(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ATOM = late(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
_WIDE_ATOM = late(r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\xa0\ud800-\udfff])+")
_QUOTED = late(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_WIDE_QUOTED = late(r'"(?:[ !#-\[\]-~]|[^\x00-\xa0\ud800-\udfff]|\\[ -~])*"')
_OCTET = late(r"25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]")
_UUID = late(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


def is_date(text: str) -> bool:
    """`2026-11-22`, a day that exists."""
    if not _DATE.fullmatch(text):
        return False
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """`23:59:59.5+01:00` or `...Z`; second 60 only where it is 23:59:60 in UTC."""
    found = _TIME.fullmatch(text)
    if not found:
        return False
    if found["s"] != "60":
        return True
    offset = (int(found["oh"]) * 60 + int(found["om"])) * (-1 if found["sign"] == "-" else 1) if found["sign"] else 0
    return (int(found["h"]) * 60 + int(found["m"]) - offset) % 1440 == 1439


def is_date_time(text: str) -> bool:
    """`2026-11-22T13:00:00Z`."""
    return len(text) > 11 and text[10] in "Tt" and is_date(text[:10]) and is_time(text[11:])


def is_duration(text: str) -> bool:
    """`P1DT2H`, `P3W`."""
    return _DURATION.fullmatch(text) is not None


def is_hostname(text: str) -> bool:
    """`api.example.org`: labels of at most 63, 253 characters in all."""
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def is_email(text: str) -> bool:
    """`first.last@example.org`, `"first last"@[192.0.2.1]`."""
    return _is_address(text, _ATOM, _QUOTED, is_hostname)


def is_idn_email(text: str) -> bool:
    """`jürgen@bücher.example`."""
    return _is_address(text, _WIDE_ATOM, _WIDE_QUOTED, addresses.is_idn_hostname)


def _is_address(text: str, atom: re.Pattern[str], quoted: re.Pattern[str], is_domain: Callable[[str], bool]) -> bool:
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64:
        return False
    if not quoted.fullmatch(local) and not all(atom.fullmatch(part) for part in local.split(".")):
        return False
    if domain[:1] == "[" and domain[-1:] == "]":
        literal = domain[1:-1]
        return is_ipv6(literal[5:]) if literal[:5].lower() == "ipv6:" else is_ipv4(literal)
    return is_domain(domain)


def is_ipv4(text: str) -> bool:
    """`192.0.2.1`, without leading zeros."""
    parts = text.split(".")
    return len(parts) == 4 and all(_OCTET.fullmatch(part) for part in parts)


def is_ipv6(text: str) -> bool:
    """`2001:db8::1`, without a zone."""
    import ipaddress

    if "%" in text or "/" in text:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_uuid(text: str) -> bool:
    """`2eb8aa08-aa98-11ea-b4aa-73b441d16380`."""
    return _UUID.fullmatch(text) is not None


CHECKS: dict[str, Callable[[str], bool]] = {
    "date-time": is_date_time,
    "date": is_date,
    "time": is_time,
    "duration": is_duration,
    "email": is_email,
    "hostname": is_hostname,
    "uri": addresses.is_uri,
    "ipv4": is_ipv4,
    "ipv6": is_ipv6,
    "uuid": is_uuid,
    "idn-email": is_idn_email,
    "idn-hostname": addresses.is_idn_hostname,
    "uri-reference": addresses.is_uri_reference,
    "iri": addresses.is_iri,
    "iri-reference": addresses.is_iri_reference,
    "uri-template": addresses.is_uri_template,
    "json-pointer": addresses.is_json_pointer,
    "relative-json-pointer": addresses.is_relative_json_pointer,
    "regex": addresses.is_regex,
}


def fits(format: str, value: object) -> bool:
    """Whether a value is of that format; formats that are not checked, and values that are not text, always are."""
    check = CHECKS.get(format)
    return check is None or not isinstance(value, str) or check(value)
