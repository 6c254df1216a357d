"""Whose error it is when MongoDB, or its driver, refuses a read: one table of codes by operation.

| blame        | it says something about                                  | and so                                   |
|--------------|----------------------------------------------------------|------------------------------------------|
| `outage`     | the server: away, no primary, shutting down, out of time | moves a breaker, is waited for           |
| `collection` | one collection, or one query that no index serves        | 503 for that alone, asked ever less      |
| `user`       | what our user may do there                               | the same; the remedy names the privilege |
| `too_much`   | a query that would take too long, or too much memory     | `TooSlow`: 503 for who asked             |
| `request`    | this one read: all else, unknown codes included          | an error for who asked, and nobody else  |

A message is never read: it differs between versions. What the change stream's errors mean is another table
(`neverstale.streams.error_codes`), for there they are about a position.
Codes: MongoDB server, `src/mongo/base/error_codes.yml`.
"""

from dataclasses import dataclass
from typing import Final, Literal

from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, ProtocolError, PyMongoError

from neverstale.errors import Blame, NeverstaleError, Outage, Refused, TooSlow
from neverstale.mongodb.control import CONTROL
from neverstale.role import telemetry

Operation = Literal["keys", "query", "export", "count", "now", "walks", "kinds"]
"""Documents by `_id` · a query of a list, counter or ranking · all of a collection · how many there are · the present
time · requests for walks · what kind of collection it is."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    blame: Blame
    remedy: str = ""
    heals: bool = False
    """Another moment or another member may answer: it is tried once more at once."""


_AGAIN: Final = "try again"
GRANT: Final = "grant the user of mongodb.uri the privilege find on this collection"
_ACCOUNT: Final = "correct user, password or authSource in mongodb.uri"
_VIEW: Final = "name the collection behind the view in the catalog"
_INDEX: Final = "make the index: neverstale check --create-indexes"


def _away(name: str) -> Row:
    return Row(name, "outage", heals=True)


def _passing(name: str) -> Row:
    return Row(name, "request", _AGAIN, heals=True)


TABLE: Final[dict[int, Row]] = {
    # The server.
    6: _away("HostUnreachable"),
    7: _away("HostNotFound"),
    50: Row("MaxTimeMSExpired", "outage"),  # of a read by `_id`, which an index serves
    70: _away("ShardNotFound"),
    71: _away("ReplicaSetNotFound"),
    74: _away("NodeNotFound"),
    89: _away("NetworkTimeout"),
    91: _away("ShutdownInProgress"),
    94: _away("NotYetInitialized"),
    133: _away("FailedToSatisfyReadPreference"),
    134: _away("ReadConcernMajorityNotAvailableYet"),
    145: _away("PooledConnectionsDropped"),
    149: _away("NoConfigPrimary"),
    187: _away("LinearizableReadConcernError"),
    189: _away("PrimarySteppedDown"),
    202: _away("NetworkInterfaceExceededTimeLimit"),
    216: _away("ElectionInProgress"),
    230: _away("DNSHostNotFound"),
    231: _away("DNSProtocolError"),
    262: Row("ExceededTimeLimit", "outage"),
    264: _away("TooManyFilesOpen"),
    317: _away("ConnectionPoolExpired"),
    9001: _away("SocketException"),
    10058: _away("LegacyNotPrimary"),
    10107: _away("NotWritablePrimary"),
    11600: _away("InterruptedAtShutdown"),
    11602: _away("InterruptedDueToReplStateChange"),
    13435: _away("NotPrimaryNoSecondaryOk"),
    13436: _away("NotPrimaryOrSecondary"),
    56846: _away("ConfigServerUnreachable"),
    # Our user.
    11: Row("UserNotFound", "user", _ACCOUNT),
    13: Row("Unauthorized", "user", GRANT),
    18: Row("AuthenticationFailed", "user", _ACCOUNT),
    31: Row("RoleNotFound", "user", GRANT),
    33: Row("PrivilegeNotFound", "user", GRANT),
    214: Row("AuthenticationRestrictionUnmet", "user", "allow the user to log in from this address"),
    334: Row("MechanismUnavailable", "user", "correct authMechanism in mongodb.uri"),
    391: Row("ReauthenticationRequired", "user", _ACCOUNT),
    # The collection.
    5: Row("GraphContainsCycle", "collection", _VIEW),
    20: Row("IllegalOperation", "collection", "run MongoDB as a replica set; the server's log says more"),
    26: Row("NamespaceNotFound", "collection", "create the collection, or correct the catalog"),
    73: Row("InvalidNamespace", "collection", "correct the collection's name in the catalog"),
    115: Row("CommandNotSupported", "collection", "name an ordinary collection in the catalog"),
    123: Row("NotAReplicaSet", "collection", "run MongoDB as a replica set"),
    148: Row("ReadConcernMajorityNotEnabled", "collection", "start mongod with majority read concern"),
    161: Row("IncompatibleCollationVersion", "collection", "make the collection's indexes again for this server"),
    165: Row("ViewDepthLimitExceeded", "collection", _VIEW),
    166: Row("CommandNotSupportedOnView", "collection", _VIEW),
    167: Row("OptionNotSupportedOnView", "collection", _VIEW),
    169: Row("CommandOnShardedViewNotSupportedOnMongod", "collection", _VIEW),
    182: Row("InvalidViewDefinition", "collection", _VIEW),
    195: Row("ViewPipelineMaxSizeExceeded", "collection", _VIEW),
    235: Row("InternalErrorNotSupported", "collection", "name an ordinary collection in the catalog"),
    238: Row("NotImplemented", "collection", "run a newer MongoDB"),
    246: Row(
        "SnapshotUnavailable",
        "collection",
        "wait a moment if the collection is new; if it is capped, copy it into one that is not",
        heals=True,
    ),
    291: Row("NoQueryExecutionPlans", "collection", _INDEX),
    301: Row("DataCorruptionDetected", "collection", "validate the collection, or sync the member again"),
    361: Row("CollectionUUIDMismatch", "collection", "the collection is being replaced"),
    # This one read.
    1: Row("InternalError", "request", "see the server's log"),
    2: Row("BadValue", "request"),
    8: Row("UnknownError", "request", "see the server's log"),
    9: Row("FailedToParse", "request"),
    14: Row("TypeMismatch", "request"),
    15: Row("Overflow", "request"),
    16: Row("InvalidLength", "request"),
    22: Row("InvalidBSON", "request"),
    24: _passing("LockTimeout"),
    43: _passing("CursorNotFound"),
    46: _passing("LockBusy"),
    72: Row("InvalidOptions", "request"),
    112: _passing("WriteConflict"),
    136: _passing("CappedPositionLost"),
    146: Row("ExceededMemoryLimit", "too_much", _INDEX),
    150: _passing("StaleEpoch"),
    175: _passing("QueryPlanKilled"),
    237: _passing("CursorKilled"),
    239: _passing("SnapshotTooOld"),
    241: Row("ConversionFailure", "request"),
    249: _passing("StaleDbVersion"),
    250: _passing("StaleChunkHistory"),
    267: _passing("PreparedTransactionInProgress"),
    272: _passing("MigrationConflict"),
    292: Row("QueryExceededMemoryLimitNoDiskUseAllowed", "too_much", _INDEX),
    355: _passing("InterruptedDueToStorageChange"),
    357: Row("InvalidBSONType", "request"),
    365: _passing("TemporarilyUnavailable"),
    10334: Row("BSONObjectTooLarge", "request"),
    11601: _passing("Interrupted"),
    13388: _passing("StaleConfig"),
    16819: Row("Location16819", "too_much", _INDEX),  # a sort in memory, before QueryExceededMemoryLimit…
    46841: _passing("ClientMarkedKilled"),
}

BY_OPERATION: Final[dict[tuple[Operation, int], Row]] = {
    # A query may be one that no server answers in time; the next one may be.
    ("query", 50): Row("MaxTimeMSExpired", "too_much", _INDEX),
    ("query", 262): Row("ExceededTimeLimit", "too_much", _INDEX),
    ("walks", 13): Row("Unauthorized", "user", "grant the user of mongodb.uri find, insert and update on " + CONTROL),
    ("kinds", 13): Row("Unauthorized", "user", "grant the user of mongodb.uri listCollections on its database"),
    ("now", 13): Row(
        "Unauthorized",
        "user",
        "grant the user of mongodb.uri find on all that it reads and on " + CONTROL,
    ),
}


def row_of(code: int | None, operation: Operation) -> Row | None:
    """What is known of a code; `None`: nothing, so it is the request's."""
    if code is None:
        return None
    return BY_OPERATION.get((operation, code)) or TABLE.get(code)


