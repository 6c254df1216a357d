"""A certificate authority of a test's own."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files."""

    certificate: Path
    key: Path
    both: Path
    subject: str
    """As RFC 4514 spells it."""


class Authority:
    """Issues certificates into a folder, where `ca.pem` is its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "ca.pem"
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(
        self, name: str, *hosts: str, file: str = "", not_after: datetime.datetime | None = None
    ) -> Certificate:
        """A new certificate whose common name is `name`, in files named so or `file`, which it replaces. With `hosts`
        it is a server's. One that ended yesterday is already refused."""
        begin = datetime.datetime(2020, 1, 1) if not_after is not None else None  # noqa: DTZ001
        made = self._authority.issue_cert(
            *(hosts or (name,)),
            common_name=name,
            organization_name="neverstale",
            not_before=begin,
            not_after=not_after,
        )
        chain = b"".join(one.bytes() for one in made.cert_chain_pems)
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,  # Kafka reads no other
            serialization.NoEncryption(),
        )
        paths = [self.folder / f"{file or name}.{kind}" for kind in ("crt", "key", "pem")]
        for path, content in zip(paths, (chain, key, key + chain), strict=True):
            path.write_bytes(content)
            path.chmod(0o600)
        certificate, private, both = paths
        return Certificate(certificate, private, both, load_pem_x509_certificate(chain).subject.rfc4514_string())
