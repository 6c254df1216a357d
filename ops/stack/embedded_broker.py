"""librdkafka's in-process broker, in a process of its own: Kafka's protocol without Java and without memory.

    python -m neverstale.ops.stack.embedded_broker ANNOUNCE

starts one broker and writes its `host:port` to the file ANNOUNCE. The broker chooses its port itself, makes a
topic of 4 partitions when somebody asks for its metadata (it cannot create topics on request), and forgets
all topics and groups when it stops. See "Mock cluster" in librdkafka's INTRODUCTION.md.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import STOP_SECONDS, Launch, RunningProcess, python

REMEDY = "install neverstale[local]"


class EmbeddedBroker(RunningProcess):
    """A running embedded broker. After `restart` it listens elsewhere and knows nothing of before."""

    kind = "embedded"
    description = "librdkafka's embedded broker, which forgets everything at stop"

    @property
    def members(self) -> tuple[RunningProcess, ...]:
        return (self,)

    @property
    def announced(self) -> Path:
        return Path(self.launch.argv[-1])

    @property
    def bootstrap_servers(self) -> str:
        return self.announced.read_text()

    async def restart(self, grace_seconds: float = STOP_SECONDS) -> None:
        await self.stop(grace_seconds)
        self.announced.unlink(missing_ok=True)
        await super().restart(grace_seconds)


async def start_embedded_broker(data: Path) -> EmbeddedBroker:
    """A broker that serves.

    Raises:
        StackError: confluent-kafka is not installed, or it did not start.
    """
    if importlib.util.find_spec("confluent_kafka") is None:
        raise StackError("the embedded broker needs the package confluent-kafka", REMEDY)
    announced = data / "embedded-broker"
    announced.unlink(missing_ok=True)

    async def ready() -> bool:
        return announced.exists()

    return await EmbeddedBroker.start(
        Launch(
            name="embedded-broker",
            argv=python("neverstale.ops.stack.embedded_broker", str(announced)),
            log=data / "logs" / "embedded-broker.log",
            ready=ready,
            remedy=REMEDY,
        )
    )


def main(announce: Path) -> None:
    from confluent_kafka.admin import AdminClient  # only the child needs it

    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    client = AdminClient({"bootstrap.servers": "replaced.invalid:1", "test.mock.num.brokers": 1})
    (broker,) = client.list_topics(timeout=10).brokers.values()
    partial = announce.with_suffix(".partial")
    partial.write_text(f"{broker.host}:{broker.port}")
    partial.rename(announce)
    signal.sigwait(stop)
    os._exit(0)  # there is nothing to save, and the client would wait for its broker's threads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
