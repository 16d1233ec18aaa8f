"""Sends mails the way Flask-Mail's handbook does: a Message for each, each over a connection of its own.

No queue, no evidence, nothing written: only building and handing over. Arguments: port and number of mails.
"""

from __future__ import annotations

import sys

from flask import Flask
from flask_mail import Mail, Message

# As long as a confirmation of the demo form, with a link that differs in each mail.
TEXT = "Bitte bestaetigen Sie Ihre Anmeldung mit diesem Link, er gilt sieben Tage.\r\n" * 14
HTML = "<p style='margin:0 0 16px'>Bitte bestaetigen Sie Ihre Anmeldung mit diesem Link.</p>\r\n" * 48


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    app = Flask(__name__)
    app.config.update(MAIL_SERVER="127.0.0.1", MAIL_PORT=port)
    mail = Mail(app)
    with app.app_context():
        for number in range(count):
            link = f"https://signup.example/confirm/{number:066d}"
            mail.send(
                Message(
                    "Bitte bestätigen Sie Ihre Anmeldung",
                    [f"n{number}@example.org"],
                    body=f"{TEXT}{link}\r\n",
                    html=f"{HTML}<a href='{link}'>{link}</a>\r\n",
                    sender=("Beispiel GmbH", "post@beispiel.example"),
                )
            )


if __name__ == "__main__":
    main()
