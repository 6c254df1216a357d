"""Our partitioner and Kafka's are one and the same."""

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from neverstale.kafka.partitioner import murmur2, partition_of


@given(st.binary(max_size=600))
def test_murmur2_equals_the_one_of_kafka(data: bytes) -> None:
    assert murmur2(data) == reference(data)


@given(st.binary(min_size=1, max_size=80), st.integers(1, 64))
def test_the_partition_equals_the_one_of_the_default_partitioner(key: bytes, partitions: int) -> None:
    every = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, every, every)
