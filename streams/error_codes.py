"""What an error of the change stream means, by its code and by the phase in which it came.

A message is never read: it differs between versions, and what an error means depends on what was asked.
Codes: MongoDB server, `src/mongo/base/error_codes.yml`.

| meaning    | what the watcher does                                                               |
|------------|-------------------------------------------------------------------------------------|
| `LOST`     | the position is gone: floors, and a new start at the present time                   |
| `REFUSED`  | our user may not: said with what to grant, and tried again, ever more seldom        |
| `STOP`     | only a human can help: exit with the reason                                         |
| `AWAY`     | everything else: close all, open again from the stored position, with back-off      |
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from aiokafka.errors import KafkaError
from pymongo.errors import ConfigurationError, InvalidOperation, OperationFailure, PyMongoError

from neverstale.errors import MongoDBRefuses, NeverstaleError, Outage, PositionLost, Retry, ServerRefuses, Stop
from neverstale.mongodb import refusals


class Phase(Enum):
    OPEN_AFTER_TOKEN = auto()
    """Opening from a stored token."""
    OPEN_AT_TIME = auto()
    """Opening at a time that the server has just told us."""
    READ = auto()


class ErrorMeaning(Enum):
    LOST = auto()
    REFUSED = auto()
    STOP = auto()
    AWAY = auto()


_EVERY: Final = frozenset(Phase)
_OPENING: Final = frozenset((Phase.OPEN_AFTER_TOKEN, Phase.OPEN_AT_TIME))
_TOKEN: Final = frozenset((Phase.OPEN_AFTER_TOKEN,))

TABLE: Final[dict[int, tuple[frozenset[Phase], ErrorMeaning]]] = {
    280: (_EVERY, ErrorMeaning.LOST),  # ChangeStreamFatalError
    286: (_EVERY, ErrorMeaning.LOST),  # ChangeStreamHistoryLost
    136: (_EVERY, ErrorMeaning.LOST),  # CappedPositionLost: the oplog was truncated under the cursor
    10334: (_EVERY, ErrorMeaning.LOST),  # BSONObjectTooLarge: an event that can never be delivered
    260: (_EVERY, ErrorMeaning.LOST),  # InvalidResumeToken
    # A token that is no token: these codes say that a field of our command could not be read, and the token
    # is the only field that we have not written ourselves.
    2: (_TOKEN, ErrorMeaning.LOST),  # BadValue
    9: (_TOKEN, ErrorMeaning.LOST),  # FailedToParse
    14: (_TOKEN, ErrorMeaning.LOST),  # TypeMismatch
    15: (_TOKEN, ErrorMeaning.LOST),  # Overflow
    40647: (_TOKEN, ErrorMeaning.LOST),  # the token has no _data
    40649: (_TOKEN, ErrorMeaning.LOST),  # the token is empty
    50811: (_TOKEN, ErrorMeaning.LOST),  # the token ends too early
    **{code: (_EVERY, ErrorMeaning.REFUSED) for code, row in refusals.TABLE.items() if row.blame == "user"},
    40573: (_OPENING, ErrorMeaning.STOP),  # $changeStream is only supported on replica sets
}


def meaning(code: int | None, phase: Phase) -> ErrorMeaning:
    """What a server's error code means in a phase; `None`: it has none, e.g. a network error."""
    phases, answer = TABLE.get(code or 0, (frozenset(), ErrorMeaning.AWAY))
    return answer if phase in phases else ErrorMeaning.AWAY


def as_ours(error: PyMongoError, phase: Phase) -> NeverstaleError:
    """The error of ours that says what to do about a driver's error."""
    code = error.code if isinstance(error, OperationFailure) else None
    reason = f"{type(error).__name__}{'' if code is None else f' {code}'} while {_DOING[phase]}: {error}"
    if isinstance(error, (ConfigurationError, InvalidOperation)):
        return Stop(f"MongoDB cannot be watched: {reason}")
    match meaning(code, phase):
        case ErrorMeaning.LOST:
            return PositionLost(reason)
        case ErrorMeaning.REFUSED:
            return _refused(code, _DOING[phase], "find and changeStream on its whole database")
        case ErrorMeaning.STOP:
            return Stop(f"MongoDB cannot be watched: {reason}")
        case ErrorMeaning.AWAY:
            return Outage("mongodb", reason)


_DOING: Final = {
    Phase.OPEN_AFTER_TOKEN: "opening the stream from the stored token",
    Phase.OPEN_AT_TIME: "opening the stream at the present time",
    Phase.READ: "reading the stream",
}


def of_step(error: PyMongoError, doing: str, collection: str) -> NeverstaleError:
    """What an error means that came beside the stream, in reading or writing a `collection` of ours."""
    code = error.code if isinstance(error, OperationFailure) else None
    if meaning(code, Phase.READ) is ErrorMeaning.REFUSED:
        return _refused(code, doing, f"find, insert and update on {collection}")
    return Outage("mongodb", f"{type(error).__name__} while {doing}: {error}")


def _refused(code: int | None, doing: str, needed: str) -> MongoDBRefuses:
    """What the server says of it repeats our whole command, and is left out."""
    row = refusals.TABLE[code or 0]
    remedy = f"grant the user of mongodb.uri {needed}" if row.remedy == refusals.GRANT else row.remedy
    return MongoDBRefuses(f"{code} {row.name} while {doing}", remedy)


def ours(error: BaseException) -> NeverstaleError:
    """What an error, or a task group's errors, mean; raises it if it is none that we know."""
    found = sorted((_ours(leaf) for leaf in _leaves(error)), key=_gravity)
    return found[0]


def _gravity(error: NeverstaleError) -> int:
    """When several things went wrong at once, the gravest counts."""
    for gravity, kind in enumerate((Outage, ServerRefuses, Retry)):
        if isinstance(error, kind):
            return 3 - gravity
    return 0


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _ours(error: BaseException) -> NeverstaleError:
    match error:
        case NeverstaleError():
            return error
        case PyMongoError():
            return as_ours(error, Phase.READ)
        case KafkaError():
            return Outage("kafka", f"{type(error).__name__}: {error}")
    raise error
