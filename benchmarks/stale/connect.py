"""Kafka Connect as one process (standalone), with the connector of mongo-kafka or Debezium, as they ship.

Maven fetches each once into the user's cache folder, beside the jars of the broker.
"""

import asyncio
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from neverstale.ops.http_client import Connection
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.kafka.libs import COPY_DEPENDENCIES, KAFKA_VERSION, cached_libs, find_java
from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.ops.stack.process import Launch

RUNTIME: Final = (
    ("org.apache.kafka", "connect-runtime", KAFKA_VERSION),
    ("org.apache.kafka", "connect-json", KAFKA_VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
)
JVM: Final = ("-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
FETCH_SECONDS: Final = 240.0
READY_SECONDS: Final = 100.0
ANSWER_SECONDS: Final = 2.0
OK: Final = 200
NO_KAFKA: Final = "Apache Kafka's jars are not here"
REMEDY: Final = "install a JDK of version 17 or later and Maven"

OFFSETS_MS: Final = 1000
"""As it ships, a minute passes until where it is is noted for the first time; whoever is killed before that has lost
all that happened until it runs again. Here it would always be before that."""
WORKER: Final = """\
bootstrap.servers={kafka}
key.converter={converter}
value.converter={converter}
key.converter.schemas.enable=false
value.converter.schemas.enable=false
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms={offsets_ms}
listeners=http://{host}:{port}
"""


@dataclass(frozen=True, slots=True)
class Connector:
    artefact: tuple[str, str, str]
    converter: str
    properties: str
    """All else is as it ships."""
    topic: str
    """Into which it writes."""

    @property
    def version(self) -> str:
        return self.artefact[2]


CONNECTORS: Final = {
    "mongo-kafka": Connector(
        ("org.mongodb.kafka", "mongo-kafka-connect", "2.0.1"),
        "org.apache.kafka.connect.storage.StringConverter",
        """\
connector.class=com.mongodb.kafka.connect.MongoSourceConnector
connection.uri={mongodb}
database=nyc
collection=flights
change.stream.full.document=updateLookup
output.json.formatter=com.mongodb.kafka.connect.source.json.formatter.SimplifiedJson
""",
        "nyc.flights",
    ),
    "debezium": Connector(
        ("io.debezium", "debezium-connector-mongodb", "3.3.1.Final"),
        "org.apache.kafka.connect.json.JsonConverter",
        """\
connector.class=io.debezium.connector.mongodb.MongoDbConnector
mongodb.connection.string={mongodb}
topic.prefix=board
collection.include.list=nyc.flights
""",
        "board.nyc.flights",
    ),
}


async def launch(kind: str, folder: Path, mongodb: str, kafka: str) -> Launch:
    """How to run a worker with one connector. `StackError`: something that it needs is not here."""
    java, port = find_java(), free_port()
    connector = CONNECTORS[kind]
    libs = await fetched(kind, connector)
    if java is None:
        raise StackError("Kafka Connect needs Java", REMEDY)
    worker, source = folder / f"{kind}-worker.properties", folder / f"{kind}.properties"
    worker.write_text(
        WORKER.format(
            kafka=kafka,
            converter=connector.converter,
            folder=folder,
            offsets_ms=OFFSETS_MS,
            host=LOOPBACK,
            port=port,
        )
    )
    source.write_text(f"name={kind}\n{connector.properties.format(mongodb=mongodb)}")
    return Launch(
        name="connect",
        argv=(java, *JVM, "-cp", f"{libs}/*", "org.apache.kafka.connect.cli.ConnectStandalone", worker, source),
        log=folder / "logs" / f"{kind}.log",
        ready=partial(_runs, port, kind),
        ports=(port,),
        ready_seconds=READY_SECONDS,
    )


async def _runs(port: int, kind: str) -> bool:
    """Whether its task does: the worker answers long before that."""
    with suppress(OSError, TimeoutError, ValueError, KeyError):
        connection = await Connection.open(f"http://{LOOPBACK}:{port}")
        try:
            answer = await connection.get(f"/connectors/{kind}/tasks/0/status", ANSWER_SECONDS)
        finally:
            connection.close()
        return answer.status == OK and bool(orjson.loads(answer.body)["state"] == "RUNNING")
    return False


async def fetched(kind: str, connector: Connector) -> Path:
    """The folder with the jars; they are fetched if they are not here."""
    kafka = cached_libs()
    if kafka is None:
        raise StackError(NO_KAFKA, "run `neverstale up --broker kafka` once")
    target = kafka.with_name(f"connect-{KAFKA_VERSION}-{kind}-{connector.version}")
    if not target.is_dir():
        maven = shutil.which("mvn")
        if maven is None:
            raise StackError("Kafka Connect is not here, and Maven (mvn) is not either", REMEDY)
        with tempfile.TemporaryDirectory(dir=kafka.parent, prefix=".fetch-") as name:
            await _fetch(maven, Path(name), connector)
            (Path(name) / "libs").rename(target)
    return target


async def _fetch(maven: str, folder: Path, connector: Connector) -> None:
    wanted = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in (connector.artefact, *RUNTIME)
    )
    head = '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    who = "<groupId>neverstale</groupId><artifactId>connect</artifactId><version>1</version>"
    pom = folder / "pom.xml"
    pom.write_text(f"{head}{who}<dependencies>{wanted}</dependencies></project>")
    argv = [maven, "-B", "-q", "-f", str(pom), COPY_DEPENDENCIES, f"-DoutputDirectory={folder}/libs"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise StackError(f"Maven could not fetch Kafka Connect: {said.decode()[-500:]}", REMEDY)
