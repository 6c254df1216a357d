"""Who asks for what does not exist: what is remembered of keys, and how many absences may be kept."""

from neverstale.api.reads.unknown_keys import BURST_SECONDS, Doorkeeper, SeenKeys
from neverstale.settings import Api
from tests.support.clock import Clock


def keys(start: int, count: int) -> list[bytes]:
    return [b"ns:things:d:s:%d" % number for number in range(start, start + count)]


def doorkeeper(clock: Clock, per_second: float = 10) -> Doorkeeper:
    return Doorkeeper(Api(absences_per_second=per_second), clock)


def test_what_was_met_is_known_and_hardly_anything_else() -> None:
    seen = SeenKeys()
    for key in keys(0, 20_000):
        seen.add(key)
    assert all(key in seen for key in keys(0, 20_000))
    assert sum(key in seen for key in keys(10**6, 20_000)) < 20_000 / 500


def test_full_filters_still_tell_most_strangers() -> None:
    seen = SeenKeys(50_000)
    for key in keys(0, 100_000):
        seen.add(key)
    assert sum(key in seen for key in keys(10**6, 20_000)) < 20_000 / 500


def test_what_was_met_long_ago_is_forgotten_and_what_was_met_lately_is_not() -> None:
    seen = SeenKeys(keys=10)
    for key in keys(0, 30):
        seen.add(key)
    assert not any(key in seen for key in keys(0, 10))
    assert all(key in seen for key in keys(20, 10))


def test_a_document_makes_its_key_known() -> None:
    keeper = doorkeeper(Clock())
    assert not keeper.knows(b"a")
    keeper.met(b"a")
    assert keeper.knows(b"a")
    assert not keeper.knows(b"b")


def test_of_a_flood_of_made_up_ids_only_half_of_the_budget_is_kept() -> None:
    keeper = doorkeeper(Clock())
    assert sum(map(keeper.admits, keys(0, 5000))) == 10 * BURST_SECONDS / 2


def test_what_a_flood_leaves_is_for_absences_that_are_found_again() -> None:
    keeper = doorkeeper(Clock())
    for key in keys(0, 1000):
        keeper.admits(key)
    assert keeper.admits(keys(900, 1)[0])
    assert not keeper.admits(b"never seen before")


def test_even_ids_that_are_asked_for_again_are_not_all_kept() -> None:
    keeper = doorkeeper(Clock())
    asked = [*keys(0, 1000), *keys(0, 1000)]
    assert sum(map(keeper.admits, asked)) == 10 * BURST_SECONDS


def test_the_budget_comes_back_with_time() -> None:
    clock = Clock()
    keeper = doorkeeper(clock)
    for key in [*keys(0, 1000), *keys(0, 1000)]:
        keeper.admits(key)
    clock.now += 3
    assert sum(map(keeper.admits, keys(0, 1000))) == 30
