import smtplib
import ssl
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate
from tests.support.smtp import ScriptedSmtp, running_smtp

# A lone dot at a line's start, 8-bit text and trailing spaces are what servers and clients get wrong.
MESSAGE = "Subject: Grüße\r\n\r\n.dot first  \r\nsecond line\r\n".encode()


def _client(server: ScriptedSmtp, timeout: float = 10) -> smtplib.SMTP:
    return smtplib.SMTP(server.host, server.port, timeout=timeout)


def _send(server: ScriptedSmtp, *to: str) -> None:
    with _client(server) as client:
        client.sendmail("from@example.org", list(to) or ["a@example.org"], MESSAGE, ["BODY=8BITMIME"])


def test_the_exact_bytes_are_recorded_when_a_message_is_accepted(smtp_server: ScriptedSmtp) -> None:
    _send(smtp_server, "a@example.org", "b@example.org")
    (message,) = smtp_server.wait()
    assert message.content == MESSAGE
    assert message.mail_from == "from@example.org"
    assert message.rcpt_tos == ("a@example.org", "b@example.org")
    assert not message.tls


def test_the_queue_id_is_in_the_reply_when_a_message_is_accepted(smtp_server: ScriptedSmtp) -> None:
    with _client(smtp_server) as client:
        client.ehlo()
        client.mail("from@example.org")
        client.rcpt("a@example.org")
        code, text = client.data(MESSAGE)
    assert (code, text.decode()) == (250, f"2.0.0 Ok: queued as {smtp_server.wait()[0].queue_id}")


def test_two_messages_share_a_session_when_the_client_reuses_its_connection(smtp_server: ScriptedSmtp) -> None:
    with _client(smtp_server) as client:
        client.sendmail("from@example.org", "a@example.org", MESSAGE)
        client.sendmail("from@example.org", "b@example.org", MESSAGE)
    first, second = smtp_server.wait(2)
    assert first.session == second.session
    assert first.queue_id != second.queue_id


def test_the_address_is_refused_when_the_script_says_so(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.refuse_rcpt.add("b@example.org")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        _send(smtp_server, "b@example.org")
    assert refused.value.recipients["b@example.org"][0] == 550
    assert smtp_server.received == []


def test_a_message_is_accepted_at_the_third_try_when_greylisted_twice(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.greylist = 2
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            _send(smtp_server)
        assert refused.value.recipients["a@example.org"][0] == 451
    _send(smtp_server)
    assert len(smtp_server.wait()) == 1


def test_nothing_is_recorded_when_the_connection_drops_in_the_middle(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.drop_in_data = 1
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        _send(smtp_server)
    assert smtp_server.received == []
    _send(smtp_server)
    assert len(smtp_server.wait()) == 1


def test_the_message_is_recorded_when_only_the_reply_is_lost(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.drop_after_data = 1
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        _send(smtp_server)
    assert len(smtp_server.wait()) == 1


def test_the_client_runs_into_its_time_out_when_the_server_hangs(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.hang_in_data = True
    with _client(smtp_server, timeout=0.3) as client, pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
        client.sendmail("from@example.org", "a@example.org", MESSAGE)
    smtp_server.behaviour.hang_at_greeting = True
    with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
        _client(smtp_server, timeout=0.3)


def test_another_reply_is_given_when_the_script_names_one(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.data_reply = "554 5.7.1 looks like spam"
    with pytest.raises(smtplib.SMTPDataError) as error:
        _send(smtp_server)
    assert error.value.smtp_code == 554


def test_starttls_works_when_the_client_trusts_the_authority(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with running_smtp(starttls=certificate.context()) as server, _client(server) as client:
        with pytest.raises(smtplib.SMTPException):
            client.sendmail("from@example.org", "a@example.org", MESSAGE)
        client.starttls(context=ssl.create_default_context(cafile=str(certificate.trust_file)))
        client.sendmail("from@example.org", "a@example.org", MESSAGE)
        assert server.wait()[0].tls


@pytest.mark.parametrize(
    "wrong",
    [{"self_signed": True}, {"names": ("elsewhere.example",)}, {"expired": True}],
    ids=["self-signed", "other name", "expired"],
)
def test_a_verifying_client_refuses_when_the_certificate_is_wrong(tmp_path: Path, wrong: dict[str, object]) -> None:
    certificate = make_certificate(tmp_path, **wrong)  # type: ignore[arg-type]
    trust = None if "self_signed" in wrong else str(certificate.trust_file)
    context = ssl.create_default_context(cafile=trust)
    with running_smtp(starttls=certificate.context()) as server, _client(server) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=context)
        assert server.received == []


def test_implicit_tls_works_when_asked_for(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate.trust_file))
    with (
        running_smtp(implicit_tls=certificate.context()) as server,
        smtplib.SMTP_SSL("127.0.0.1", server.port, timeout=10, context=context) as client,
    ):
        client.sendmail("from@example.org", "a@example.org", MESSAGE)
        assert server.wait()[0].tls


def test_mail_is_taken_only_after_login_when_one_is_set() -> None:
    with running_smtp(login=("me", "pass")) as server:
        with pytest.raises(smtplib.SMTPSenderRefused):
            _send(server)
        with _client(server) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("me", "wrong")
            client.login("me", "pass")
            client.sendmail("from@example.org", "a@example.org", MESSAGE)
        assert len(server.wait()) == 1


def test_connections_are_refused_until_it_comes_up_again_when_it_is_down(smtp_server: ScriptedSmtp) -> None:
    smtp_server.go_down()
    with pytest.raises(ConnectionRefusedError):
        _client(smtp_server)
    smtp_server.come_up()
    _send(smtp_server)
    assert len(smtp_server.wait()) == 1


def test_a_mail_is_known_as_unanswered_when_its_answer_got_lost(smtp_server: ScriptedSmtp) -> None:
    smtp_server.behaviour.drop_after_data = 1
    with pytest.raises(smtplib.SMTPServerDisconnected):
        _send(smtp_server)
    _send(smtp_server)
    assert smtp_server.unanswered == smtp_server.wait(2)[:1]
