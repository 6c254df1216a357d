"""The scripts of derived data: the in-memory Redis and real ones give the same answers and hold the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from neverstale.links.redis_refusals import is_of_rights
from neverstale.ops.privileges.redis import called_by
from tests.contract.conftest import REAL, connect
from tests.contract.subjects import InMemory, RealRedis, Subject
from tests.support.lua_collections import CollectionsRedis

EPOCH, OTHER = b"e" * 16, b"f" * 16


def v(number: int) -> bytes:
    return b"%016x" % number


class InMemoryCollections(InMemory):
    def __init__(self) -> None:
        self.redis: CollectionsRedis = CollectionsRedis()


@pytest.fixture(params=["in-memory", *REAL])
def subject(request: pytest.FixtureRequest, prefix: bytes) -> Iterator[Subject]:
    if request.param == "in-memory":
        yield InMemoryCollections()
    else:
        yield from connect(request.getfixturevalue(REAL[request.param]), prefix)


class Resource:
    """A generation of one list, counter and ranking on a subject."""

    def __init__(self, subject: Subject, prefix: bytes, *, lay: bool = True) -> None:
        self.subject = subject
        self.gens, self.partitions, self.bucket, self.counter, self.sizes, self.tags = (
            prefix + name for name in (b"gens", b"p", b"b", b"c", b"k", b"t")
        )
        self.top = prefix + b"z"
        self.hashes = [self.partitions, self.bucket, self.counter, self.sizes, self.tags]
        if lay:
            subject.command("SET", self.gens, EPOCH + b"[]")
            for key in self.hashes:
                subject.command("HSET", key, b".g", b"")

    def begin(self, version: int, *documents: bytes) -> Any:
        pairs = [argument for document in documents for argument in (2, document)]
        return self.subject.run("begin", [self.partitions, self.bucket], 0, v(version), *pairs)

    def contribute(
        self,
        read_at: int,
        documents: list[tuple[bytes, bytes, bytes]],
        count: int = 0,
        score: bytes | None = None,
        tag: int = 0,
        epoch: bytes = EPOCH,
    ) -> Any:
        """Every document moves the count of one group, and has the score in one sorted set."""
        sets = [(7, 5, b"top")] if score is not None else []
        arguments: list[Any] = [epoch, 0, v(read_at), 6, len(documents), int(count != 0), len(sets)]
        arguments += [len(documents) * len(sets), int(tag > 0)]
        for key, held, new in documents:
            arguments += (3, key, held, new)
        if count:
            arguments += (4, b"n|x", count)
        for some in sets:
            arguments += some
            for key, _, _ in documents:
                arguments += (7, key, score)
        if tag:
            arguments += (6, b"slot", v(tag))
        return self.subject.run("contribute", [self.gens, *self.hashes, self.top], *arguments)

    def held(self) -> dict[bytes, Any]:
        scores = self.subject.command("ZRANGE", self.top, 0, -1, "WITHSCORES") if self.is_real else None
        return {key: self.subject.hash(key) for key in self.hashes} | {self.top: scores}

    @property
    def is_real(self) -> bool:
        return isinstance(self.subject, RealRedis)


@pytest.fixture
def resource(subject: Subject, prefix: bytes) -> Resource:
    return Resource(subject, prefix)


def test_a_contribution_is_created_replaced_and_removed(resource: Resource) -> None:
    assert resource.begin(5, b"k") == [b"begun", v(5), b""]
    assert resource.contribute(6, [(b"k", b"", b"one")], count=1, score=b"2.5", tag=6) == [b"done"]
    assert resource.begin(7, b"k") == [b"begun", v(7), b"one"]
    assert resource.subject.hash(resource.counter) == {b".g": b"", b"n|x": b"1"}
    assert resource.subject.hash(resource.sizes) == {b".g": b"", b"top": b"1"}
    assert resource.subject.hash(resource.tags) == {b".g": b"", b"slot": v(6)}
    assert resource.contribute(8, [(b"k", b"one", b"two")]) == [b"done"]
    assert resource.contribute(9, [(b"k", b"two", b"")], count=-1, score=b"") == [b"done"]
    assert resource.begin(9, b"k") == [b"begun", v(9), b""]
    assert resource.subject.hash(resource.counter) == {b".g": b""}
    assert resource.subject.hash(resource.sizes) == {b".g": b""}


@pytest.mark.parametrize("lacking", called_by("contribute"))
def test_what_is_refused_halfway_leaves_all_as_it_was_or_a_generation_that_is_void(
    real_redis: RealRedis, prefix: bytes, lacking: str
) -> None:
    resource = Resource(real_redis, prefix)
    assert resource.contribute(5, [(b"k", b"", b"one"), (b"l", b"", b"one")], count=2, score=b"1", tag=5) == [b"done"]
    before = resource.held()
    user, options = prefix.decode(), real_redis.redis.connection_pool.connection_kwargs
    real_redis.command("ACL", "SETUSER", user, "on", ">secret", "~*", "+@all", f"-{lacking}")
    changes = [(b"k", b"one", b"two")], [(b"k", b"two", b""), (b"l", b"one", b"")]
    try:
        with Redis(host=options["host"], port=options["port"], username=user, password="secret") as client:
            refused = Resource(RealRedis(client), prefix, lay=False)
            for documents, count, score in zip(changes, (1, -3), (b"2", b""), strict=True):
                try:
                    assert refused.contribute(6, documents, count=count, score=score, tag=6) == [b"done"]
                    before = resource.held()
                except ResponseError as error:
                    assert is_of_rights(error)
                    assert resource.held() == before or resource.begin(7, b"k") == [b"lost", 1]
                    break
    finally:
        real_redis.command("ACL", "DELUSER", user)


def test_a_partitions_register_never_falls(resource: Resource) -> None:
    assert resource.begin(7) == [b"begun", v(7)]
    assert resource.begin(5) == [b"begun", v(7)]


def test_nothing_is_created_by_a_read_before_the_register(resource: Resource) -> None:
    resource.begin(7)
    assert resource.contribute(6, [(b"k", b"", b"one")], count=1, tag=6) == [b"behind", v(7)]
    assert resource.subject.hash(resource.counter) == {b".g": b""}
    assert resource.subject.hash(resource.tags) == {b".g": b""}
    assert resource.contribute(7, [(b"k", b"", b"one")], count=1) == [b"done"]


def test_what_is_there_may_be_replaced_by_a_read_before_the_register(resource: Resource) -> None:
    resource.contribute(5, [(b"k", b"", b"one")])
    resource.begin(7)
    assert resource.contribute(6, [(b"k", b"one", b"two")]) == [b"done"]


def test_one_contribution_that_has_changed_refuses_the_whole_batch(resource: Resource) -> None:
    resource.contribute(5, [(b"k", b"", b"one"), (b"l", b"", b"one")])
    assert resource.contribute(6, [(b"k", b"one", b"two"), (b"l", b"old", b"two")], count=1) == [b"changed"]
    assert resource.contribute(6, [(b"k", b"", b"two")], count=1) == [b"changed"]
    assert resource.begin(1, b"k", b"l")[2:] == [b"one", b"one"]
    assert resource.subject.hash(resource.counter) == {b".g": b""}


def test_other_generations_refuse_the_batch(resource: Resource) -> None:
    assert resource.contribute(6, [(b"k", b"", b"one")], epoch=OTHER) == [b"epoch"]
    resource.subject.command("DEL", resource.gens)
    assert resource.contribute(6, [(b"k", b"", b"one")]) == [b"epoch"]


@pytest.mark.parametrize("lost", range(5))
def test_a_hash_that_was_lost_is_told_and_not_made_anew(resource: Resource, lost: int) -> None:
    key = resource.hashes[lost]
    resource.subject.command("DEL", key)
    assert resource.contribute(6, [(b"k", b"", b"one")], count=1, score=b"1", tag=6) == [b"lost", lost + 2]
    assert resource.subject.hash(key) == {}
    if key in (resource.partitions, resource.bucket):
        assert resource.begin(7, b"k") == [b"lost", lost + 1]
        assert resource.subject.hash(key) == {}


def test_a_sorted_set_that_lost_its_members_is_told_and_not_added_to(resource: Resource) -> None:
    resource.contribute(5, [(b"k", b"", b"one")], score=b"1")
    resource.subject.command("DEL", resource.top)
    assert resource.contribute(6, [(b"l", b"", b"one")], score=b"2") == [b"lost", 7]
    assert resource.subject.command("EXISTS", resource.top) == 0


def test_a_tag_never_falls(resource: Resource) -> None:
    resource.contribute(9, [], tag=9)
    resource.contribute(5, [], tag=5)
    assert resource.subject.hash(resource.tags)[b"slot"] == v(9)


def test_a_count_beyond_what_lua_could_add_is_exact(resource: Resource) -> None:
    large = 2**62 + 1
    resource.contribute(5, [], count=large)
    resource.contribute(6, [], count=-(2**62))
    assert resource.subject.hash(resource.counter)[b"n|x"] == b"1"
    resource.contribute(7, [], count=-1)
    assert resource.subject.hash(resource.counter) == {b".g": b""}


def test_the_register_is_replaced_only_by_who_has_read_it(subject: Subject, prefix: bytes) -> None:
    key = prefix + b"gens"
    assert subject.run("agree", [key], EPOCH, OTHER + b"[2]") == 0
    assert subject.run("agree", [key], "", EPOCH + b"[1]") == 1
    assert subject.run("agree", [key], "", OTHER + b"[2]") == 0
    assert subject.run("agree", [key], EPOCH, OTHER + b"[2]") == 1
    assert subject.command("GET", key) == OTHER + b"[2]"


VERSIONS = st.integers(1, 4)
TEXTS = st.sampled_from([b"", b"one", b"two"])
DOCUMENTS = st.lists(st.tuples(st.sampled_from([b"k", b"l"]), TEXTS, TEXTS), max_size=2, unique_by=lambda one: one[0])
STEPS = st.one_of(
    st.tuples(st.just("begin"), VERSIONS, st.sampled_from([b"k", b"l"])),
    st.tuples(
        st.just("contribute"),
        VERSIONS,
        DOCUMENTS,
        st.integers(-2, 2),
        st.sampled_from([None, b"", b"1", b"-2.5", b"9007199254740993"]),
        st.integers(0, 4),
    ),
    st.tuples(st.just("lose"), st.integers(0, 4)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=12))
def test_any_sequence_of_steps_leaves_the_same(
    real_redis: RealRedis, prefix: bytes, steps: list[tuple[Any, ...]]
) -> None:
    both = [Resource(subject, prefix) for subject in (InMemoryCollections(), real_redis)]
    real_redis.redis.delete(both[1].top, *both[1].hashes)
    both[1] = Resource(real_redis, prefix)
    for name, *arguments in steps:
        answers = [taken(one, name, arguments) for one in both]
        assert answers[0] == answers[1]
        memory, real = (one.held() for one in both)
        scores = real.pop(both[0].top)
        memory.pop(both[0].top)
        assert memory == real
        in_memory: CollectionsRedis = both[0].subject.redis  # type: ignore[attr-defined]
        assert in_memory.scores(both[0].top) == {member: float(score) for member, score in scores}


def taken(resource: Resource, name: str, arguments: list[Any]) -> Any:
    try:
        if name == "lose":
            return resource.subject.command("DEL", resource.hashes[arguments[0]])
        return getattr(resource, name)(*arguments)
    except ResponseError as error:
        return str(error).split(" ", 1)[0]
