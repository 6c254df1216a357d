"""Errors, by what the caller may do about them.

`Retry`: the same call may succeed later (a server is away). `Refused`: a server answers, and will not do this; others
are served. `DeadLetter`: this input never will; set it
aside, invalidate conservatively, go on. `Stop`: a human must change something; say what, and exit.
"""

from typing import Literal

Server = Literal["mongodb", "kafka", "redis"]

Unreadable = Literal["undecodable", "malformed", "format", "kind", "operation", "namespace", "version", "term"]
"""Why a record can never be applied: no JSON (truncated, foreign) · a field is missing or of a wrong type · a format,
a kind or an operation of another release · of another database · its version lies in MongoDB's future · a mark of a
term of office that nobody has held."""


class NeverstaleError(Exception):
    """The root of every error that is ours."""


class Retry(NeverstaleError):
    """The same call may succeed later."""


class Outage(Retry):
    """A server did not answer, or answered that it cannot serve now. Never to be mistaken for a miss."""

    def __init__(self, server: Server, reason: str) -> None:
        super().__init__(f"{server} is unavailable: {reason}")
        self.server: Server = server
        self.reason = reason


class ServerRefuses(Retry):
    """A server answers, and refuses for a reason that only a human can remove: `remedy` says how. Tried again all the
    same, ever more seldom, so that nothing need be restarted afterwards."""

    def __init__(self, server: Server, reason: str, remedy: str) -> None:
        super().__init__(f"{server} refuses: {reason}; {remedy}")
        self.server: Server = server
        self.reason = reason
        self.remedy = remedy


class KafkaRefuses(ServerRefuses):
    """What Kafka refuses."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__("kafka", reason, remedy)


class MongoDBRefuses(ServerRefuses):
    """What MongoDB refuses a watcher, which has no other to turn to: its user may not do it. Of a read: `Refused`."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__("mongodb", reason, remedy)


class Overloaded(Retry):
    """We refuse the work to protect a server; the caller should come back after `retry_after_seconds`."""

    def __init__(self, server: Server, retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"too many reads are waiting for {server}")
        self.server: Server = server
        self.retry_after_seconds = retry_after_seconds


class TooSlow(Overloaded):
    """MongoDB would need longer, or more memory, for a query than it is given."""


Blame = Literal["outage", "collection", "user", "too_much", "request"]
"""What an error of MongoDB says something about; see `neverstale.mongodb.refusals`."""


class Refused(NeverstaleError):
    """MongoDB, or its driver, refuses a read: no outage, and nobody's error but that of what `blame` names."""

    def __init__(self, code: int | None, name: str, blame: Blame, remedy: str, *, heals: bool) -> None:
        """`code`: the server's, `None` if it never saw the read; `heals`: it may pass by itself."""
        super().__init__(f"MongoDB refuses this: {self.spell(code, name)}{f'; {remedy}' if remedy else ''}")
        self.code = code
        self.name = name
        self.blame: Blame = blame
        self.remedy = remedy
        self.heals = heals

    @staticmethod
    def spell(code: int | None, name: str) -> str:
        return name if code is None else f"{code} {name}"

    @property
    def reason(self) -> str:
        """Code and name, and the remedy if there is one."""
        return str(self).partition(": ")[2]

    @property
    def lasts(self) -> bool:
        """Whether others who ask for the same will be refused, too."""
        return self.blame in ("collection", "user")

    @property
    def is_of_one_read(self) -> bool:
        """Whether nothing else is refused for it, and no later read helps."""
        return not (self.lasts or self.heals)


class PositionLost(Retry):
    """The watcher's resume token is no longer in the oplog; only a floor and a new start help."""


class DeadLetter(NeverstaleError):
    """This record can never be applied: `reason` for programs, `detail` for people."""

    def __init__(self, reason: Unreadable, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Unreadable = reason
        self.detail = detail


class Stop(NeverstaleError):
    """A human must act; the process exits with this sentence and no traceback."""


class Misconfigured(Stop):
    """A setting or declaration is wrong: where (`file: path` or variable), what, and the remedy.

    `others` are further problems found in the same pass; the message has a line for each.
    """

    def __init__(self, where: str, problem: str, remedy: str, *others: "Misconfigured") -> None:
        super().__init__("\n".join([f"{where}: {problem}; {remedy}", *map(str, others)]))
        self.where = where
        self.problem = problem
        self.remedy = remedy
        self.others = others
