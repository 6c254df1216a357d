"""The register of generations and its transitions."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog.declarations import Declarations
from neverstale.derived.generations import Generation, Generations, UnknownFormat, decode, encode
from tests.support.damaged import JSON

DECLARED = Declarations.model_validate(
    {"lists": {"l": {"by": ["o"]}}, "counters": {"c": {"by": ["o"]}}, "rankings": {"r": {"score": "x"}}}
)
OTHER = Declarations.model_validate({"counters": {"c": {"by": ["o"]}, "d": {"by": ["p"]}}})
LIST, COUNTER = DECLARED.digests()["lists.l"], DECLARED.digests()["counters.c"]


def generation(name: str = "g", declared: Declarations = DECLARED) -> Generation:
    return Generation(name, "claimed", "here", 16, declared.text)


def complete(name: str = "g", declared: Declarations = DECLARED) -> Generations:
    building = Generations().claim(generation(name, declared)).establish(name, 5)
    return building.rebuilt(name, 0, 2).rebuilt(name, 1, 2)


def test_a_register_survives_being_written() -> None:
    register = complete().claim(generation("h"))
    assert decode(encode(register)) == register
    assert decode(None) == Generations()


def test_every_transition_makes_another_epoch() -> None:
    claimed = Generations().claim(generation())
    registers = [Generations(), claimed, claimed.establish("g", 5), claimed.establish("g", 5).rebuilt("g", 0, 2)]
    assert len({register.epoch for register in registers}) == len(registers)


def test_a_generation_serves_when_every_partition_has_applied_its_walk() -> None:
    building = Generations().claim(generation()).establish("g", 5).rebuilt("g", 1, 2)
    assert building.for_counts("counters.c", COUNTER) is None
    assert building.rebuilt("g", 1, 2) == building
    assert building.rebuilt("g", 0, 2).for_counts("counters.c", COUNTER) is not None


def test_lists_serve_from_the_birth_on() -> None:
    claimed = Generations().claim(generation())
    assert claimed.for_lists("l", LIST) is None
    assert claimed.establish("g", 5).for_lists("l", LIST) is not None


def test_a_complete_generation_takes_the_place_of_the_old_one() -> None:
    both = complete().claim(generation("h")).establish("h", 9)
    assert [one.id for one in both.all] == ["g", "h"]
    then = both.rebuilt("h", 0, 1)
    assert [one.id for one in then.all] == ["h"]
    assert [one.id for one in both.dropped_by(then)] == ["g"]


def test_a_generation_that_was_never_finished_gives_way_to_the_next() -> None:
    register = complete().claim(generation("h")).claim(generation("i"))
    assert [one.id for one in register.all] == ["g", "i"]


def test_the_first_birth_stays() -> None:
    register = Generations().claim(generation()).establish("g", 5)
    assert register.establish("g", 9) == register


def test_the_end_of_a_walk_before_its_birth_means_nothing() -> None:
    register = Generations().claim(generation())
    assert register.rebuilt("g", 0, 1) == register
    assert register.rebuilt("unknown", 0, 1) == register


def test_another_number_of_partitions_is_counted_anew() -> None:
    building = Generations().claim(generation()).establish("g", 5).rebuilt("g", 0, 2)
    assert building.rebuilt("g", 1, 3).complete is None


def test_a_floor_voids_what_was_born_before_it() -> None:
    assert complete().floor(5) == complete()
    assert complete().floor(6) == Generations()
    assert Generations().claim(generation()).floor(1) == Generations()


def test_another_redis_voids_everything() -> None:
    assert complete().on("here") == complete()
    assert complete().on("there") == Generations()
    assert complete().for_counts("counters.c", COUNTER, "there") is None


def test_a_generation_serves_what_is_declared_alike() -> None:
    register = complete(declared=OTHER)
    assert register.for_counts("counters.c", COUNTER) is not None
    assert register.for_counts("counters.d", COUNTER) is None
    assert register.for_lists("l", LIST) is None


def test_what_pages_show_is_part_of_a_lists_declaration() -> None:
    shown = DECLARED.model_copy(update={"shown": ("x",)})
    assert shown.digests()["lists.l"] != LIST
    assert shown.digests()["counters.c"] == COUNTER


def test_declarations_of_another_format_are_not_kept() -> None:
    register = Generations().claim(replace(generation(), declared='{"format": 99}'))
    assert register.for_counts("counters.c", COUNTER) is None
    assert register.readable() == Generations()


@pytest.mark.parametrize("raw", [b"", b"x" * 20, b"0" * 16 + b'[{"id":"g"}]', b"0" * 16 + b"{}1"])
def test_a_register_that_we_cannot_read_is_no_empty_one(raw: bytes) -> None:
    with pytest.raises(UnknownFormat):
        decode(raw)


HELD = Generations((Generation("0" * 8, "complete", "redis-1", 16, "{}", 5, 2, frozenset((0, 1))),))


@given(st.sampled_from(sorted(orjson.loads(encode(HELD)[16:])[0])), JSON)
def test_generations_that_say_anything_else_are_nobodys(field: str, value: Any) -> None:
    held = orjson.loads(encode(HELD)[16:])
    text = json.dumps([held[0] | {field: value}]).encode()
    for raw in (encode(HELD)[:16] + text, text):
        try:
            assert decode(raw) == HELD
        except UnknownFormat:
            continue
