"""Certificates that are renewed while a process runs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from neverstale.errors import Misconfigured
from neverstale.links.tls import Files, RenewedContext, refused_by
from neverstale.servers import kafka_options, redis_client
from neverstale.settings import Kafka, RedisSettings
from tests.support.authority import Authority, Certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def server(authority: Authority, own: Certificate) -> AsyncIterator[int]:
    """It wants a certificate, and tells its name."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(own.certificate, own.key)
    context.verify_mode = ssl.CERT_REQUIRED

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown: Any = writer.get_extra_info("peercert")
        names = dict(pair for part in shown["subject"] for pair in part)
        writer.write(names["commonName"].encode())
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(tell, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def told(port: int, context: ssl.SSLContext) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def test_a_new_connection_shows_the_certificate_that_is_there_now(authority: Authority) -> None:
    own, first = authority.issue("server", "127.0.0.1"), authority.issue("first", file="client")
    context = RenewedContext(Files(authority.file, first.certificate, first.key))
    async with server(authority, own) as port:
        assert await told(port, context) == "first"
        authority.issue("second", file="client")
        assert await told(port, context) == "second"


async def test_a_renewal_that_is_half_done_changes_nothing(authority: Authority) -> None:
    own, first = authority.issue("server", "127.0.0.1"), authority.issue("first", file="client")
    context = RenewedContext(Files(authority.file, first.certificate, first.key))
    async with server(authority, own) as port:
        key = first.key.read_bytes()
        authority.issue("second", file="client")
        second = first.key.read_bytes()
        first.key.write_bytes(key)  # of another certificate
        assert await told(port, context) == "first"
        first.key.unlink()
        assert await told(port, context) == "first"
        first.key.write_bytes(second)
        assert await told(port, context) == "second"


async def test_an_authority_that_is_replaced_is_trusted_no_more(authority: Authority, tmp_path: Path) -> None:
    own, client = authority.issue("server", "127.0.0.1"), authority.issue("client")
    context = RenewedContext(Files(authority.file, client.certificate, client.key))
    async with server(authority, own) as port:
        assert await told(port, context) == "client"
        Authority(tmp_path)  # whose ca.pem takes the place of the former
        with pytest.raises(ssl.SSLCertVerificationError):
            await told(port, context)


@pytest.mark.parametrize(("checked", "refused"), [(True, True), (False, False)])
async def test_the_name_of_the_server_is_checked_unless_told_otherwise(
    authority: Authority, checked: bool, refused: bool
) -> None:
    own, client = authority.issue("server", "elsewhere.example"), authority.issue("client")
    context = RenewedContext(Files(authority.file, client.certificate, client.key, check_hostname=checked))
    async with server(authority, own) as port:
        if refused:
            with pytest.raises(ssl.SSLCertVerificationError):
                await told(port, context)
        else:
            assert await told(port, context) == "client"


def test_an_encrypted_key_without_its_password_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization as s

    client = authority.issue("client")
    key = s.load_pem_private_key(client.key.read_bytes(), None)
    form = s.BestAvailableEncryption(b"right")
    client.key.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, form))
    RenewedContext(Files(authority.file, client.certificate, client.key, "right"))
    for password in (None, "wrong"):
        with pytest.raises((ssl.SSLError, ValueError)):
            RenewedContext(Files(authority.file, client.certificate, client.key, password))


def test_files_that_do_not_belong_together_are_a_wrong_setting(authority: Authority) -> None:
    client, other = authority.issue("client"), authority.issue("other")
    files = {"ssl_cafile": authority.file, "ssl_certfile": client.certificate, "ssl_keyfile": other.key}
    with pytest.raises(Misconfigured, match=r"kafka\.ssl_\*"):
        kafka_options(Kafka.model_validate({"security_protocol": "SSL", **files}))
    with pytest.raises(Misconfigured, match=r"redis\.ssl_\*"):
        redis_client(RedisSettings.model_validate({"url": "rediss://h:1", **files}), timeout_ms=1)


def test_who_refuses_is_told_by_the_cause() -> None:
    outer = OSError("outer")
    assert refused_by(outer) is None
    outer.__cause__ = ssl.SSLError("alert")
    assert refused_by(outer) == "them"
    outer.__cause__ = ssl.SSLCertVerificationError("untrusted")
    assert refused_by(outer) == "us"


def test_all_clients_of_one_link_share_what_was_read(authority: Authority) -> None:
    settings = RedisSettings(url=SecretStr("rediss://h:1"), ssl_cafile=authority.file)
    clients = [redis_client(settings, timeout_ms=1) for _ in range(2)]
    first, second = (one.connection_pool.connection_kwargs["tls_context"] for one in clients)
    assert first is second
