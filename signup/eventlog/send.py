"""Asking the time stamping authority: the only file of the log that uses the network."""

from __future__ import annotations

from signup.core import outbound
from signup.core.addresses import Allowance
from signup.core.config import Config
from signup.core.outbound import OutboundFailed, OutboundRefused
from signup.eventlog import tokens
from signup.eventlog.tokens import Stamp, TokenInvalid

TOTAL_SECONDS = 20.0
# An answer with its chain of certificates takes some ten kilobytes.
MAX_ANSWER_BYTES = 65_536


class Unstamped(Exception):
    """The authority gave no time stamp that may be believed; says why."""


def stamp(config: Config, note: bytes) -> Stamp:
    """The authority has put its time on this note, and the answer was checked.

    Raises:
        Unstamped: it has not.

    Rule: RFC 3161 2.4.1, 3.4 (by HTTP).
    """
    tsa = config.evidence.tsa
    if tsa is None or not tsa.url:
        raise Unstamped("SIGNUP_TSA_URL is not set")
    asked = tokens.request_for(note)
    try:
        reply = outbound.post(
            tsa.url,
            asked.as_bytes(),
            {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"},
            allowance=Allowance.parse(config.outbound_allow),
            total_seconds=TOTAL_SECONDS,
            max_body=MAX_ANSWER_BYTES,
        )
    except OutboundFailed as failure:
        raise Unstamped(f"the authority cannot be reached: {failure}") from failure
    except OutboundRefused as refusal:
        raise Unstamped(f"the authority may not be asked: {refusal.code}") from refusal
    if reply.status != 200:
        raise Unstamped(f"the authority answered {reply.status}")
    try:
        return tokens.checked(tsa, reply.body, note, asked)
    except TokenInvalid as invalid:
        raise Unstamped(f"the authority's time stamp is not good: {invalid}") from invalid
