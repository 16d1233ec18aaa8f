"""A sender's DNS records, asked of a real name server: what is found, what is wrong, and which line mends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from signup.core.config import Config, ConfigError
from signup.core.db import reading, transaction
from signup.core.errors import Conflict
from signup.core.nameservers import NameServers
from signup.core.sending import Server
from signup.core.values import OPERATOR, utc_now
from signup.eventlog.kinds import EventType
from signup.forms import publishing
from signup.mail import alignment, dkim, senders, signing
from signup.mail.alignment import DkimRecord, Finding, Sender, Verdict
from signup.purposes import actions as purposes
from tests.conftest import Place, environment
from tests.guards.world import rows
from tests.support.nameserver import NameServer

FOUND, MISSING, WRONG, UNKNOWN = Verdict.FOUND, Verdict.MISSING, Verdict.WRONG, Verdict.UNKNOWN
DOMAIN, MAILER = "beispiel.example", "mail.beispiel.example"
KEYS = {name: dkim.generate(DOMAIN, "s1", name) for name in dkim.ALGORITHMS}
KEY = KEYS["rsa"]
SENDER = Sender(DOMAIN, DOMAIN, f"a:{MAILER}", DkimRecord(DOMAIN, dkim.record_name(KEY), dkim.record_text(KEY)))


@pytest.fixture
def ask(nameserver: NameServer) -> NameServers:
    return NameServers([Server("127.0.0.1", nameserver.port)])


def text(name: str, said: str) -> str:
    return f'{name}. IN TXT "{said}"'


def all_right(server: NameServer) -> None:
    server.put(text(DOMAIN, f"v=spf1 mx a:{MAILER} -all"))
    server.put(text(DOMAIN, "some-verification=123"))
    server.put(alignment.zone_line(dkim.record_name(KEY), dkim.record_text(KEY)))
    server.put(text(f"_dmarc.{DOMAIN}", "v=DMARC1; p=reject; rua=mailto:x@beispiel.example"))


def looked_up(ask: NameServers, record: str, sender: Sender = SENDER) -> Finding:
    return next(item for item in alignment.check(sender, ask) if item.record == record)


@pytest.mark.req("C6")
def test_nothing_is_to_be_done_when_every_record_is_right(nameserver: NameServer, ask: NameServers) -> None:
    all_right(nameserver)
    found = alignment.check(SENDER, ask)
    assert [(item.record, item.verdict, item.line) for item in found] == [
        ("spf", FOUND, ""),
        ("dkim", FOUND, ""),
        ("dmarc", FOUND, ""),
    ]
    assert alignment.passed(found)
    assert (f"s1._domainkey.{DOMAIN}", "TXT") in nameserver.asked


@pytest.mark.req("C6")
def test_the_printed_lines_are_all_that_is_missing_when_they_are_pasted(
    nameserver: NameServer, ask: NameServers
) -> None:
    found = alignment.check(SENDER, ask)
    assert [item.verdict for item in found] == [MISSING] * 3
    assert not alignment.passed(found)
    assert found[0].line == f'{DOMAIN}. IN TXT "v=spf1 a:{MAILER} ~all"'
    assert found[2].line == f'_dmarc.{DOMAIN}. IN TXT "v=DMARC1; p=none"'
    for item in found:
        nameserver.put(item.line)
    assert alignment.passed(alignment.check(SENDER, ask))


@pytest.mark.req("C6")
@pytest.mark.parametrize(
    ("record", "said", "line"),
    [
        ("v=spf1 -all", "is not in it", f"v=spf1 a:{MAILER} -all"),
        ("v=spf1 include:firewall.example ~all", "has no SPF records", None),
        ("v=spf1 ip4:192.0.2.0/24 -all", "is not in it", f"v=spf1 ip4:192.0.2.0/24 a:{MAILER} -all"),
        (f"v=spf1 a:{MAILER} +all", "lets everybody send", f"v=spf1 a:{MAILER} ~all"),
        (f"v=spf1 -all a:{MAILER}", "is not in it", f"v=spf1 a:{MAILER} -all"),
        (f"v=spf1 -a:{MAILER} ~all", "is not in it", f"v=spf1 -a:{MAILER} a:{MAILER} ~all"),
        ("v=spf1 redirect=none.example", "has no SPF records", None),
        ("v=spf1 " + "include:loop.example " * 11 + "-all", "more than 10 questions", None),
    ],
)
def test_the_spf_record_is_wrong_when_it_does_not_let_the_mail_server_send(
    nameserver: NameServer, ask: NameServers, record: str, said: str, line: str | None
) -> None:
    nameserver.put(text(DOMAIN, record))
    nameserver.put(text("loop.example", "v=spf1 include:loop.example -all"))
    nameserver.put(f"{MAILER}. IN A 198.51.100.7")
    found = looked_up(ask, "spf")
    assert found.verdict is WRONG
    assert said in found.text
    assert found.line == (text(DOMAIN, line) if line else "")
    if line:
        nameserver.zone[DOMAIN, "TXT"] = [f'"{line}"']
        # A term that was said against somebody stays; staff see it in the line.
        assert looked_up(ask, "spf").verdict is FOUND


@pytest.mark.req("C6")
@pytest.mark.parametrize(
    "record",
    [
        f"V=SPF1 A:{MAILER} -all",
        "v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 -all",
        "v=spf1 include:spf.provider.example -all",
        "v=spf1 redirect=spf.provider.example",
        "v=spf1 mx:list.example -all",
        "v=spf1 exists:%{i}.list.example include:spf.provider.example ?all",
    ],
)
def test_the_spf_record_is_right_when_the_mail_servers_addresses_may_send(
    nameserver: NameServer, ask: NameServers, record: str
) -> None:
    nameserver.put(text(DOMAIN, record))
    nameserver.put(text("spf.provider.example", "v=spf1 ip4:198.51.100.7 ip6:2001:db8::7 -all"))
    nameserver.put("list.example. IN MX 10 in.list.example.")
    for name in (MAILER, "in.list.example"):
        nameserver.put(f"{name}. IN A 198.51.100.7")
        nameserver.put(f"{name}. IN AAAA 2001:db8::7")
    found = looked_up(ask, "spf")
    assert (found.verdict, found.line) == (FOUND, "")


def test_one_record_takes_the_place_of_several_when_they_are_pasted(nameserver: NameServer, ask: NameServers) -> None:
    nameserver.put(text(DOMAIN, "v=spf1 mx -all"))
    nameserver.put(text(DOMAIN, "v=spf1 include:spf.provider.example ~all"))
    found = looked_up(ask, "spf")
    assert (found.verdict, "several" in found.text) == (WRONG, True)
    assert found.line == text(DOMAIN, f"v=spf1 include:spf.provider.example mx a:{MAILER} ~all")


@pytest.mark.req("C6")
def test_spf_does_not_count_when_mails_return_to_another_domain(nameserver: NameServer, ask: NameServers) -> None:
    all_right(nameserver)
    for domain in ("provider.example", "notbeispiel.example"):
        found = looked_up(ask, "spf", replace(SENDER, return_domain=domain))
        assert (found.verdict, "does not speak for beispiel.example" in found.text) == (WRONG, True)
    sub = replace(SENDER, return_domain=f"bounce.{DOMAIN}")
    nameserver.put(text(f"bounce.{DOMAIN}", f"v=spf1 a:{MAILER} -all"))
    assert looked_up(ask, "spf", sub).verdict is FOUND, "relaxed, a subdomain speaks for its parent"
    nameserver.zone[f"_dmarc.{DOMAIN}", "TXT"] = ['"v=DMARC1; p=none; aspf=s"']
    assert looked_up(ask, "spf", sub).verdict is WRONG


def test_nobody_is_called_right_when_it_is_not_known_which_server_sends(
    nameserver: NameServer, ask: NameServers
) -> None:
    all_right(nameserver)
    found = looked_up(ask, "spf", replace(SENDER, spf_term=""))
    assert (found.verdict, "SIGNUP_SENDER_SPF" in found.text, found.line) == (WRONG, True, "")


@pytest.mark.req("C6")
@pytest.mark.parametrize(
    ("records", "verdict", "said"),
    [
        (["v=DKIM1; k=rsa; p="], WRONG, "revoked"),
        ([dkim.record_text(KEYS["ed25519"])], WRONG, "another key"),
        ([dkim.record_text(dkim.generate(DOMAIN, "s1", "rsa"))], WRONG, "another key"),
        ([dkim.record_text(KEY), dkim.record_text(KEYS["ed25519"])], WRONG, "several"),
        (["something else"], MISSING, "no record"),
        ([dkim.record_text(KEY).replace("k=rsa; ", "t=s;")], FOUND, "s1"),
    ],
)
def test_the_dkim_record_is_held_against_the_key_that_signs(
    nameserver: NameServer, ask: NameServers, records: list[str], verdict: Verdict, said: str
) -> None:
    for record in records:
        nameserver.put(alignment.zone_line(dkim.record_name(KEY), record))
    found = looked_up(ask, "dkim")
    assert (found.verdict, said in found.text) == (verdict, True)
    if verdict is not FOUND:
        nameserver.zone.clear()
        nameserver.put(found.line)
        assert looked_up(ask, "dkim").verdict is FOUND


@pytest.mark.req("C6")
def test_a_signature_does_not_count_when_it_is_for_another_domain(nameserver: NameServer, ask: NameServers) -> None:
    all_right(nameserver)
    moved = replace(SENDER, domain="news.other.example", return_domain="news.other.example")
    found = looked_up(ask, "dkim", moved)
    assert (found.verdict, "make a key for the new sender" in found.text) == (WRONG, True)
    below = replace(SENDER, domain=f"news.{DOMAIN}")
    assert looked_up(ask, "dkim", below).verdict is FOUND
    nameserver.zone[f"_dmarc.{DOMAIN}", "TXT"] = ['"v=DMARC1; p=none; adkim=s"']
    assert looked_up(ask, "dkim", below).verdict is WRONG


def test_a_key_of_the_mail_server_is_enough_when_it_is_named(nameserver: NameServer, ask: NameServers) -> None:
    named = replace(SENDER, dkim=DkimRecord(DOMAIN, f"brevo1._domainkey.{DOMAIN}", ""))
    assert (looked_up(ask, "dkim", named).verdict, looked_up(ask, "dkim", named).line) == (MISSING, "")
    nameserver.put(f"brevo1._domainkey.{DOMAIN}. IN CNAME b1.provider.example.")
    nameserver.put(alignment.zone_line("b1.provider.example", dkim.record_text(KEY)))
    assert looked_up(ask, "dkim", named).verdict is FOUND
    unsigned = looked_up(ask, "dkim", replace(SENDER, dkim=None))
    assert (unsigned.verdict, "flask mail dkim-key" in unsigned.text) == (MISSING, True)


@pytest.mark.req("C6")
@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        (["v=DMARC1; p=none"], FOUND),
        (["v=DMARC1;p=quarantine;pct=20"], FOUND),
        (["v=DMARC1; rua=mailto:x@y.example"], WRONG),
        (["v=DMARC1; p=perhaps"], WRONG),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], WRONG),
        (["p=none"], MISSING),
    ],
)
def test_the_dmarc_record_needs_one_policy(
    nameserver: NameServer, ask: NameServers, records: list[str], verdict: Verdict
) -> None:
    for record in records:
        nameserver.put(text(f"_dmarc.{DOMAIN}", record))
    found = looked_up(ask, "dmarc")
    assert found.verdict is verdict
    assert found.line == ("" if verdict is FOUND else text(f"_dmarc.{DOMAIN}", "v=DMARC1; p=none"))


def test_the_policy_of_the_parent_counts_when_a_subdomain_has_none(nameserver: NameServer, ask: NameServers) -> None:
    nameserver.put(text(f"_dmarc.{DOMAIN}", "v=DMARC1; p=reject; sp=none"))
    nameserver.put(text("_dmarc.example", "v=DMARC1; p=none"))
    found = looked_up(ask, "dmarc", replace(SENDER, domain=f"a.b.{DOMAIN}"))
    assert (found.verdict, found.name) == (FOUND, f"_dmarc.{DOMAIN}")
    assert looked_up(ask, "dmarc", replace(SENDER, domain="other.example")).verdict is MISSING, "no top-level domain"


@pytest.mark.req("C6")
def test_nothing_is_claimed_when_no_name_server_answers(
    nameserver: NameServer, ask: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_right(nameserver)
    nameserver.broken.add(f"_dmarc.{DOMAIN}")
    found = {item.record: item for item in alignment.check(SENDER, ask)}
    assert found["dmarc"].verdict is UNKNOWN
    assert not alignment.passed(list(found.values()))
    monkeypatch.setattr("signup.core.nameservers.TOTAL_SECONDS", 0.3)
    nameserver.silent = True
    quiet = NameServers([Server("127.0.0.1", nameserver.port)])
    assert {item.verdict for item in alignment.check(SENDER, quiet)} == {UNKNOWN}


def test_names_are_not_asked_for_when_a_transaction_is_open(app: Flask, nameserver: NameServer) -> None:
    ask = NameServers([Server("127.0.0.1", nameserver.port)])
    with transaction(), pytest.raises(RuntimeError, match="inside a database transaction"):
        ask.txt(DOMAIN)
    assert nameserver.asked == []
    assert ask.txt(DOMAIN) == []


@pytest.mark.parametrize("name", ["", "a" * 64 + ".example", "a..example", "x" * 300])
def test_a_name_that_cannot_exist_has_no_records_when_asked_for(ask: NameServers, name: str) -> None:
    assert ask.txt(name) == []


class TestCommands:
    """The same by command, kept, and required where the operator says so."""

    @pytest.fixture
    def check_required(self) -> str:
        return "off"

    @pytest.fixture
    def settings(self, nameserver: NameServer, check_required: str) -> dict[str, str]:
        return {
            "SIGNUP_DNS_SERVERS": nameserver.address,
            "SIGNUP_SENDER_SPF": f"a:{MAILER}",
            "SIGNUP_SENDER_CHECK": check_required,
        }

    @pytest.fixture
    def controller(self, demo: SimpleNamespace, now: datetime) -> Any:
        """The demo with a key that is not in use yet."""
        with transaction() as session:
            signing.make(session, demo.controller, "s1", "rsa", now=now)
        return demo.controller

    def run(self, app: Flask, *words: str) -> Result:
        return app.test_cli_runner().invoke(args=list(words))

    def paste(self, server: NameServer, output: str) -> int:
        lines = [line.partition(":\t")[2] for line in output.splitlines() if line.startswith("\tput into the zone:")]
        for line in lines:
            server.put(line)
        return len(lines)

    @pytest.mark.req("C6")
    def test_the_lines_are_printed_and_the_state_is_kept_when_a_sender_is_checked(
        self, app: Flask, controller: Any, nameserver: NameServer
    ) -> None:
        assert "never checked" in self.run(app, "sender", "list").output
        first = self.run(app, "sender", "check", controller.slug)
        assert first.exit_code == 2, first.output
        assert first.stderr == "Error: 3 of 3 records are not right yet.\n"
        assert self.paste(nameserver, first.output) == 3
        assert "\tfailed\t20" in self.run(app, "sender", "list").output
        second = self.run(app, "sender", "check")
        assert second.exit_code == 0, second.output
        assert [line.split("\t")[:2] for line in second.output.splitlines()] == [
            ["spf", "found"],
            ["dkim", "found"],
            ["dmarc", "found"],
        ]
        listed = self.run(app, "sender", "list").output
        assert "\tpassed\t20" in listed
        assert listed.endswith("a check is not required\n")
        assert len(rows("event", kind=EventType.SENDER_CHECKED)) == 2
        assert len(rows("sender_check")) == 1

    def test_names_are_asked_for_only_when_the_configuration_is_checked_with_dns(
        self, app: Flask, controller: Any, nameserver: NameServer
    ) -> None:
        plain = self.run(app, "check-config")
        assert plain.exit_code == 0, plain.output
        assert f"sender             {controller.sender} never checked" in plain.output
        assert nameserver.asked == []
        asked = self.run(app, "check-config", "--dns")
        assert asked.exit_code == 2
        assert "are not right" in asked.stderr
        all_right_lines = [
            line.partition(":\t")[2] for line in asked.output.splitlines() if "put into the zone" in line
        ]
        for line in all_right_lines:
            nameserver.put(line)
        assert self.run(app, "check-config", "--dns").exit_code == 0

    @pytest.mark.req("C6")
    def test_a_form_is_published_without_any_check_when_none_is_required(
        self, app: Flask, controller: Any, nameserver: NameServer
    ) -> None:
        assert self.run(app, "form", "publish", "demo-de").exit_code == 0
        assert nameserver.asked == []

    @pytest.mark.req("C6")
    @pytest.mark.parametrize("check_required", ["required"])
    def test_a_form_is_not_published_before_its_sender_is_right_when_that_is_required(
        self, app: Flask, controller: Any, nameserver: NameServer, check_required: str
    ) -> None:
        form = ["form", "create", "x", "--title", "X", "--purpose", "product-news"]
        for words in (["form", "publish", "demo-de"], form):
            refused = self.run(app, *words)
            assert (refused.exit_code, "flask sender check beispiel" in refused.stderr) == (2, True)
        assert self.run(app, "check-config").exit_code == 2
        asked_by_publishing = list(nameserver.asked)
        assert asked_by_publishing == [], "only the check itself goes to the network"
        self.paste(nameserver, self.run(app, "sender", "check").output)
        assert "are not right" in self.run(app, "form", "publish", "demo-de").stderr
        assert self.run(app, "sender", "check").exit_code == 0
        assert self.run(app, "check-config").exit_code == 0
        for words in (["form", "publish", "demo-de"], form):
            assert self.run(app, *words).exit_code == 0
        with transaction() as session, pytest.raises(Conflict, match="long ago"):
            later = utc_now() + timedelta(days=31)
            publishing.publish(session, controller, "demo-de", actor=OPERATOR, now=later)

    @pytest.mark.req("C6")
    @pytest.mark.parametrize("check_required", ["required"])
    def test_another_sender_is_not_taken_before_it_is_right_when_that_is_required(
        self, app: Flask, controller: Any, nameserver: NameServer, check_required: str
    ) -> None:
        change = ["controller", "set", controller.slug, "--sender", "News@Other.example"]
        assert "--sender news@other.example" in self.run(app, *change).stderr
        made = self.run(app, "mail", "dkim-key", controller.slug, "--selector", "o1", "--domain", "Other.example")
        assert made.output.startswith("o1._domainkey.other.example. IN TXT"), made.output
        check = ["sender", "check", controller.slug, "--sender", "news@other.example"]
        assert self.paste(nameserver, self.run(app, *check).output) == 3
        assert self.run(app, *check).exit_code == 0
        assert self.run(app, *change).exit_code == 0
        with reading() as session:
            owner = purposes.find_controller(session, controller.slug)
            assert senders.standing(session, owner).passed
        assert self.run(app, "mail", "dkim-key", controller.slug, "--selector", "o1", "--use").exit_code == 0
        assert self.run(app, "sender", "check").exit_code == 0


@pytest.mark.parametrize(
    ("server", "public", "term"),
    [
        ("mail.provider.example", "https://news.beispiel.example", "a:mail.provider.example"),
        ("127.0.0.1", "https://news.beispiel.example", "a:news.beispiel.example"),
        ("postfix", "https://news.beispiel.example", "a:news.beispiel.example"),
        ("1.1.1.1", "https://news.beispiel.example", "ip4:1.1.1.1"),
        ("2606:4700::1111", "https://news.beispiel.example", "ip6:2606:4700::1111"),
        ("10.0.0.3", "http://127.0.0.1:8000", ""),
    ],
)
def test_the_spf_term_is_that_of_the_server_that_reaches_the_world(
    place: Place, server: str, public: str, term: str
) -> None:
    config = Config.from_env(environment(place.folder, place.url, MAIL_SERVER=server, PUBLIC_URL=public))
    assert senders.spf_term(config) == term


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGNUP_SENDER_CHECK", "perhaps"),
        ("SIGNUP_SENDER_SPF", "include:a.example -all"),
        ("SIGNUP_SENDER_SPF", "+all"),
        ("SIGNUP_SENDER_DKIM", "a b"),
        ("SIGNUP_DNS_SERVERS", "dns.example"),
        ("SIGNUP_DNS_SERVERS", "127.0.0.1:0"),
        ("SIGNUP_DNS_SERVERS", "127.0.0.1:x"),
    ],
)
def test_a_setting_is_refused_by_its_name_when_it_makes_no_sense(place: Place, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Config.from_env(environment(place.folder, place.url, **{name: value}))


def test_name_servers_are_taken_with_and_without_a_port_when_set(place: Place) -> None:
    text = "192.0.2.53, 192.0.2.54:5353, 2001:db8::53, [2001:db8::54]:5353"
    found = Config.from_env(environment(place.folder, place.url, SIGNUP_DNS_SERVERS=text)).sending.dns_servers
    assert [(server.host, server.port) for server in found] == [
        ("192.0.2.53", 53),
        ("192.0.2.54", 5353),
        ("2001:db8::53", 53),
        ("2001:db8::54", 5353),
    ]
