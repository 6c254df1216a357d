"""The first sentence: how old answers are, and what that hangs on."""

from dataclasses import dataclass
from typing import Final, Literal

from neverstale.ops.console.looks import QuickLook
from neverstale.ops.console.wrong import bound_of
from neverstale.ops.status import PartitionStatus, named_partitions, unknown, wrong_answers

State = Literal["ok", "warning", "problem"]
WIDE_SECONDS: Final = 5.0
"""As the alert has it (deploy/prometheus)."""


@dataclass(frozen=True, slots=True)
class Sentence:
    state: State
    text: str


def sentence(look: QuickLook, wrong: int) -> Sentence:
    """`wrong`: how many problems there are beside."""
    bound, weakest = bound_of(look), weakest_of(look)
    applied = f"partition {weakest.partition}, applied {seconds((weakest.age_ms or 0) / 1000)} ago" if weakest else ""
    if bound is None:
        return Sentence("problem", "Nobody is served: no process of the API answers.")
    if "redis" in look.away:
        return Sentence("problem", "Redis does not answer: reads go to MongoDB, or are refused.")
    if any(wrong_answers(look.status.audit)):
        return Sentence("problem", "Answers were wrong in the last hour: an auditor has compared them with MongoDB.")
    if bound != bound:
        return Sentence("problem", f"Nobody can say how old answers are: {_why_unknown(look)}.")
    # What MongoDB has proved may be younger than the last mark: it is true, and two numbers are hard to read.
    bound = max(bound, (weakest.age_ms or 0) / 1000 if weakest else 0.0)
    if bound > WIDE_SECONDS:
        away = next((name for name in ("MongoDB", "Kafka") if name.lower() in look.away), None)
        since = f"{away} does not answer" if away else f"weakest: {applied}" if applied else "see below"
        return Sentence("problem", f"Answers may be {seconds(bound)} old, and that grows; {since}.")
    text = f"Every answer is at most {seconds(bound)} old" + (f"; weakest: {applied}." if applied else ".")
    return Sentence("warning" if wrong else "ok", text)


def weakest_of(look: QuickLook) -> PartitionStatus | None:
    known = [one for one in look.status.partitions if one.age_ms is not None]
    return max(known, key=lambda one: one.age_ms or 0, default=None)


def _why_unknown(look: QuickLook) -> str:
    if not look.status.partitions:
        return "nothing was applied to this Redis yet"
    if nothing := unknown(look.status.partitions):
        return f"no mark was applied to this Redis on {named_partitions(nothing)}"
    return "the API does not know the primary's clock, or which Redis it reads"


def seconds(number: float) -> str:
    """As people read it."""
    number = max(number, 0.0)
    if number < 10:
        return f"{number:.2f} s"
    if number < 120:
        return f"{number:.0f} s"
    minutes = int(number // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 2 * 24 * 60 else f"{minutes // (24 * 60)} days"
