"""Logs and the closed list of metrics.

A metric that is not declared here does not exist; docs/metrics.md lists them and a test compares the two.
Normal flow goes to metrics; a log line is a decision, with its reason and a stable event name.
"""

import logging
import platform
import sys
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from neverstale import __version__
from neverstale.role.log_repetitions import Repetitions
from neverstale.settings import Service
from neverstale.structured import structlog

REGISTRY: Final = CollectorRegistry()

LIBRARIES: Final = ("aiokafka", "pymongo", "uvicorn.access", "asyncio", "opentelemetry")

_LAG = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_FINE = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_SIZE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"neverstale_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"neverstale_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"neverstale_{name}", text, labels, registry=REGISTRY, buckets=buckets)


# every role
BUILD = _gauge("build_info", "1: this version runs, on this Python.", "version", "python")
TASKS_DIED = _counter("tasks_died", "Times a task beside a role's own work died; it was started again.", "task")

CATALOG_REFUSED = _gauge("catalog_refused", "1 while the catalog file is wrong; the one before is in use.")

# streams
CHANGES_READ = _counter("changes_read", "Change events read from MongoDB.", "operation")
RECORDS_PUBLISHED = _counter("records_published", "Records acknowledged by Kafka.", "kind")
BATCH_READ = _histogram("batch_read_size", "Change events in one non-empty batch of the stream.", _SIZE)
CAPTURE_LAG = _histogram("capture_lag_seconds", "Wall time of a batch's newest change to Kafka's ack.", _LAG)
CHECKPOINTS = _counter("checkpoints", "Positions stored.")
STREAM_OPENED = _counter("stream_opened", "Change streams opened, by how.", "how")
OPLOG_HEADROOM = _gauge(
    "oplog_headroom_seconds",
    "How far behind the stored position of a watcher that leads the oplog reaches; NaN: unknown, as where its user "
    "may not read local.oplog.rs.",
)
POSITION_LOST = _counter("position_lost", "Positions that could not be resumed; floors were published.")
WATCHER_LEADS = _gauge(
    "watcher_leads", "1 while this watcher holds the lease of its watcher group, 0 while it stands by.", "group"
)
WATCHER_TERM = _gauge("watcher_term", "Term of the last lease that this watcher held.", "group")
WATCHER_RECOVERIES = _counter("watcher_recoveries", "Times the watcher closed all and began again.", "server")
RECORDS_TOO_LARGE = _counter(
    "records_too_large",
    "Changes that no record can tell (too large for the topic, or a key too long): their collection is voided.",
    "collection",
)
TOUCHES = _counter("touches", "Documents that walks have passed.", "resource")

# consumers
RECORDS_APPLIED = _counter("records_applied", "Records applied, by kind.", "kind")
RECORDS_SKIPPED = _counter("records_skipped", "Records that needed nothing, by reason.", "reason")
RECORDS_POISON = _counter(
    "records_poison", "Unreadable records, by reason; kept as dead letters, or over the limit.", "reason", "outcome"
)
BATCH_APPLIED = _histogram("batch_applied_size", "Records applied together.", _SIZE)
APPLY_SECONDS = _histogram("apply_seconds", "Applying one batch to Redis.", _LAG)
APPLIED_LAG = _histogram("applied_lag_seconds", "Wall time of a change to its being applied.", _LAG)
INVALIDATIONS = _counter("invalidations", "Entries met by an invalidation, by what it found.", "outcome")
REFRESHES = _counter("refreshes", "Refreshes after an invalidation, by result.", "result")
COMMITS = _counter("commits", "Commits of offsets, by result; a failed one is made up for by the next.", "result")
CONSUMER_LAG = _gauge(
    "consumer_lag_records",
    "Records that this consumer's partitions of a watcher group's topic hold and it has not fetched yet.",
    "group",
)
REBALANCES = _counter("rebalances", "Times the partitions of a consumer were taken away.")
OFFSETS_LOST = _counter("offsets_lost", "Partitions that had no offset to go on at; everything cached was voided.")
TOPIC_MADE_ANEW = _counter(
    "topic_made_anew", "Partitions that turned out to be of another topic of the same name; everything was voided."
)
CONSUMER_RECOVERIES = _counter("consumer_recoveries", "Times a consumer closed its client of Kafka and began again.")
DERIVED = _counter("derived", "Documents met by what is derived from them, by outcome.", "outcome")
DERIVED_AGAIN = _counter("derived_again", "Batches of derived data that were begun again, by reason.", "reason")
DERIVED_UNSUMMABLE = _counter(
    "derived_unsummable",
    "Documents that came into a counter with a number that one of its sums cannot hold exactly.",
    "resource",
    "counter",
)
GENERATIONS_BEGUN = _counter("generations_begun", "Generations of derived data that were begun.", "resource")
REGISTERS_ESTABLISHED = _counter("registers_established", "Registers that were unknown and were given a time.")
REDIS_LACKED = _counter(
    "redis_lacked", "Partitions of which Redis lacked records: replayed, or everything voided.", "action"
)

# the auditor
AUDIT_CHECKED = _counter("audit_checked", "Answers that the auditor has compared with MongoDB.", "resource", "kind")
AUDIT_STALE = _counter(
    "audit_stale", "Of those, that missed a change of longer ago than a window, in seconds.", "resource", "window"
)
AUDIT_WRONG = _counter(
    "audit_wrong",
    "Of those, that broke their own bound (bound), showed what MongoDB did not hold (untrue), or were still wrong "
    "when asked for again (permanent).",
    "resource",
    "kind",
    "what",
)
AUDIT_UNDECIDED = _counter(
    "audit_undecided", "Answers that could not be judged: what they are about changed too fast.", "resource", "kind"
)
AUDIT_NINES = _gauge(
    "audit_nines", "Nines of answers that kept their bounds in the last hour, at least, at 95 %.", "resource"
)
AUDIT_WORST_AGE = _gauge(
    "audit_worst_age_seconds", "The oldest change that an answer of the last hour missed.", "resource"
)
AUDIT_MONGODB_READS = _counter("audit_mongodb_reads", "Reads of MongoDB by the auditor.")

