"""Every key that the demo reads, by number: flights in the board's order, then airlines, airports and ghosts."""

from dataclasses import dataclass

from neverstale.ops.demo.flights.board import Week

GHOSTS = 200


@dataclass(frozen=True, slots=True)
class Places:
    """A key's number is its place in `paths`; writers, readers and the oracle share them."""

    resources: tuple[str, ...]
    keys: tuple[str, ...]
    flights: int
    """How many of the first are flights."""
    real: int
    """How many of the first exist at all; the rest are keys of flights that never were."""

    @property
    def paths(self) -> list[str]:
        return [f"/v1/{resource}/{key}" for resource, key in zip(self.resources, self.keys, strict=True)]

    @property
    def numbers(self) -> dict[tuple[str, str], int]:
        pairs = zip(self.resources, self.keys, strict=True)
        return {pair: number for number, pair in enumerate(pairs)}


def places(week: Week) -> Places:
    pairs = [("flights", flight.key) for flight in week.flights]
    pairs += [("airlines", airline["_id"]) for airline in week.airlines]
    pairs += [("airports", airport["_id"]) for airport in week.airports]
    ghosts = [("flights", f"2013-02-04:ZZ{number}:JFK") for number in range(GHOSTS)]
    resources, keys = zip(*pairs, *ghosts, strict=True)
    return Places(resources, keys, len(week.flights), len(pairs))
