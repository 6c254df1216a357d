"""What was used recently stays, within its bytes."""

from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.reads.recently_used import OVERHEAD, Recent


@given(st.lists(st.tuples(st.sampled_from("gpd"), st.integers(0, 30), st.integers(0, 400)), max_size=200))
def test_what_is_recent_never_exceeds_its_bytes_and_never_lies(steps: list[tuple[str, int, int]]) -> None:
    recent, truth = Recent(5000), dict[bytes, bytes]()
    for step, number, size in steps:
        key = b"%d" % number
        if step == "p":
            truth[key] = b"%d" % number + b"x" * size
            recent.put(key, truth[key])
        elif step == "d":
            truth.pop(key, None)
            recent.drop(key)
        else:
            assert recent.get(key) in (None, truth.get(key))
        held = recent._young | recent._old
        assert sum(len(key) + len(value) + OVERHEAD for key, value in held.items()) <= 5000


def test_what_is_used_outlives_what_is_not() -> None:
    recent = Recent(40 * (OVERHEAD + 12))
    recent.put(b"hot", b"x" * 8)
    for number in range(500):
        recent.put(b"%04d" % number, b"x" * 8)
        assert recent.get(b"hot") is not None
    assert recent.get(b"0000") is None
