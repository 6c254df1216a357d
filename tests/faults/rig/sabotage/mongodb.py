"""Reading MongoDB."""

from typing import Any

from neverstale.mongodb.replies import RawReply
from tests.faults.rig.sabotage.rules import Patches, replaced, rule


@rule("documents are decoded as the driver does")
def _driver_decodes() -> Patches:
    """It refuses what it cannot hold, and makes something else of other things."""
    import bson

    from neverstale.bson.values import CODEC

    def strict(raw: bytes) -> dict[str, Any]:
        return bson.decode(raw, CODEC)

    for module in ("bson.values", "mongodb.bodies", "mongodb.replies"):
        yield replaced(f"neverstale.{module}:decode", strict)
    yield replaced("neverstale.mongodb.replies:by_driver", strict)


@rule("whatever MongoDB refuses is an outage")
def _one_breaker_for_all_errors() -> Patches:
    from neverstale.errors import NeverstaleError, Outage

    def outage(error: Exception, operation: str) -> NeverstaleError:
        return Outage("mongodb", type(error).__name__)

    yield replaced("neverstale.mongodb.refusals:_ours", outage)


@rule("what a read is of is not looked at")
def _kinds_ignored() -> Patches:
    yield replaced("neverstale.mongodb.kinds:Kind.told", property(lambda kind: True))
    yield replaced("neverstale.mongodb.kinds:Kind.bounded", property(lambda kind: True))


@rule("no lower bound")
def _no_lower_bound() -> Patches:
    from neverstale.mongodb.loader import Loader, Snapshot

    load = Loader.load

    async def unbounded(self: Loader, resource: Any, keys: Any, at_least: int) -> Snapshot:
        return await load(self, resource, keys, 0)

    yield replaced("neverstale.mongodb.loader:Loader.load", unbounded)


@rule("read concern local")
def _read_concern_local() -> Patches:
    from neverstale.bson.values import decode, encode
    from neverstale.mongodb.loader import Loader
    from neverstale.mongodb.refusals import Operation
    from neverstale.mongodb.replies import REPLY

    command = Loader._command

    async def local(self: Loader, asked: dict[str, Any], operation: Operation) -> RawReply:
        reply = decode(bytes((await command(self, {**asked, "readConcern": {"level": "local"}}, operation)).raw))
        reply["cursor"].setdefault("atClusterTime", reply["operationTime"])
        return RawReply(encode(reply), REPLY)

    yield replaced("neverstale.mongodb.loader:Loader._command", local)
