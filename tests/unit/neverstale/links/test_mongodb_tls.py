"""The driver's context is as its files are, each time that a monitor is about to ask a server."""

import ssl
from pathlib import Path
from typing import Any, cast

import pytest
from pymongo.monitoring import ServerHeartbeatStartedEvent
from structlog.testing import capture_logs

from neverstale.servers import mongo_client
from neverstale.settings import MongoDB
from tests.support.authority import Authority, Certificate

BEAT = cast("ServerHeartbeatStartedEvent", None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


class Client:
    """One that connects to nobody."""

    def __init__(self, authority: Authority, shown: Path | None) -> None:
        options = f"&tlsCertificateKeyFile={shown}" if shown is not None else ""
        uri = f"mongodb://db.test:27017/?tls=true&tlsCAFile={authority.file}{options}"
        self.client = mongo_client(MongoDB.model_validate({"uri": uri}))
        [listener] = cast("list[Any]", self.client.options.event_listeners)
        self.certificates = listener

    def beat(self) -> list[str]:
        """What is said when a server is about to be asked how it is."""
        with capture_logs() as logs:
            self.certificates.started(BEAT)
        return [log["event"] for log in logs]

    def shows(self, server: Certificate, trusting: Authority) -> int | None:
        """The serial number of the certificate that a server is shown; `None`: none. Raises `SSLError`."""
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.maximum_version = ssl.TLSVersion.TLSv1_2  # where both ends know at the end of it
        theirs.load_cert_chain(server.both)
        theirs.load_verify_locations(trusting.file)
        theirs.verify_mode = ssl.CERT_OPTIONAL
        context: Any = self.client.options.pool_options._ssl_context
        here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = context.wrap_bio(here, there, server_hostname="db.test")
        ends = (ours, theirs.wrap_bio(there, here, server_side=True))
        for end in ends * 4:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        found: Any = ends[1].getpeercert()
        return int(found["serialNumber"], 16) if found else None


async def test_a_renewed_certificate_is_shown_by_the_client_that_runs(authority: Authority) -> None:
    server, shown = authority.issue("db", "db.test"), authority.issue("watcher")
    client = Client(authority, shown.both)
    first = client.shows(server, authority)
    assert client.beat() == [] and client.shows(server, authority) == first
    authority.issue("watcher")
    assert client.shows(server, authority) == first
    assert client.beat() == ["certificates_renewed"]
    assert client.shows(server, authority) not in (None, first)
    assert client.beat() == []
    await client.client.close()


async def test_half_a_renewal_changes_nothing_and_is_said_until_it_is_whole(authority: Authority) -> None:
    server, shown = authority.issue("db", "db.test"), authority.issue("watcher")
    client = Client(authority, shown.both)
    first = client.shows(server, authority)
    other = authority.issue("other")
    for wrong in (b"", shown.key.read_bytes(), other.key.read_bytes() + shown.certificate.read_bytes(), b"x" * 100):
        shown.both.write_bytes(wrong)
        assert client.beat() == ["certificates_not_renewed"]
        assert client.shows(server, authority) == first
    shown.both.unlink()
    assert client.beat() == ["certificates_not_renewed"]
    shown.both.write_bytes(other.both.read_bytes())
    assert client.beat() == ["certificates_renewed"]
    assert client.shows(server, authority) not in (None, first)
    await client.client.close()


async def test_an_authority_that_is_added_is_trusted_at_once(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    theirs = other.issue("db", "db.test")
    client = Client(authority, None)
    with pytest.raises(ssl.SSLCertVerificationError):
        client.shows(theirs, authority)
    authority.file.write_bytes(authority.file.read_bytes() + other.file.read_bytes())
    assert client.beat() == ["certificates_renewed"]
    assert client.shows(theirs, authority) is None
    await client.client.close()


async def test_a_client_without_files_looks_at_none() -> None:
    client = mongo_client(MongoDB.model_validate({"uri": "mongodb://db.test:27017/?tls=true"}))
    [certificates] = cast("list[Any]", client.options.event_listeners)
    certificates.started(BEAT)
    await client.close()
