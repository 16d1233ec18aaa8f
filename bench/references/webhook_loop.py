"""Posts signed bodies over one reused connection of http.client. Nothing is read from or written to a database.

Arguments: port and number of posts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import sys
import time

# As long as the payload of a confirmed subscription.
BODY = b'{"data":"' + b"x" * 1400 + b'"}'


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number in range(count):
        at = int(time.time())
        signed = hmac.digest(b"secret" * 5, f"msg_{number}.{at}.".encode() + BODY, hashlib.sha256)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": f"msg_{number}",
            "webhook-timestamp": str(at),
            "webhook-signature": "v1," + base64.b64encode(signed).decode(),
        }
        connection.request("POST", "/crm", BODY, headers)
        connection.getresponse().read()


if __name__ == "__main__":
    main()
