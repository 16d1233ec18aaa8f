"""What the domain of an address says."""

from __future__ import annotations

import pytest

from signup.abuse import domains


@pytest.mark.req("A11")
def test_no_relay_counts_as_disposable_when_checked() -> None:
    relays = ["privaterelay.appleid.com", "duck.com", "mozmail.com", "relay.firefox.com", "x.mozmail.com"]
    relays += ["simplelogin.com", "aleeas.com", "slmail.me", "addy.io", "anonaddy.com", "anna.anonaddy.me"]
    assert [name for name in relays if domains.is_disposable(name)] == []
    for name in ("mailinator.com", "any.mailinator.com", "guerrillamail.com"):
        assert domains.is_disposable(name), name
    assert [name for name in domains.FREEMAIL if domains.is_disposable(name)] == []


@pytest.mark.req("A14")
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gmx.dee", "gmx.de"),
        ("gmx.d", "gmx.de"),
        ("gxm.de", "gmx.de"),
        ("wbe.de", "web.de"),
        ("t-onlin.de", "t-online.de"),
        ("t-online.d", "t-online.de"),
        ("tonline.de", "t-online.de"),
        ("freenet.ed", "freenet.de"),
        ("postoe.de", "posteo.de"),
        ("mailbox.og", "mailbox.org"),
        ("outlok.de", "outlook.de"),
        ("bluewin.hc", "bluewin.ch"),
        ("gmial.com", "gmail.com"),
        ("gmail.con", "gmail.com"),
        ("gmail.co", "gmail.com"),
        ("gogglemail.com", "googlemail.com"),
    ],
)
def test_a_slip_of_one_letter_is_seen_when_typed(typed: str, meant: str) -> None:
    assert domains.meant(typed) == meant


@pytest.mark.req("A14")
@pytest.mark.parametrize(
    "domain",
    [
        *("gmail.de", "gmx.net", "gmx.com", "gmx.at", "googlemail.com", "mail.com", "mail.de", "web.de", "email.de"),
        *("beispiel.de", "example.org", "firma-gmx.de", "x.gmx.de", "", "de"),
    ],
)
def test_nothing_is_suggested_when_a_domain_is_real_or_far_away(domain: str) -> None:
    assert domains.meant(domain) is None


def test_an_office_is_told_from_a_person_when_looked_at() -> None:
    assert domains.is_role("abuse@x.de")
    assert domains.is_role("postmaster+a@x.de")
    assert not domains.is_role("abuses@x.de")
    assert not domains.is_role("anna.postmaster@x.de")
