"""One document from a server of somebody else, by a deadline, and never more than so many bytes.

The library's time-out is for each piece that arrives: a server that sends a letter a second would hold a thread, and
everybody who waits for the document, for a day. So its connection is ended.
"""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from threading import Timer
from typing import Any


def fetched(url: str, seconds: float, most_bytes: int) -> bytes:
    """The first `most_bytes` of what is there. Blocks. Raises `OSError` or `HTTPException`; follows no redirects:
    where the document is, is for the settings to say."""
    with _ending(seconds) as ends:
        opener = urllib.request.build_opener(_NoRedirects, _Plain(ends), _Secured(ends))
        request = urllib.request.Request(url, headers={"accept": "application/json"})
        with opener.open(request, timeout=seconds) as response:
            text: bytes = response.read(most_bytes)
        return text


class _Ends:
    """Second handles of the connections that are open; what is shut down through them is shut down."""

    def __init__(self) -> None:
        self.late = False
        self._held: list[socket.socket] = []

    def connect(self, *given: Any, **options: Any) -> socket.socket:
        """In place of `socket.create_connection`."""
        made = socket.create_connection(*given, **options)
        self._held.append(made.dup())
        if self.late:
            self.shut()
        return made

    def shut(self) -> None:
        self.late = True
        for each in self._held:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._held:
            each.close()


@contextlib.contextmanager
def _ending(seconds: float) -> Iterator[_Ends]:
    """Connections that are shut down after so long. Raises `TimeoutError` in place of what came of that."""
    ends = _Ends()
    timer = Timer(seconds, ends.shut)
    timer.daemon = True
    timer.start()
    try:
        yield ends
    except Exception as error:
        raise TimeoutError("no whole answer in time") if ends.late else error from None
    finally:
        timer.cancel()
        timer.join()
        ends.close()
    if ends.late:
        raise TimeoutError("no whole answer in time")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, ends: _Ends) -> None:
        super().__init__()
        self._ends = ends

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_remembered(HTTPConnection, self._ends), request)


class _Secured(urllib.request.HTTPSHandler):
    def __init__(self, ends: _Ends) -> None:
        super().__init__()
        self._ends = ends

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_remembered(HTTPSConnection, self._ends), request)


def _remembered(kind: type[HTTPConnection], ends: _Ends) -> Any:
    def opened(*given: Any, **options: Any) -> HTTPConnection:
        connection = kind(*given, **options)
        connection._create_connection = ends.connect  # type: ignore[attr-defined]
        return connection

    return opened
