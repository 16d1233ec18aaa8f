"""Time stamps of an authority: what to ask, and whether an answer may be believed. Knows no table and no network.

Rule: RFC 3161. The authority's certificate is pinned, so that no answer vouches for itself by what it brings along;
it has to be good at the time in the token, not today.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from rfc3161_client import (
    HashAlgorithm,
    TimeStampRequest,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from signup.core.evidence import TsaConfig
from signup.core.values import rfc3339

OPENSSL_SECONDS = 20
_UNSORTED = "InvalidSetOrdering"
_TOLD_TIME = re.compile(r"^Time stamp: (\w{3} +\d+ [\d:]+)(?:\.\d+)? (\d{4}) GMT$", re.MULTILINE)
_TOLD_POLICY = re.compile(r"^Policy OID: (\S+)$", re.MULTILINE)


class TokenInvalid(Exception):
    """The answer is no time stamp of this authority over this note. The message says why."""


@dataclass(frozen=True)
class Stamp:
    """A time stamp that was checked.

    Args:
        raw: the answer as it came, DER of a TimeStampResp; a file of it ends with `.tsr`.
        authority: SHA-256 of the certificate that signed it, in hex.
        good_until: the end of that certificate.
    """

    raw: bytes
    authority: str
    stamped_at: datetime
    good_until: datetime


def request_for(note: bytes) -> TimeStampRequest:
    """Asks for a time on the SHA-256 of the whole note, with a nonce that only one answer can carry."""
    return TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def anchors(tsa: TsaConfig | None) -> list[dict[str, str]]:
    """The certificates that time stamps of this log are checked with, as they are published."""
    return [
        {
            "sha256": fingerprint(item),
            "subject": item.subject.rfc4514_string(),
            "not_after": rfc3339(item.not_valid_after_utc),
        }
        for item in (tsa.certificates if tsa else ())
    ]


def checked(tsa: TsaConfig, raw: bytes, note: bytes, asked: TimeStampRequest | None = None) -> Stamp:
    """The answer is a time stamp of one of the pinned certificates over exactly this note.

    Args:
        asked: what was asked for, whose nonce the answer must carry; None for a token that was checked before.

    Raises:
        TokenInvalid: it is not.

    Rule: RFC 3161 2.2 (what a requester checks); RFC 5816 (the certificate is bound by its hash).
    """
    try:
        response = decode_timestamp_response(raw)
    except ValueError as error:
        if _UNSORTED not in str(error):
            raise TokenInvalid(f"the token cannot be read: {error}") from error
        # Some authorities do not sort their certificates as DER asks; OpenSSL reads them nevertheless.
        return _by_openssl(tsa, raw, note, asked, str(error))
    try:
        certificate = _signer(tsa, response, note, asked)
    except TokenInvalid:
        raise
    except Exception as error:
        # A stranger wrote the answer, and errors of several parsers come through the library.
        raise TokenInvalid(f"the token cannot be read: {error}") from error
    return Stamp(raw, fingerprint(certificate), response.tst_info.gen_time, certificate.not_valid_after_utc)


def _signer(
    tsa: TsaConfig, response: TimeStampResponse, note: bytes, asked: TimeStampRequest | None
) -> x509.Certificate:
    reason = "no certificate is pinned"
    for certificate in tsa.certificates:
        roots, between = _chain(certificate, tsa.issuers)
        verifier = VerifierBuilder(
            policy_id=x509.ObjectIdentifier(tsa.policy) if tsa.policy else None,
            tsa_certificate=certificate,
            roots=roots,
            intermediates=between,
            nonce=asked.nonce if asked else None,
        ).build()
        try:
            verifier.verify_message(response, note)
        except VerificationError as error:
            reason = str(error)
            continue
        return certificate
    raise TokenInvalid(reason)


def _chain(
    certificate: x509.Certificate, issuers: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """Roots and what stands between them and the certificate; one that issued itself is its own root."""
    roots = [item for item in (*issuers, certificate) if item.subject == item.issuer]
    return roots, [item for item in issuers if item not in roots]


def _by_openssl(tsa: TsaConfig, raw: bytes, note: bytes, asked: TimeStampRequest | None, reason: str) -> Stamp:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise TokenInvalid(f"the token cannot be read, and there is no openssl to try: {reason}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "answer").write_bytes(raw)
        (folder / "note").write_bytes(note)
        if asked:
            (folder / "asked").write_bytes(asked.as_bytes())
        told = _run([openssl, "ts", "-reply", "-in", f"{name}/answer", "-text"])
        stamped_at = _told_time(told, tsa.policy)
        over = ["-queryfile", f"{name}/asked"] if asked else ["-data", f"{name}/note"]
        for certificate in tsa.certificates:
            (folder / "pinned").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            # The pinned certificate itself is the anchor: whatever the token brings along is no reason to trust it.
            trust = ["-CAfile", f"{name}/pinned", "-partial_chain", "-attime", str(int(stamped_at.timestamp()))]
            try:
                _run([openssl, "ts", "-verify", "-in", f"{name}/answer", *over, *trust])
            except TokenInvalid as error:
                reason = str(error)
                continue
            return Stamp(raw, fingerprint(certificate), stamped_at, certificate.not_valid_after_utc)
    raise TokenInvalid(reason)


def _told_time(told: str, policy: str | None) -> datetime:
    time, found = _TOLD_TIME.search(told), _TOLD_POLICY.search(told)
    if time is None or found is None:
        raise TokenInvalid("the answer holds no time stamp")
    if policy and found[1] != policy:
        raise TokenInvalid("Policy ID mismatch")
    return datetime.strptime(f"{time[1]} {time[2]}", "%b %d %H:%M:%S %Y").replace(tzinfo=UTC)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=OPENSSL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TokenInvalid(f"openssl did not answer: {type(error).__name__}") from error
    if done.returncode:
        found = re.search(rb"Verify error:(.+)|error:[^:]*:[^:]*:[^:]*:([^:]+)", done.stderr)
        words = (found[1] or found[2]).decode("utf-8", "replace").strip() if found else "verification failed"
        raise TokenInvalid(f"openssl: {words}")
    return done.stdout.decode("utf-8", "replace")


def digest(raw: bytes) -> str:
    """How the log names a token."""
    return hashlib.sha256(raw).hexdigest()
