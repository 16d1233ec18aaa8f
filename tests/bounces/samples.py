"""Mails that come back, made as mail servers make them."""

from __future__ import annotations


def dsn(
    message_id: str,
    *,
    status: str = "5.1.1",
    action: str = "failed",
    to: str = "bounce@beispiel.example",
    recipient: str = "somebody@else.example",
    own_id: str = "<dsn-1@mx.kunde.example>",
    quoted: str = "message/rfc822",
) -> bytes:
    """A report as Postfix writes it.

    Rule: RFC 3464.
    """
    return f"""Return-Path: <>
Received: by mx.kunde.example (Postfix)
Date: Mon, 23 Nov 2026 09:20:00 +0000 (UTC)
From: MAILER-DAEMON@mx.kunde.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: {to}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary="EB4F35A0C2.1700000000/mx.kunde.example"
Message-Id: {own_id}

This is a MIME-encapsulated message.

--EB4F35A0C2.1700000000/mx.kunde.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.kunde.example.
I'm sorry to have to inform you that your message could not be delivered.

--EB4F35A0C2.1700000000/mx.kunde.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.kunde.example
X-Postfix-Queue-ID: EB4F35A0C2
Arrival-Date: Mon, 23 Nov 2026 09:14:02 +0000 (UTC)

Final-Recipient: rfc822; {recipient}
Original-Recipient: rfc822;{recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 {status} no such person

--EB4F35A0C2.1700000000/mx.kunde.example
Content-Description: Undelivered Message
Content-Type: {quoted}

Message-ID: {message_id}
From: Beispiel GmbH <news@beispiel.example>
Subject: Please confirm

what was written

--EB4F35A0C2.1700000000/mx.kunde.example--
""".replace("\n", "\r\n").encode()


def arf(message_id: str, *, kind: str = "abuse", return_path: str = "<news@beispiel.example>") -> bytes:
    """A complaint as a feedback loop sends it, with the recipient blacked out.

    Rule: RFC 5965.
    """
    return f"""From: <feedback@isp.example>
Date: Mon, 23 Nov 2026 10:00:00 +0000
Subject: FW: Please confirm
To: <abuse@beispiel.example>
Message-ID: <arf-1@isp.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
 boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP 192.0.2.1.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: {return_path}
Original-Rcpt-To: <redacted@isp.example>
Received-Date: Mon, 23 Nov 2026 09:14:04 +0000
Source-IP: 192.0.2.1

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

From: <news@beispiel.example>
To: <redacted@isp.example>
Subject: Please confirm
Message-ID: {message_id}

what was written
--part1_13d.2e68ed54_boundary--
""".replace("\n", "\r\n").encode()


def mail(to: str, *, subject: str = "unsubscribe", own_id: str = "<m1@mail.example>", **headers: str) -> bytes:
    """A mail from a person, or from the mail client for them."""
    more = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return (
        (
            f"From: Anna <anna@kunde.example>\nTo: {to}\nSubject: {subject}\nMessage-ID: {own_id}\n{more}\n"
            "This message was automatically generated.\n"
        )
        .replace("\n", "\r\n")
        .encode()
    )
