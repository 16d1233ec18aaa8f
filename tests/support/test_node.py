from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from tests.support.node import run_node

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_javascript_reference_accepts_the_python_ones_signature_when_both_are_installed() -> None:
    at = datetime.now(UTC)
    body = '{"type": "endpoint.test", "name": "Jörg"}'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", at, body),
    }
    script = """
        const { Webhook } = require("standardwebhooks");
        const answer = new Webhook(input.secret).verify(input.body, input.headers);
        console.log(JSON.stringify(answer));
    """
    assert run_node(script, secret=SECRET, body=body, headers=headers) == {"type": "endpoint.test", "name": "Jörg"}
    forged = {**headers, "webhook-signature": "v1," + "A" * 43 + "="}
    with pytest.raises(AssertionError, match="No matching signature"):
        run_node(script, secret=SECRET, body=body, headers=forged)
