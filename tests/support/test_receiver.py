import http.client
import ssl
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.support.certificates import make_certificate
from tests.support.receiver import Answer, Receiver, redirect, retry_after, running_receiver


def _connect(receiver: Receiver, timeout: float = 10) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=timeout)


def test_method_path_headers_and_bytes_are_recorded_when_a_request_comes(receiver: Receiver) -> None:
    connection = _connect(receiver)
    connection.request("POST", "/in?x=1", body=b'{"a": "\xc3\xa9"}\r\n', headers={"Webhook-Id": "msg_1"})
    assert connection.getresponse().status == 200
    connection.close()
    (request,) = receiver.wait()
    assert (request.method, request.path, request.body) == ("POST", "/in?x=1", b'{"a": "\xc3\xa9"}\r\n')
    assert request.headers["webhook-id"] == "msg_1"


def test_answers_come_in_order_when_scripted() -> None:
    with running_receiver(Answer(500), retry_after("7"), redirect("/other"), Answer(204)) as receiver:
        connection = _connect(receiver)
        seen = []
        for _ in range(5):
            connection.request("POST", "/", body=b"x")
            response = connection.getresponse()
            response.read()
            seen.append((response.status, response.headers["Retry-After"], response.headers["Location"]))
        connection.close()
    assert seen == [(500, None, None), (429, "7", None), (302, None, "/other"), (204, None, None), (200, None, None)]


def test_the_body_comes_byte_by_byte_when_dripping() -> None:
    with running_receiver(Answer(200, body=b"abcd", drip_seconds=0.05)) as receiver:
        started = time.monotonic()
        with urllib.request.urlopen(receiver.url, timeout=10) as response:
            assert response.read() == b"abcd"
        assert time.monotonic() - started >= 0.15


def test_the_headers_come_byte_by_byte_when_dripping() -> None:
    with running_receiver(Answer(200, body=b"ok", drip_headers_seconds=0.002)) as receiver:
        started = time.monotonic()
        with urllib.request.urlopen(receiver.url, timeout=10) as response:
            assert response.read() == b"ok"
        # A status line, Server, Date and Content-Length are more than 100 bytes.
        assert time.monotonic() - started >= 0.2


def test_the_client_runs_into_its_time_out_when_the_receiver_hangs() -> None:
    with running_receiver(Answer(hang=True)) as receiver:
        connection = _connect(receiver, timeout=0.3)
        connection.request("GET", "/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        assert len(receiver.wait()) == 1


def test_the_body_has_no_end_when_endless() -> None:
    with running_receiver(Answer(endless=True)) as receiver:
        connection = _connect(receiver)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert len(response.read(1_000_000)) == 1_000_000
        response.close()
        connection.close()


def test_tls_works_when_the_client_trusts_the_authority(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate.trust_file))
    with (
        running_receiver(tls=certificate.context()) as receiver,
        urllib.request.urlopen(receiver.url, timeout=10, context=context) as response,
    ):
        assert response.status == 200


def test_an_error_status_reaches_the_client_when_scripted() -> None:
    with running_receiver(Answer(410, body=b"gone")) as receiver:
        with pytest.raises(HTTPError) as error:
            urllib.request.urlopen(receiver.url, timeout=10)
        assert (error.value.code, error.value.read()) == (410, b"gone")
        error.value.close()


def test_connections_are_refused_until_it_comes_up_again_when_it_is_down() -> None:
    with running_receiver() as receiver:
        receiver.go_down()
        with pytest.raises(ConnectionRefusedError):
            _connect(receiver).request("GET", "/")
        receiver.come_up()
        with urllib.request.urlopen(receiver.url, timeout=10) as response:
            assert response.status == 200
