"""Notices of Amazon SNS: which are signed by Amazon for a topic of ours. Without database and network."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

from signup.core.intake import TOPIC

NOTIFICATION = "Notification"
CONFIRMATION = "SubscriptionConfirmation"
# What is signed, in this order.
SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
HASHES: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303 - Amazon's own choice of old
SIGNER = "sns.amazonaws.com"
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{8,64}\.pem")


class Refused(Exception):
    """It is not from Amazon, or not from a topic of ours. The text is safe to show."""


@dataclass(frozen=True)
class Envelope:
    """A notice as it came; nothing in it is true before `verify`."""

    fields: Mapping[str, str]

    @property
    def kind(self) -> str:
        return self.fields["Type"]

    @property
    def ident(self) -> str:
        return self.fields["MessageId"]

    @property
    def message(self) -> str:
        return self.fields["Message"]


def envelope(content: Any, topics: Collection[str]) -> Envelope:
    """The notice, if it claims to be from one of `topics` and names a certificate of Amazon's in that region.

    Raises:
        Refused: it does not.
    """
    named = content.items() if isinstance(content, dict) else ()
    fields = {name: value for name, value in named if isinstance(value, str)}
    if fields.get("Type") not in SIGNED:
        raise Refused("This is not a notice of Amazon SNS.")
    needed = {*SIGNED[fields["Type"]], "Signature", "SignatureVersion", "SigningCertURL"} - {"Subject"}
    if needed - fields.keys():
        raise Refused("This notice is not complete.")
    if fields["TopicArn"] not in topics:
        raise Refused("This topic is not listed in SIGNUP_SES_TOPICS.")
    if not _is_certificate(fields["SigningCertURL"], fields["TopicArn"]):
        raise Refused("The certificate of this notice is not at Amazon SNS.")
    return Envelope(fields)


def is_confirmation_url(url: str, topic: str) -> bool:
    """Whether asking for this address confirms a subscription to the topic, and nothing else."""
    parts = _parts(url)
    return _at_amazon(parts, topic) and parts.path in ("", "/") and bool(parts.query)


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _at_amazon(parts: SplitResult, topic: str) -> bool:
    return parts.scheme == "https" and parts.netloc == host_of(topic)


def host_of(topic: str) -> str:
    found = TOPIC.fullmatch(topic)
    region = found[1] if found else ""
    return f"sns.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def _is_certificate(url: str, topic: str) -> bool:
    parts = _parts(url)
    plain = bool(_CERTIFICATE_PATH.fullmatch(parts.path)) and not parts.query and not parts.fragment
    return plain and _at_amazon(parts, topic)


def string_to_sign(notice: Envelope) -> bytes:
    """Name and value of each signed field on lines of their own; a missing subject is left out."""
    fields = notice.fields
    return "".join(f"{name}\n{fields[name]}\n" for name in SIGNED[notice.kind] if name in fields).encode()


def verify(notice: Envelope, certificate: bytes, *, now: datetime) -> None:
    """The notice was signed by the holder of this certificate, which came from Amazon over checked TLS.

    Raises:
        Refused: it was not, or the certificate is not SNS's or not valid now.
    """
    try:
        signer = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise Refused("The certificate of this notice cannot be read.") from None
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc or SIGNER not in _names(signer):
        raise Refused("The certificate of this notice is not one of Amazon SNS's, or is out of date.")
    key, algorithm = signer.public_key(), HASHES.get(notice.fields["SignatureVersion"])
    if not isinstance(key, RSAPublicKey) or algorithm is None:
        raise Refused("This notice is signed in a way that we do not know.")
    try:
        signature = b64decode(notice.fields["Signature"], validate=True)
        key.verify(signature, string_to_sign(notice), padding.PKCS1v15(), algorithm)
    except (ValueError, InvalidSignature):
        raise Refused("The signature of this notice is wrong.") from None


def _names(certificate: x509.Certificate) -> set[str]:
    names = {str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return names
    return names | set(extension.value.get_values_for_type(x509.DNSName))
