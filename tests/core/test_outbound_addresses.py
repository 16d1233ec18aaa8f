"""Which URLs and addresses outgoing requests may have; no network is used here."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signup.core.addresses import Allowance, OutboundRefused, check_addresses, check_url, is_public, parse_target

NOBODY = Allowance.parse([])

CLOSED = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "0.0.0.0", "0.1.2.3"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1"),
    *("198.18.0.1", "198.51.100.7", "203.0.113.7", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    "255.255.255.255",
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:10.0.0.1"),
    *("64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2001:20::1", "3fff::1", "5f00::1", "100::1"),
    *("fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%2", "fec0::1", "feff::1", "ff02::1", "ff0e::1"),
    *("2a00:1450:4001::5efe:a00:1", "2a00:1450:4001::200:5efe:a00:1"),
]
OPEN = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "2a00:1450:4001:81b::200e",
    "2606:4700::1111",
]


@pytest.mark.req("W34")
@pytest.mark.parametrize("text", CLOSED)
def test_an_address_is_closed_when_it_is_not_global_or_carries_another(text):
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", OPEN)
def test_an_address_is_public_when_everybody_may_reach_it(text):
    assert is_public(ip_address(text))


@given(st.ip_addresses())
def test_nothing_is_public_when_the_standard_library_calls_it_not_global(address):
    assert address.is_global or not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_never_reached_when_a_relay_would_unpack_it(inner):
    number = int(inner)
    relays = (0, 0xFFFF << 32, 0xFFFF << 48, 0x64FF9B << 96, 0x64FF9B0001 << 80)
    for relay in relays:
        assert not is_public(IPv6Address(relay | number))
    assert not is_public(IPv6Address((0x2002 << 112) | (number << 80)))
    assert not is_public(IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)))


# --- URLs


def refusal(url: str, allowance: Allowance = NOBODY) -> str:
    with pytest.raises(OutboundRefused) as caught:
        check_url(url, allowance)
    assert caught.value.errors == [{"field": "url", "code": caught.value.code, "message": caught.value.detail}]
    return caught.value.code


@pytest.mark.req("W34")
@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7f.1",
            "0X7F.0.0.1",
        ),
        *("0177.0.0.1", "0x7f.0x0.0x0.0x1", "00000177.0.0.1", "0", "0.0.0.0", "10.1", "0xa9fea9fe", "2852039166"),
        *("0251.0376.0251.0376", "192.168.257", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
        *("[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00:ec2::254]"),
        *("localhost", "LOCALHOST", "localhost.", "api.localhost"),
    ],
)
@pytest.mark.parametrize("rest", ["", "/", ":8443/x?y=z"])
def test_a_url_is_refused_when_it_spells_out_a_closed_address(host, rest):
    assert refusal(f"https://{host}{rest}") == "address"


@pytest.mark.req("W38")
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "scheme"),
        ("http://8.8.8.8/", "scheme"),
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.com/", "scheme"),
        ("unix://run/x.sock", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("//example.com/", "scheme"),
        ("example.com", "scheme"),
        ("https:example.com", "scheme"),
        ("", "scheme"),
        ("https://user:pw@example.com/", "userinfo"),
        ("https://user@example.com/", "userinfo"),
        ("https://@example.com/", "userinfo"),
        ("https://example.com@10.0.0.1/", "userinfo"),
        ("https://example.com/\r\nX: y", "control"),
        ("https://example.com/\x00", "control"),
        ("https://example.com/\x7f", "control"),
        ("https://example.com/a b", "control"),
        ("https://example.com/\u2028", "control"),
        ("https://example.com/\x85", "control"),
        ("https://example.com/\u202e", "control"),
        (" https://example.com/", "control"),
        ("https://example.com\n", "control"),
        ("https://example.com\\@10.0.0.1/", "control"),
        ("https://", "host"),
        ("https:///path", "host"),
        ("https://:443/", "host"),
        ("https://exa%6dple.com/", "host"),
        ("https://127.0.0.1%2f@x/", "userinfo"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://[::1/", "host"),
        ("https://[1.2.3.4]/", "host"),
        ("https://1.2.3.4.5/", "host"),
        ("https://256.256.256.256/", "host"),
        ("https://08.8.8.8/", "host"),
        ("https://example.0x/", "host"),
        ("https://a..example.com/", "host"),
        ("https://.example.com/", "host"),
        ("https://-a.example.com/", "host"),
        (f"https://{'a' * 64}.example.com/", "host"),
        (f"https://{'a.' * 140}example.com/", "host"),
        ("https://\uff11\uff12\uff17.0.0.1/", "host"),
        ("https://example\u3002com:x/", "host"),
        ("https://example.com:0/", "port"),
        ("https://example.com:25/", "port"),
        ("https://example.com:6667/", "port"),
        ("https://example.com:65536/", "host"),
        ("https://example.com:x/", "host"),
        ("https://example.com:-1/", "host"),
        ("https://example.com:\u0663/", "host"),
        ("https://example.com/" + "a" * 2048, "length"),
    ],
)
def test_a_url_is_refused_when_its_form_is_not_allowed(url, code):
    assert refusal(url) == code


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "header"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("HTTPS://EXAMPLE.com.:443/a/../b?c=%2f#d", "example.com", 443, "/b?c=%2F", "example.com"),
        ("https://example.com:8443/x", "example.com", 8443, "/x", "example.com:8443"),
        ("https://example.com:/x", "example.com", 443, "/x", "example.com"),
        ("https://müller.de/ä", "xn--mller-kva.de", 443, "/%C3%A4", "xn--mller-kva.de"),
        ("https://a_b.example/@c", "a_b.example", 443, "/@c", "a_b.example"),
        ("https://134744072/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://[2606:4700:0::1111]:8443/", "2606:4700::1111", 8443, "/", "[2606:4700::1111]:8443"),
    ],
)
def test_a_url_is_taken_apart_when_its_form_is_fine(url, host, port, path, header):
    target = parse_target(url, NOBODY)
    assert (target.host, target.port, target.path, target.host_header) == (host, port, path, header)


@given(st.text(max_size=80))
def test_every_text_is_accepted_or_refused_when_it_is_checked(text):
    for url in (text, "https://" + text, "https://example.com" + text):
        try:
            target = parse_target(url, NOBODY)
        except OutboundRefused:
            continue
        assert target.host.isascii()
        assert target.path.startswith("/")
        assert target.path.isascii()
        assert target.path.isprintable()


# --- allowance


@pytest.mark.req("W36")
@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0/8",
        "fd00::/129",
        "::1%lo",
        "a b",
        "",
        "*.intern",
        "http://crm",
        "crm:80",
        "127.1",
        "-a",
    ],
)
def test_an_allowance_names_the_entry_when_it_is_bad(entry):
    with pytest.raises(ValueError) as caught:
        Allowance.parse(["10.0.0.0/8", entry])
    assert repr(entry) in str(caught.value)


@pytest.mark.req("W36")
def test_a_closed_target_is_allowed_when_the_operator_lists_it():
    allowance = Allowance.parse(["10.1.0.0/16", " 127.0.0.1 ", "fd12::/16", "CRM.intern."])
    for url in (
        *("https://10.1.2.3/", "http://10.1.2.3:8080/", "http://127.1/", "https://[fd12::7]/", "http://crm.intern/"),
        # A name may turn out to be allowed when it is resolved, so it is decided then.
        *("http://else.intern/", "http://localhost:8000/"),
    ):
        check_url(url, allowance)
    for url in ("https://10.2.0.1/", "http://127.0.0.2/", "https://[fd13::7]/", "https://[::ffff:127.0.0.1]/"):
        assert refusal(url, allowance) == "address"
    assert refusal("http://8.8.8.8/", allowance) == "scheme"


@pytest.mark.req("W36")
def test_http_to_other_names_is_refused_when_only_hosts_are_allowed():
    allowance = Allowance.parse(["crm.intern"])
    check_url("http://crm.intern/", allowance)
    assert refusal("http://crm.intern.example.com/", allowance) == "scheme"
    assert refusal("http://sub.crm.intern/", allowance) == "scheme"


@pytest.mark.req("W36")
@pytest.mark.parametrize(
    ("url", "answers", "entries", "code"),
    [
        ("https://a.example/", ["8.8.8.8", "2606:4700::1111"], [], None),
        ("https://a.example/", ["8.8.8.8", "10.0.0.1"], [], "address"),
        ("https://a.example/", ["10.0.0.1", "8.8.8.8"], [], "address"),
        ("https://a.example/", ["8.8.8.8", "::ffff:127.0.0.1"], [], "address"),
        ("https://a.example/", ["8.8.8.8", "fe80::1%eth0"], [], "address"),
        ("https://a.example/", ["8.8.8.8", "10.0.0.1"], ["10.0.0.0/8"], None),
        ("https://a.example/", ["10.0.0.1"], ["10.0.0.2"], "address"),
        ("https://a.example/", ["10.0.0.1", "fd00::1"], ["a.example"], None),
        ("http://a.example/", ["10.0.0.1"], ["10.0.0.0/8"], None),
        ("http://a.example/", ["8.8.8.8"], ["10.0.0.0/8"], "scheme"),
        ("http://a.example/", ["8.8.8.8", "10.0.0.1"], ["10.0.0.0/8"], "scheme"),
        ("https://a.example/", ["0.0.0.0"], ["a.example", "0.0.0.0/0"], "address"),
        ("https://a.example/", ["224.0.0.1"], ["a.example", "0.0.0.0/0"], "address"),
        ("https://a.example/", ["255.255.255.255"], ["a.example", "0.0.0.0/0"], "address"),
        ("https://a.example/", ["::"], ["a.example", "::/0"], "address"),
    ],
)
def test_answers_are_refused_when_any_of_them_is_not_allowed(url, answers, entries, code):
    allowance = Allowance.parse(entries)
    target = parse_target(url, allowance)
    if code is None:
        assert check_addresses(target, answers, allowance) == [ip_address(answer) for answer in answers]
        return
    with pytest.raises(OutboundRefused) as caught:
        check_addresses(target, answers, allowance)
    assert caught.value.code == code
    # The message must not tell whoever may save a URL what the inner network looks like.
    assert not any(answer in str(caught.value) for answer in answers)


def test_a_literal_keeps_its_type_when_it_is_written_oddly():
    assert parse_target("https://0x08080808/", NOBODY).literal == IPv4Address("8.8.8.8")
