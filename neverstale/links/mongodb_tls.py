"""Certificates of the link to MongoDB, renewed while its client runs.

PyMongo takes no context of ours; it makes one when a client is made, of the files that the connection string names,
and every handshake uses it. So the files are read into that very context again when they have changed. Each monitor
of a server tells before it asks the server anything, at least every ten seconds and before it connects again: then
we look. (PyMongo would also tell of each connection of a pool, and of each use of one: that would cost each read.)

An authority can be added so, but not be taken away: OpenSSL forgets none that a context trusts.
"""

from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from neverstale.links.tls import Files, Stamp
from neverstale.structured import structlog

log = structlog.stdlib.get_logger(__name__)


class RenewedCertificates(ServerHeartbeatListener):
    """Keeps the context of one client as its files are. Give it to the client, and the client to `watch`."""

    def __init__(self) -> None:
        self._client: AsyncMongoClient[Any] | None = None
        self._files: Files | None = None
        self._stamp: Stamp = ()

    def watch(self, client: AsyncMongoClient[Any]) -> None:
        """From now on."""
        given = client.options._options
        shown, trusted = given.get("tlscertificatekeyfile"), given.get("tlscafile")
        if not (shown or trusted):
            return
        files = Files(
            ca=Path(trusted) if trusted else None,
            certificate=Path(shown) if shown else None,
            password=given.get("tlscertificatekeyfilepassword"),
        )
        self._client, self._files, self._stamp = client, files, files.stamp()

    def started(self, _: ServerHeartbeatStartedEvent) -> None:
        """A server is about to be asked how it is."""
        if self._client is not None and self._files is not None:
            self._look(self._client, self._files)

    def succeeded(self, _: ServerHeartbeatSucceededEvent) -> None:
        """It has answered."""

    def failed(self, _: ServerHeartbeatFailedEvent) -> None:
        """It has not."""

    def _look(self, client: AsyncMongoClient[Any], files: Files) -> None:
        named = [str(path) for path in (files.ca, files.certificate) if path is not None]
        try:
            # The stamp before the files: what changes in between is read once more.
            if (stamp := files.stamp()) == self._stamp:
                return
            files.read()  # raises where they cannot be used, before anything has changed
            _read_into(client.options.pool_options._ssl_context, files)
            self._stamp = stamp
            log.info("certificates_renewed", files=named)
        except (OSError, ValueError) as error:
            log.warning("certificates_not_renewed", files=named, reason=str(error))


def _read_into(context: Any, files: Files) -> None:
    if files.ca is not None:
        context.load_verify_locations(files.ca)
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, password=files.password or "")
