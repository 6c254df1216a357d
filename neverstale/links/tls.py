"""TLS of the links to the servers: whom we trust, and who we are.

Certificates are renewed while processes run. So a connection that is opened looks whether one of the files has
changed, and if so they are read again; connections that are open go on. Files that cannot be read, or do not belong
together (a renewal is half done), change nothing: the last ones that could be read stay in force.
"""

import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from neverstale.structured import structlog

log = structlog.stdlib.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files of one link."""

    ca: Path | None = None
    """Authorities that are trusted, and no others; `None`: the system's."""
    certificate: Path | None = None
    """Ours, with those between it and the authority; `None`: we show none."""
    key: Path | None = None
    """Of our certificate; `None`: it lies in the same file."""
    password: str | None = None
    """Of the key."""
    check_hostname: bool = True
    """Whether the server's certificate must name the host that we asked for."""

    def stamp(self) -> Stamp:
        """Changes when a file does. Raises `OSError`."""
        found = (path.stat() for path in (self.ca, self.certificate, self.key) if path is not None)
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def read(self) -> ssl.SSLContext:
        """A context with what they hold now. Raises `OSError`, of which `ssl.SSLError` is one, or `ValueError`."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.check_hostname
        if self.certificate is not None:
            # Without a password OpenSSL would ask for it on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=self.password or "")
        return context


class RenewedContext(ssl.SSLContext):
    """A client's context that is as its files are. Every driver that takes a context takes this one."""

    _files: Files
    _stamp: Stamp
    _current: ssl.SSLContext

    def __new__(cls, files: Files) -> Self:
        """Raises as `Files.read` does."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._files = files
        self._stamp, self._current = files.stamp(), files.read()
        return self

    def wrap_bio(self, *given: Any, **options: Any) -> ssl.SSLObject:
        return self._renewed().wrap_bio(*given, **options)

    def wrap_socket(self, *given: Any, **options: Any) -> ssl.SSLSocket:
        return self._renewed().wrap_socket(*given, **options)

    def _renewed(self) -> ssl.SSLContext:
        try:
            # The stamp before the files: what changes in between is read once more.
            if (stamp := self._files.stamp()) != self._stamp:
                self._current = self._files.read()
                self._stamp = stamp
                log.info("certificates_renewed", files=self._named())
        except (OSError, ValueError) as error:
            log.warning("certificates_not_renewed", files=self._named(), reason=str(error))
        return self._current

    def _named(self) -> list[str]:
        return [str(path) for path in (self._files.ca, self._files.certificate, self._files.key) if path is not None]


def refused_by(error: BaseException) -> Literal["us", "them"] | None:
    """Who does not take the other's certificate, by the class of the error or of what caused it; `None`: nobody."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "us"
        if isinstance(cause, ssl.SSLError):
            return "them"
        cause = cause.__cause__ or cause.__context__
    return None


@cache
def context_of(files: Files) -> RenewedContext:
    """The context of these files, the same for all clients of a process. Raises as `Files.read` does."""
    return RenewedContext(files)
