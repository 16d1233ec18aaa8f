"""Values that are valid once they exist."""

import pytest

from signup.core.errors import Invalid
from signup.core.values import ClientInfo, EmailAddress, mask, new_id, plain_ip


@pytest.mark.req("E4")
@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:5555", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_one_client_has_one_spelling(text, ip):
    assert plain_ip(text) == ip


@pytest.mark.parametrize(
    ("ip", "network"), [("203.0.113.7", "203.0.113.0/24"), ("2001:db8::17", "2001:db8::/64"), ("odd", "odd")]
)
def test_a_network_is_what_one_office_shares(ip, network):
    assert ClientInfo(ip, "connection", "").network == network


@pytest.mark.req("F23")
@pytest.mark.parametrize(
    ("typed", "normalised"),
    [
        (" anna@beispiel.de ", "anna@beispiel.de"),
        ("Anna.B+x@GMX.de", "Anna.B+x@gmx.de"),
        ("a@straße.de", "a@xn--strae-oqa.de"),
        ("a@x.test", "a@x.test"),
    ],
)
def test_an_address_is_kept_as_typed_and_as_compared(typed, normalised):
    address = EmailAddress.parse(typed)
    assert (address.typed, address.normalised) == (typed.strip(), normalised)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("", "required"),
        ("anna", "missing_at"),
        ("anna@", "invalid"),
        ("a@localhost", "invalid"),
        ("a@1.2.3.4", "invalid"),
        ("ä@x.de", "non_ascii_local"),
        ("a@b.de\r\nBcc: c@d.de", "invalid"),
        ("a" * 300 + "@b.de", "too_long"),
    ],
)
def test_what_cannot_be_an_address_says_why(typed, code):
    with pytest.raises(Invalid) as caught:
        EmailAddress.parse(typed)
    assert caught.value.errors[0]["code"] == code


def test_a_masked_address_shows_one_letter():
    assert mask("anna@beispiel.de") == "a•••@beispiel.de"


def test_ids_of_one_process_sort_in_the_order_they_were_made(now):
    made = [new_id("evt", now) for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert all("." not in ident for ident in made)
