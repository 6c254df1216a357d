"""Why Redis gives no answer: the code of its reply, or the class of the error; and what to do about it where only a
human can.

A message is never decided by. It is shown where Redis says in it alone what is missing: which command a user may not
send, or that a key or channel is none of his. Within a script Redis 6.2 and 7.0 say it under no code but `ERR`, and
whoever may not end a transaction is told `EXECABORT`; so both are shown with the remedy of the likeliest cause.
"""

import re
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Disconnected

from neverstale.links.tls import refused_by

_WITHIN_SCRIPT: Final = re.compile(
    r"\(call to f_[0-9a-f]{40}\): @user_script:\d+: (?:@user_script: \d+: )?-?([A-Z]{3,}) "
)
"""Redis 6.2 hides the code of an error within a script: "Error running script (call to f_...): ...: -OOM ..."."""
_IN_SCRIPT: Final = re.compile(r"script: [0-9a-f]{40}, on @user_script:|\(call to f_[0-9a-f]{40}\): @user_script:")
"""Where an error came up, as it stands behind every one of a script of Redis 7, and before every one of Redis 6.2."""
_CODE: Final = re.compile(r"[A-Z]{3,}\b")
SHOWN_LETTERS: Final = 200
"""Of a message."""

RIGHTS: Final = "give the user of redis.url its rights (docs/security.md, Redis: users)"
CREDENTIALS: Final = "correct user and password in redis.url"
_PERHAPS: Final = f"; if a right is missing, {RIGHTS}"
SENTINEL: Final = (
    "correct redis.sentinel_username and redis.sentinel_password, or give that user its rights "
    "(docs/security.md, Redis Sentinel)"
)
NOT_TRUSTED: Final = "its certificate is not trusted; set redis.ssl_cafile to who signed it"
NOT_TAKEN: Final = "it refuses the certificate that we show, or that we show none; renew redis.ssl_certfile"


def reason_of(error: Exception) -> str:
    """A code, a class, or a sentence with a remedy."""
    match error:
        case OutOfMemoryError():
            return "OOM"
        case NoPermissionError():
            return f"NoPermissionError: {_shown(error)}; {RIGHTS}"
        case AuthenticationError() | AuthorizationError():
            return f"{type(error).__name__}; {CREDENTIALS}"
        case ResponseError() if within := _WITHIN_SCRIPT.search(str(error)):
            return f"NoPermissionError within a script; {RIGHTS}" if within[1] == "NOPERM" else within[1]
        case ResponseError() if type(error) is ResponseError:
            # An error reply starts with its code: MISCONF, BUSY, NOREPLICAS, ... (known ones are types of their own;
            # of ERR, which says nothing, the client keeps the message only)
            code = _CODE.match(str(error))
            return code[0] if code else f"ERR: {_shown(error)}{_PERHAPS if is_of_rights(error) else ''}"
        case ExecAbortError():
            return f"EXECABORT: {_shown(error)}{_PERHAPS}"
        case Disconnected() if (refusal := _of_sentinel(error)) is not None:
            return f"a sentinel refuses: {type(refusal).__name__}; {SENTINEL}"
        case Disconnected() if (by := refused_by(error)) is not None:
            return NOT_TRUSTED if by == "us" else NOT_TAKEN
    return type(error).__name__


def is_of_rights(error: Exception) -> bool:
    """Whether Redis says that our user may not do this, or may be saying it (in a script, of a transaction)."""
    match error:
        case NoPermissionError() | ExecAbortError():
            return True
        case ResponseError() if within := _WITHIN_SCRIPT.search(str(error)):
            return within[1] == "NOPERM"
        case ResponseError() if type(error) is ResponseError:
            return not _CODE.match(str(error)) and _IN_SCRIPT.search(str(error)) is not None
    return False


def _of_sentinel(error: BaseException | None) -> Exception | None:
    """What stands behind an error of a client that found no master."""
    while error is not None:
        if isinstance(error, AuthenticationError | NoPermissionError):
            return error
        error = error.__cause__
    return None


def _shown(error: Exception) -> str:
    return str(error)[:SHOWN_LETTERS]
