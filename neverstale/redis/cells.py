"""Cells: keys with one hash tag, which a Redis Cluster keeps on one node. To the protocol, a cell is a Redis.

There are two layouts. `one`: all of ours is one cell without a tag, which all partitions write; it has a watermark
for each of them. `partition`: one cell for each partition of the topic, and one for each resource of which something
is derived.

- A partition's cell holds the documents whose changes come through it. No other partition writes it.
- A resource's cell holds its contributions, tags, pages, counters and rankings. All partitions write it.

A cell has everything that the protocol asks of a Redis: registers, an account, watermarks, announcements.
"""


def document_tag(watchers: str, partitions: int, partition: int) -> str:
    """The cell of the documents of a partition of a watcher group's topic. With another number of partitions all of
    them are others: nobody writes, and soon nobody reads, the former ones."""
    return f"{watchers}.{partitions}.{partition}"