def ours(error: Exception, operation: Operation) -> NeverstaleError:
    """The error of ours that says whose error this is. Counts outages."""
    if isinstance(error, NeverstaleError):
        return error
    found = _ours(error, operation)
    if isinstance(found, Outage):
        telemetry.OUTAGES.labels("mongodb").inc()
    return found


def _ours(error: Exception, operation: Operation) -> NeverstaleError:
    match error:
        case OperationFailure():
            return _of_code(error, operation)
        case ConfigurationError():
            return Refused(None, type(error).__name__, "user", "correct mongodb.uri", heals=False)
        case ConnectionFailure() | ProtocolError() | TimeoutError() | OSError():
            return Outage("mongodb", type(error).__name__)
        case PyMongoError() if error.timeout:
            return Outage("mongodb", type(error).__name__)
    # What the driver, or we, can neither write nor read: a document that is too large or too deep, a whole number
    # beyond 64 bits, a text that is no UTF-8. It says nothing about the server, which may not even have been asked.
    return Refused(None, type(error).__name__, "request", "", heals=False)


def _of_code(error: OperationFailure, operation: Operation) -> NeverstaleError:
    row = row_of(error.code, operation)
    if row is None:
        name = str((error.details or {}).get("codeName") or "unnamed")
        return Refused(error.code, name, "request", "", heals=False)
    if row.blame == "outage":
        return Outage("mongodb", f"{row.name} {error.code}")
    if row.blame == "too_much":
        return TooSlow("mongodb")
    return Refused(error.code, row.name, row.blame, row.remedy, heals=row.heals)
