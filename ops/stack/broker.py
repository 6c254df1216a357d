"""Which broker runs: Apache Kafka where Java and its jars are at hand, else the embedded one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neverstale.ops.stack.embedded_broker import EmbeddedBroker, start_embedded_broker
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.kafka.cluster import KafkaCluster, KafkaOptions, start_kafka
from neverstale.ops.stack.kafka.libs import cached_libs, can_fetch, fetch_libs, find_java

BrokerChoice = Literal["auto", "kafka", "embedded"]
Broker = KafkaCluster | EmbeddedBroker


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    data: Path
    choice: BrokerChoice = "auto"
    port: int = 0  # of the first Apache Kafka broker; 0: a free one
    brokers: int = 1  # of Apache Kafka


async def start_broker(options: BrokerOptions) -> Broker:
    """The chosen broker, serving; its `description` says which it is.

    Raises:
        StackError: it is not here or did not start, or a fixed port was asked of the embedded one.
    """
    choice = options.choice if options.choice != "auto" else await _available()
    if choice == "kafka":
        return await start_kafka(KafkaOptions(data=options.data, port=options.port, brokers=options.brokers))
    if options.port or options.brokers > 1:
        raise StackError(
            "the embedded broker is one and chooses its own port", "drop --kafka-port, or use --broker kafka"
        )
    return await start_embedded_broker(options.data)


async def _available() -> Literal["kafka", "embedded"]:
    if find_java() is None:
        return "embedded"
    if cached_libs() is None:
        if not can_fetch():
            return "embedded"
        try:
            await fetch_libs()
        except StackError:  # no network, for one: nobody asked for Apache Kafka by name
            return "embedded"
    return "kafka"