KAFKA_REFUSALS = _counter("kafka_refusals", "Refusals of Kafka that only a change of configuration or rights ends.")

# the cache, in any role
FILLS = _counter("fills", "Fills offered, by result.", "result")
LEASES = _counter("leases", "Leases asked for, by answer.", "answer")
DAMAGED = _counter(
    "damaged",
    "What was found in Redis, or heard from it, that is not ours or cannot be true, by what it was.",
    "what",
)
LOADS = _counter("loads", "Snapshot reads of MongoDB.", "resource")
LOAD_SECONDS = _histogram("load_seconds", "One snapshot read of MongoDB.", _LAG)
LOAD_KEYS = _histogram("load_keys", "Documents asked for in one snapshot read.", _SIZE)
REFUSED = _counter(
    "refused", "Reads that MongoDB refused although it answers, by source and code (or name).", "source", "code"
)
REFUSING = _gauge("refusing", "1 while MongoDB refuses all reads of a source.", "source")
UNTOLD = _gauge("untold", "1 while nothing of a resource is cached, since nothing tells of its changes.", "resource")
OUTAGES = _counter("outages", "Calls that failed because a server was away.", "server")

# api
READS = _counter("reads", "Documents asked for, by how they were answered.", "resource", "how")
AUDITED = _counter("audited", "Documents, pages and figures that an auditor asked for; they are no reads.")
L1_HITS = _counter("l1_hits", "Documents answered from the memory of the process; counted as reads too.", "resource")
L1_BYTES = _gauge("l1_bytes", "Bytes of answers in the memory of the process.")
L1_VOIDED = _counter("l1_voided", "Times L1 was emptied because announcements may have been missed.")
READ_SECONDS = _histogram("read_seconds", "Answering a request that was no plain hit.", _LAG, "resource")
EXPORTS = _counter(
    "exports", "Exports by how they ended: complete, gone (client), broken, displaced, refused.", "resource", "how"
)
CONNECTIONS_CUT = _counter(
    "connections_cut",
    "Connections that were ended because their client was too slow, by what was not done in time, or because "
    "there were too many (`crowd`).",
    "why",
)
UNREAD_REFUSED = _counter("unread_refused", "Large answers refused because others wait for slow clients.")
UNREAD_BYTES = _gauge("unread_bytes", "Bytes held for clients that have not read them yet.")
LIVE_STREAMS = _gauge("live_streams", "Live reads under way.")
LIVE_READS = _counter("live_reads", "Reads for all who watch the same thing, by result.", "source", "result")
LIVE_STATES = _counter("live_states", "States sent to those who watch.", "source")
LIVE_ENDED = _counter("live_ended", "Live reads that ended or were refused, by reason.", "why")
LIMITED = _counter("limited", "Requests refused because their caller made too many.")
CALLERS_REFUSED = _counter(
    "callers_refused",
    "Requests refused for who asks: nothing shown (`none`), or what is shown is `malformed`, no `key`, no `token` of "
    "ours, `expired`, or `unknown` since nobody can tell; or he lacks a `scope`, or asks for another `tenant`'s.",
    "reason",
)
ABSENCES = _counter(
    "absences",
    "Absences found in MongoDB: kept in Redis, or withheld from it, because there were too many.",
    "outcome",
)
SHED = _counter("shed", "Reads refused to protect a server.", "server")
PROOFS = _counter(
    "proofs", "Questions by which reads of MongoDB prove their age while marks are late, by result.", "result"
)
BREAKER_OPEN = _gauge("breaker_open", "1 while reads avoid a server.", "server")
BOUND_SECONDS = _gauge("bound_seconds", "How old an answer from the cache can be at most; NaN: unknown.", "resource")
WATERMARK_AGE = _gauge(
    "watermark_age_seconds",
    "Since the wall time of the newest mark that was applied on a partition of a watcher group's topic; NaN: none, "
    "or on another Redis.",
    "group",
    "partition",
)
SERVED_BOUND = _histogram(
    "served_bound_seconds", "Bounds of answers as they went out, of some of the plain hits.", _LAG
)
HIT_SECONDS = _histogram(
    "hit_seconds",
    "Answering a plain hit, of some of them: from L1 until the end of its turn of the event loop, from L2 until the "
    "answer was written.",
    _FINE,
    "source",
)
REQUESTS = _counter(
    "requests", "Requests answered, by route (as in OpenAPI; `other`: none of those) and status.", "route", "status"
)
GENERATION = _gauge(
    "generation",
    "1 while what is derived from a resource is in this phase, as this process sees it.",
    "resource",
    "phase",
)
REDIS_CHANGED = _counter("redis_changed", "Times a connection led to another Redis than before; all was voided.")
CLOCK_ERROR = _gauge("clock_error_seconds", "Half-width of our estimate of the primary's clock.")


ProcessCollector(registry=REGISTRY)
BUILD.labels(__version__, platform.python_version()).set(1)


def configure_logging(settings: Service, stream: Any = None) -> None:
    """Logs to standard error: text on a terminal, one JSON object a line otherwise."""
    stream = stream or sys.stderr
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(Repetitions(("aiokafka", "pymongo", "opentelemetry")))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    # They speak only when something is wrong; what we decide about it is logged by us.
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Use: `log.info("position_lost", reason=..., at=...)`: an event name, then facts."""
    log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return log
