"""What Redis does when it is full, restarted, replicated or slow to be read from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from redis.asyncio import Redis

from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import export, redis_cli
from neverstale.ops.doctor.allowed import allowed_by_redis
from neverstale.ops.servers import redis_configs
from neverstale.settings import RedisSettings, Settings

FULL: Final = 0.9
HALF: Final = 0.5
LAG_SECONDS: Final = 10
HARD_BYTES: Final = 32 << 20
SOFT_BYTES: Final = 8 << 20
"""Redis's own limits for subscribers. A batch of 8,000 changes is announced in about half a megabyte."""
_CONFIGS: Final = (
    "save",
    "appendonly",
    "appendfsync",
    "stop-writes-on-bgsave-error",
    "client-output-buffer-limit",
    "min-replicas-to-write",
)

_memory, _persistence = about("memory", "redis"), about("persistence", "redis")
_replicas, _pubsub = about("replicas", "redis"), about("pubsub", "redis")

Facts = Mapping[str, Any]


async def look_at_server(client: Redis, settings: Settings) -> list[Finding]:
    info = await client.info("everything")
    told = await allowed_by_redis(
        _persistence, settings.redis, lambda: redis_configs(client, *_CONFIGS), "config|get"
    )
    unknown = [told] if isinstance(told, Finding) else []
    configs: Facts = {} if isinstance(told, Finding) else told
    return [
        *unknown,
        *memory(info, settings.redis),
        *persistence(info, configs, settings),
        *replicas(info, configs, settings.redis),
        *pubsub(configs, settings.redis),
    ]


def memory(info: Facts, settings: RedisSettings) -> Iterable[Finding]:
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    machine, policy = int(info.get("total_system_memory", 0)), info.get("maxmemory_policy", "noeviction")
    half = redis_cli(settings, f"CONFIG SET maxmemory {int(machine * HALF) >> 20}mb")
    if most and used > most * FULL and policy == "noeviction":
        message = f"{_mib(used)} of {_mib(most)} are used and the policy is noeviction: soon nothing new is cached"
        yield _memory("problem", "full", message, redis_cli(settings, "CONFIG SET maxmemory-policy volatile-lfu"))
    elif most > machine * FULL > 0:
        message = f"maxmemory is {_mib(most)}, and the machine has {_mib(machine)}: the system ends Redis before that"
        yield _memory("warning", "memory-above-machine", message, half)
    elif not most and used > machine * HALF > 0:
        message = f"{_mib(used)} are used without a limit, more than half of the machine's {_mib(machine)}"
        yield _memory("warning", "memory-unlimited", message, half)
    else:
        yield _memory.well(f"{_mib(used)} of {_mib(most) if most else _mib(machine)} used")


def persistence(info: Facts, configs: Facts, settings: Settings) -> Iterable[Finding]:
    """A cache need not be kept. What is kept must neither stop writes nor come back too old."""
    redis, replay = settings.redis, settings.consumer.replay_seconds
    if info.get("aof_last_write_status") == "err":
        message = "Redis cannot write its append-only file, and refuses all writes"
        yield _persistence("problem", "disk-refuses", message, redis_cli(redis, "CONFIG SET appendonly no"))
    elif info.get("rdb_last_bgsave_status") == "err" and _stops_writes(configs):
        message = "Redis could not write its last snapshot to disk, and refuses all writes"
        commands = ("CONFIG SET save ''", "CONFIG SET stop-writes-on-bgsave-error no")
        remedy = "\n".join(redis_cli(redis, command) for command in commands)
        yield _persistence("problem", "disk-refuses", message, remedy)
    elif configs.get("appendonly") == "yes" and configs.get("appendfsync") == "always":
        message = "appendfsync is always: every write waits for the disk, and each change with it"
        yield _persistence("warning", "disk-waits", message, redis_cli(redis, "CONFIG SET appendfsync everysec"))
    elif configs.get("save") and configs.get("appendonly") == "no" and (rarest := _rarest(configs["save"])) > replay:
        message = (
            f"a snapshot may be {rarest} s old, and consumers apply no more than consumer.replay_seconds={replay} "
            "again: after a restart all that was restored is void"
        )
        remedy = redis_cli(redis, "CONFIG SET save ''")
        yield _persistence(
            "warning", "snapshots-too-old", message, f"{remedy}\n# or: {export('consumer.replay_seconds', rarest)}"
        )
    elif configs:
        kept = "snapshots" if configs.get("save") else "nothing"
        yield _persistence.well(f"keeps {'an append-only file' if configs.get('appendonly') == 'yes' else kept}")


def _stops_writes(configs: Facts) -> bool:
    """Whether Redis refuses writes after a snapshot that failed; where it may not be asked, as it does by itself."""
    return bool(configs.get("save", "?")) and configs.get("stop-writes-on-bgsave-error", "yes") == "yes"


def _rarest(save: str) -> int:
    """Seconds after which one change is in a snapshot: the longest of "3600 1 300 100 60 10000"."""
    return max((int(number) for number in save.split()[::2]), default=0)


def replicas(info: Facts, configs: Facts, settings: RedisSettings) -> Iterable[Finding]:
    connected = int(info.get("connected_slaves", 0))
    needed = int(configs.get("min-replicas-to-write") or 0)
    if needed > int(info.get("min_slaves_good_slaves", connected)):
        message = f"min-replicas-to-write is {needed} and fewer are well: Redis refuses all writes"
        yield _replicas(
            "problem", "too-few-replicas", message, redis_cli(settings, "CONFIG SET min-replicas-to-write 0")
        )
        return
    behind = [
        f"{one['ip']}:{one['port']}"
        for one in (info[f"slave{number}"] for number in range(connected))
        if one["state"] != "online" or int(one.get("lag", 0)) > LAG_SECONDS
    ]
    if behind:
        message = (
            f"replica {', '.join(behind)} is behind: a failover to it loses what it lacks, which is applied again"
        )
        yield _replicas("warning", "replica-behind", message, redis_cli(settings, "INFO replication"))
    else:
        yield _replicas.well(f"{connected} replica{'' if connected == 1 else 's'}")


def pubsub(configs: Facts, settings: RedisSettings) -> Iterable[Finding]:
    """An API process that reads slower than that is thrown off the channel, and empties its memory."""
    told = str(configs.get("client-output-buffer-limit", "")).split()
    limits = {told[at]: told[at + 1 : at + 4] for at in range(0, len(told), 4)}
    if "pubsub" not in limits:
        return
    hard, soft, seconds = (int(number) for number in limits["pubsub"])
    if 0 < hard < HARD_BYTES or 0 < soft < SOFT_BYTES:
        message = (
            f"subscribers that have {_mib(hard)} unread, or {_mib(soft)} for {seconds} s, are cut off: while many "
            "changes are applied, processes of the API lose what they hold in memory"
        )
        better = f"CONFIG SET client-output-buffer-limit 'pubsub {HARD_BYTES} {SOFT_BYTES} 60'"
        yield _pubsub("warning", "subscribers-cut", message, redis_cli(settings, better))
    else:
        yield _pubsub.well(f"subscribers may have {_mib(hard) if hard else 'any number of bytes'} unread")


def _mib(number: int) -> str:
    return f"{number / 2**20:.0f} MiB"
