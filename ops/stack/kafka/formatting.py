"""Making a new folder a broker's: with Kafka's own tool once, and from what it wrote ever after."""

import base64
import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from neverstale.ops.stack.kafka.jvm import Jvm
from neverstale.ops.stack.kafka.libs import kept_features
from neverstale.ops.stack.kafka.node import Node
from neverstale.ops.stack.process import Launch, RunningProcess, together


async def format_new_folders(jvm: Jvm, nodes: Sequence[Node], data: Path) -> None:
    """Their properties are written already. Folders that have been formatted stay as they are.

    Raises:
        StackError: the tool has refused one.
    """
    cluster_id = _cluster_id(data / "kafka-cluster-id")
    new = [node for node in nodes if not node.identity.exists()]
    await together(*(_format_folder(jvm, node, cluster_id) for node in new))


async def _format_folder(jvm: Jvm, node: Node, cluster_id: str) -> None:
    """With Kafka's own tool, which takes a JVM of its own, only the first time: what it writes is kept."""
    kept = kept_features(jvm.libs)
    if not _format_from(kept, node, cluster_id):
        await _run_storage_tool(jvm, node, cluster_id)
        _keep(node.features, kept)


def _format_from(kept: Path, node: Node, cluster_id: str) -> bool:
    """False: nothing is kept yet."""
    if not kept.exists():
        return False
    node.log_dirs.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, node.features)
    lines = ("version=1", f"cluster.id={cluster_id}", f"node.id={node.number}", f"directory.id={_new_id()}")
    node.identity.write_text("\n".join(lines) + "\n")
    return True


def _keep(features: Path, kept: Path) -> None:
    """Whole or not at all. Where nothing can be written, the tool runs the next time, too."""
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".keep-") as folder:
            shutil.copyfile(features, Path(folder, kept.name)).replace(kept)


async def _run_storage_tool(jvm: Jvm, node: Node, cluster_id: str) -> None:
    async def formatted() -> bool:
        return run.exit_code == 0

    arguments = ("format", f"--cluster-id={cluster_id}", "-c", node.properties)
    launch = Launch(
        name=f"kafka-{node.number}-format",
        argv=jvm.command("kafka.tools.StorageTool", *arguments),
        log=node.log,
        ready=formatted,
    )
    run = RunningProcess(launch)
    try:
        await run.until_ready()
    finally:
        run.kill()


def _cluster_id(file: Path) -> str:
    """The cluster's name, made once a data folder."""
    if not file.exists():
        file.write_text(_new_id())
    return file.read_text()


def _new_id() -> str:
    """As Kafka spells them: 16 random bytes in unpadded base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
