"""Why Redis gives no answer: the code of its reply, or the class of the error; and what to do about it where only a
human can.

A message is never decided by. It is shown where Redis says in it alone what is missing: which command a user may not
send, or that a key or channel is none of his. Within a script Redis 7.0 says it under no code but `ERR`; so whatever
fails there without a code is shown with the remedy of the likeliest cause.
"""

import re
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Disconnected

from neverstale.links.tls import refused_by

_WITHIN_SCRIPT: Final = re.compile(r": -([A-Z]+) ")
"""Redis 6.2 hides the code of an error within a script: "Error running script (call to f_...): ...: -OOM ..."."""
_IN_SCRIPT: Final = re.compile(r"script: [0-9a-f]{40}, on @user_script:")
"""Where an error of Redis 7 came up, as it stands behind every one of a script."""
_CODE: Final = re.compile(r"[A-Z]{3,}\b")
SHOWN_LETTERS: Final = 200
"""Of a message."""

RIGHTS: Final = "give the user of redis.url its rights (docs/security.md, Redis: users)"
CREDENTIALS: Final = "correct user and password in redis.url"
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
            if code:
                return code[0]
            remedy = f"; if a right is missing, {RIGHTS}" if _IN_SCRIPT.search(str(error)) else ""
            return f"ERR: {_shown(error)}{remedy}"
        case Disconnected() if (by := refused_by(error)) is not None:
            return NOT_TRUSTED if by == "us" else NOT_TAKEN
    return type(error).__name__


def is_of_rights(error: Exception) -> bool:
    """Whether Redis says that our user may not do this, or may be saying it (within a script of Redis 7.0)."""
    match error:
        case NoPermissionError():
            return True
        case ResponseError() if within := _WITHIN_SCRIPT.search(str(error)):
            return within[1] == "NOPERM"
        case ResponseError() if type(error) is ResponseError:
            return not _CODE.match(str(error)) and _IN_SCRIPT.search(str(error)) is not None
    return False


def _shown(error: Exception) -> str:
    return str(error)[:SHOWN_LETTERS]
