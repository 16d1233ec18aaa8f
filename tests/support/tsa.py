"""A time stamping authority for tests: `openssl ts` answers, a loopback server passes it on."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY = "1.3.6.1.4.1.55555.1.1"
DAY = timedelta(days=1)
_CONFIG = """
[tsa]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = {policy}
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
{more}
"""


@dataclass
class Authority:
    """A root, a certificate that may stamp, and its key, as files in `folder`."""

    folder: Path
    policy: str = POLICY
    replies: list[bytes] = field(default_factory=list)
    url: str = ""
    down: bool = False
    # Instead of an answer of its own.
    canned: bytes | None = None

    @property
    def certificate_file(self) -> Path:
        return self.folder / "tsa.pem"

    @property
    def root_file(self) -> Path:
        return self.folder / "root.pem"

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    @property
    def root(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.root_file.read_bytes())

    def settings(self) -> dict[str, str]:
        return {
            "SIGNUP_TSA_URL": self.url,
            "SIGNUP_TSA_CERTIFICATE": str(self.certificate_file),
            "SIGNUP_TSA_ROOT": str(self.root_file),
        }

    def reply(self, query: bytes) -> bytes:
        """The answer of `openssl ts` to a request."""
        asked, said = self.folder / f"{threading.get_ident()}.tsq", self.folder / f"{threading.get_ident()}.tsr"
        asked.write_bytes(query)
        command = [_openssl(), "ts", "-reply", "-config", str(self.folder / "tsa.cnf"), "-section", "tsa"]
        subprocess.run(
            [*command, "-queryfile", str(asked), "-out", str(said)], check=True, capture_output=True, timeout=30
        )
        answer = said.read_bytes()
        self.replies.append(answer)
        return answer


def make_authority(
    folder: Path,
    *,
    name: str = "Test time stamping",
    begins: timedelta = -DAY,
    ends: timedelta = 400 * DAY,
    policy: str = POLICY,
    may_stamp: bool = True,
    with_root: bool = False,
    root_name: str | None = None,
) -> Authority:
    """An authority whose certificate is good from `begins` to `ends`, counted from now.

    Args:
        may_stamp: its certificate says that it is for time stamping.
        with_root: its tokens bring the root along, in an order that DER does not allow unless the root's name is long.
    """
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    root_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    root = _certificate(root_name or f"Root of {name}", None, root_key, root_key, now - 900 * DAY, now + 900 * DAY)
    leaf = _certificate(name, root, key, root_key, now + begins, now + ends, may_stamp=may_stamp)
    _write(folder / "root.pem", root)
    _write(folder / "tsa.pem", leaf)
    (folder / "tsa.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "serial").write_text("01\n", encoding="ascii")
    more = f"certs = {folder}/root.pem" if with_root else ""
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder, policy=policy, more=more), encoding="ascii")
    return Authority(folder, policy)


@contextmanager
def running(authority: Authority) -> Iterator[Authority]:
    """The authority answers at its `url`, on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            good = self.headers["Content-Type"] == "application/timestamp-query" and not authority.down
            body = (authority.canned or authority.reply(query)) if good else b"out of order"
            self.send_response(200 if good else 503)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing: a test says itself what it saw."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    authority.url = f"http://127.0.0.1:{server.server_address[1]}/tsa"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield authority
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _certificate(
    name: str,
    issuer: x509.Certificate | None,
    key: rsa.RSAPrivateKey,
    signing_key: rsa.RSAPrivateKey,
    begins: datetime,
    ends: datetime,
    *,
    may_stamp: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = ExtendedKeyUsageOID.TIME_STAMPING if may_stamp else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    return builder.sign(signing_key, hashes.SHA256())


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _openssl() -> str:
    found = shutil.which("openssl")
    assert found, "openssl is needed for the time stamping authority of the tests"
    return found
