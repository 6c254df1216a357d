"""Negative controls: each takes one rule of ours away. The product itself has no such switches.

    python -m tests.faults.rig.sabotage 'RULE|RULE' run ROLE

starts a role in which the rules do not hold; `without(rule)` does the same within this process.
"""

from tests.faults.rig.sabotage import consumer, derived, groups, live, mongodb, protocol, reads, serving, watcher
from tests.faults.rig.sabotage.rules import RULES, SEPARATOR, without

__all__ = (
    "RULES",
    "SEPARATOR",
    "consumer",
    "derived",
    "groups",
    "live",
    "mongodb",
    "protocol",
    "reads",
    "serving",
    "watcher",
    "without",
)
