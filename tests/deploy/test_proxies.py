"""Behind the shipped proxy settings the right address arrives, and no log holds a link or an address."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.proxies import HOST, NAMES, Proxy, running_proxy
from tests.support.ports import free_port
from tests.support.servers import Service, running_service
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

TOKEN = "Zm9yZ2VkLXRva2VuLXRoYXQtbXVzdC1ub3QtYmUtc2Vlbg"
FORM = "application/x-www-form-urlencoded"
EMAIL = "anna@kunde.example"
VISITOR = "127.0.0.9"
LINKS = (
    f"/confirm/{TOKEN}",
    f"/code/{TOKEN}",
    f"/not-me/{TOKEN}",
    f"/unsubscribe/{TOKEN}",
    f"/unsubscribe/{TOKEN}?from=mail",
    f"/preferences/{TOKEN}",
    f"/privacy/session/{TOKEN}",
    f"/f/news/pending/{TOKEN}",
    f"/%63onfirm/{TOKEN}",
    f"/confirm%2F{TOKEN}",
    f"//confirm/{TOKEN}",
    f"/f/../confirm/{TOKEN}",
    f"/f/news?token={TOKEN}",
    f"/api/v1/contacts?email={EMAIL}",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, furnish: Callable[[Service], None]) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    settings = {"SIGNUP_TRUSTED_PROXIES": "1", "PUBLIC_URL": f"https://{HOST}"}
    with running_service(folder, workers=0, **settings) as running:
        furnish(running)
        yield running


@pytest.fixture(scope="module", params=NAMES)
def proxy(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    upstream = int(service.environ["PORT"])
    with running_proxy(request.param, tmp_path_factory.mktemp(request.param), upstream) as running:
        yield running


def _key(service: Service) -> str:
    made = service.flask("api-key", "create", "tests", "--scope", "contacts.read", "--scope", "evidence.read")
    return f"Bearer {made.stdout.split()[-1]}"


@pytest.mark.req("E4")
def test_the_proof_holds_the_visitors_address_when_a_header_lies(proxy: Proxy, service: Service) -> None:
    email = f"{proxy.name}@kunde.example"
    form = {"email": email, "purpose": "news"}
    answer = proxy.request("POST", "/f/news", form, source=VISITOR, X_Forwarded_For="198.51.100.66, 10.0.0.1")
    assert answer.status == http.client.SEE_OTHER, answer.text
    key = _key(service)
    found = json.loads(proxy.request("GET", f"/api/v1/contacts?email={email}", Authorization=key).text)
    ident = found["items"][0]["id"]
    evidence = proxy.request("GET", f"/api/v1/contacts/{ident}/evidence", Authorization=key).text
    assert f'"{VISITOR}"' in evidence
    assert "forwarded by 1 trusted proxies" in evidence
    assert "198.51.100.66" not in evidence


def test_no_log_holds_a_link_or_an_address_when_the_service_answers(proxy: Proxy) -> None:
    before = proxy.logs().count("\n")
    referrer = f"https://{HOST}/confirm/{TOKEN}"
    for path in LINKS:
        proxy.request("GET", path, source=VISITOR, Referer=referrer)
        proxy.request("POST", path, {"nonce": TOKEN, "email": EMAIL}, source=VISITOR, Referer=referrer, Cookie=TOKEN)
    wait_for(lambda: proxy.logs().count("\n") >= before + 2 * len(LINKS), describe="a line for each request")
    _nothing_told(proxy)


@pytest.mark.parametrize("name", NAMES)
def test_no_log_holds_a_link_or_an_address_when_the_service_is_away(name: str, tmp_path: Path) -> None:
    with running_proxy(name, tmp_path, free_port()) as proxy:
        for path in LINKS:
            answer = proxy.request("GET", path, source=VISITOR)
            assert answer.status in (http.client.BAD_GATEWAY, http.client.BAD_REQUEST, http.client.NOT_FOUND)
        wait_for(lambda: "502" in proxy.logs(), describe="what became of it")
        _nothing_told(proxy)


def _nothing_told(proxy: Proxy) -> None:
    logs = proxy.logs()
    assert [word for word in (TOKEN, TOKEN[:12], EMAIL, VISITOR) if word in logs] == [], logs
    assert "/confirm/***" in logs


def test_plain_http_leads_to_tls_with_its_method_when_posted(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.plain_port, timeout=10)
    connection.request("POST", f"/unsubscribe/{TOKEN}", "List-Unsubscribe=One-Click", {"Host": HOST})
    answer = connection.getresponse()
    connection.close()
    assert answer.status == http.client.PERMANENT_REDIRECT
    assert str(answer.headers["Location"]).startswith(f"https://{HOST}")
    assert TOKEN not in proxy.logs()


def test_pages_know_that_they_came_by_tls_when_proxied(proxy: Proxy) -> None:
    answer = proxy.request("GET", "/f/news")
    assert answer.status == http.client.OK
    assert "Strict-Transport-Security" in answer.headers
    assert "Content-Encoding" not in answer.headers


def test_a_huge_body_is_refused_when_posted(proxy: Proxy) -> None:
    answer = proxy.request("POST", "/f/news", b"email=" + b"x" * 5_000_000, Content_Type=FORM)
    # Caddy hands a body on while it comes, so it may find the connection ended before it has read the answer.
    refused = {http.client.REQUEST_ENTITY_TOO_LARGE} | ({http.client.BAD_GATEWAY} if proxy.name == "caddy" else set())
    assert answer.status in refused


def test_metrics_stay_inside_when_asked_through_the_proxy(proxy: Proxy) -> None:
    assert proxy.request("GET", "/metrics").status == http.client.FORBIDDEN
