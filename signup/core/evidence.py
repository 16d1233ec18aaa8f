"""Settings of the sealed log: how often it is sealed, and who stamps the time on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from signup.core.addresses import Allowance, OutboundRefused, check_url

SETTINGS: dict[str, str] = {
    "SIGNUP_EVIDENCE_KEY": "Ed25519 seed that signs evidence checkpoints",
    "SIGNUP_SEAL_SECONDS": "pause between two sealings of the log, 5 to 3600",
    "SIGNUP_TSA_URL": "RFC 3161 time stamping authority for checkpoints",
    "SIGNUP_TSA_CERTIFICATE": "PEM file of the authority's own certificate, and of former ones",
    "SIGNUP_TSA_ROOT": "PEM file of the certificates that the authority's own one is issued by",
    "SIGNUP_TSA_POLICY": "object identifier of the only policy whose time stamps are taken",
}

# A minute is what an operator could change unseen; less costs a signature and a time stamp each.
DEFAULT_SEAL_SECONDS = 60
SEAL_SECONDS = (5, 3600)
_OID = re.compile(r"[0-2](\.(0|[1-9]\d{0,9})){1,30}")
_PEM_BEGINS = "-----BEGIN"


@dataclass(frozen=True)
class TsaConfig:
    """A time stamping authority.

    Args:
        url: None when nothing new is stamped and what there is can still be checked.
        certificates: its own one, and former ones that older time stamps need.
        issuers: who issued those, up to a root.
        policy: the only policy that is taken; any if None.
    """

    url: str | None
    certificates: tuple[x509.Certificate, ...]
    issuers: tuple[x509.Certificate, ...] = ()
    policy: str | None = None


@dataclass(frozen=True)
class EvidenceConfig:
    """How the log is sealed."""

    seal_seconds: int = DEFAULT_SEAL_SECONDS
    tsa: TsaConfig | None = None


def told(config: EvidenceConfig) -> dict[str, str]:
    """The settings in words for the operator."""
    tsa = config.tsa
    names = ", ".join(item.subject.rfc4514_string() for item in tsa.certificates) if tsa else ""
    stamped = f"by {tsa.url} ({names})" if tsa and tsa.url else "no: SIGNUP_TSA_URL is not set"
    return {"log sealed": f"every {config.seal_seconds} s", "time stamps": stamped}


def read(
    text: Callable[[str], str | None], seal_seconds: int, allow: Sequence[str], problems: list[str]
) -> EvidenceConfig:
    """The settings; what is wrong with them is added to `problems`.

    Args:
        text: a setting by its name, or by the file that its name with _FILE points to.
        allow: what outgoing requests may reach though private.
    """
    url, policy = text("SIGNUP_TSA_URL"), text("SIGNUP_TSA_POLICY")
    certificates = _certificates("SIGNUP_TSA_CERTIFICATE", text, problems)
    issuers = _certificates("SIGNUP_TSA_ROOT", text, problems)
    if url:
        _check_url(url, allow, problems)
        if not text("SIGNUP_TSA_CERTIFICATE"):
            problems.append("SIGNUP_TSA_CERTIFICATE is missing: SIGNUP_TSA_URL needs the authority's certificate")
    if certificates and not any(item.subject == item.issuer for item in (*issuers, *certificates)):
        problems.append("SIGNUP_TSA_ROOT is missing: it must hold the root that the authority's certificate leads to")
    if policy and not _OID.fullmatch(policy):
        problems.append("SIGNUP_TSA_POLICY must be an object identifier such as 1.3.6.1.4.1.4146.2.3")
    tsa = TsaConfig(url, certificates, issuers, policy) if certificates else None
    return EvidenceConfig(seal_seconds, tsa)


def _check_url(url: str, allow: Sequence[str], problems: list[str]) -> None:
    try:
        check_url(url, Allowance.parse(allow))
    except OutboundRefused as refusal:
        problems.append(f"SIGNUP_TSA_URL: {refusal.detail}")
    except ValueError:
        pass  # the allowance is wrong, and is named for that already


def _certificates(name: str, text: Callable[[str], str | None], problems: list[str]) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file; with _FILE the setting holds what the file says."""
    value = text(name)
    if not value:
        return ()
    try:
        pem = value if value.startswith(_PEM_BEGINS) else Path(value).read_text(encoding="utf-8")
        return tuple(x509.load_pem_x509_certificates(pem.encode()))
    except OSError as error:
        problems.append(f"{name} cannot be read: {error.strerror}")
    except ValueError:
        problems.append(f"{name} must be a file of certificates in PEM")
    return ()
