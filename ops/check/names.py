"""The name of each thing that `neverstale check` and `neverstale doctor` may find wrong: a closed list.

A message is for people and may be reworded; a name stays, so that scripts and alerts can go by it. A test provokes
each of them on a real server (tests/unit/ops/check/test_names.py compares the two lists).
"""

from typing import Final, Literal

DoctorName = Literal[
    # the settings, and who may ask
    "lease-too-short",
    "keys-unreadable",
    "nobody-can-read",
    "open-to-everybody",
    "exposed",
    "mongodb-open",
    "redis-open",
    # whether servers answer, and as what
    "no-answer",
    "login-refused",
    "another-set",
    "members-unreachable",
    "reads-refused",
    "kafka-refuses",
    "redis-is-cluster",
    "redis-is-no-cluster",
    "redis-is-replica",
    "too-old",
    "known-bad",
    "no-wall-times",
    # the replica set
    "no-replica-set",
    "never-initiated",
    "no-primary",
    "sharded",
    "member-down",
    "member-behind",
    "delayed-voter",
    "arbiter",
    "majority-stands",
    # what is read from MongoDB, and by whom
    "no-collection",
    "nothing-tells",
    "other-keys",
    "mixed-keys",
    "rights-too-narrow",
    "rights-too-wide",
    "writes-elsewhere",
    "no-index",
    "index-unfit",
    "index-not-unique",
    "index-not-made",
    "index-does-not-help",
    "not-explained",
    "reference-no-key",
    "references-unread",
    "position-lost",
    "position-old",
    "oplog-short",
    # topics
    "more-replicas-than-brokers",
    "topic-not-creatable",
    "other-partitions",
    "unfit",
    "small-batches",
    "forgets-too-soon",
    "forgets-sooner",
    "forgets-by-size",
    "leaderless",
    "not-in-sync",
    "few-replicas",
    "one-replica",
    "min-isr-above-replicas",
    "min-isr-all",
    "min-isr-one",
    "unclean-election",
    # roles, the group, and how far it is
    "role-missing",
    "no-member",
    "shared-out",
    "partition-unowned",
    "idle-consumers",
    "unnamed-consumers",
    "stuck",
    "no-mark",
    "watermark-stands",
    # Redis
    "full",
    "memory-above-machine",
    "memory-unlimited",
    "noeviction",
    "volatile-ttl",
    "no-script-flags",
    "disk-refuses",
    "disk-waits",
    "snapshots-too-old",
    "too-few-replicas",
    "replica-behind",
    "subscribers-cut",
    # … of many nodes
    "cluster-down",
    "slots-uncovered",
    "node-failed",
    "master-alone",
    # connections and clocks
    "connections-short",
    "connections-close",
    "member-clock",
    "host-clock",
]
ConsoleName = Literal[
    "process-silent",
    "process-says",
    "letters-left",
    "answers-were-wrong",
]
"""What only somebody sees who looks on for longer."""
FindingName = Literal[DoctorName, ConsoleName]

WELL: Final = "well"
"""The name of what is as it should be."""
UNSEEN: Final = "unseen"
"""… and of what could not be looked at."""
