"""The week of flights as documents."""

from datetime import UTC, datetime

import pytest

from neverstale.keys import parse
from neverstale.ops.demo.flights.board import week


def test_the_week_has_all_its_flights_and_cancellations() -> None:
    flights = week().flights
    assert len(flights) == 6104
    assert sum(flight.cancelled for flight in flights) == 929


def test_every_flight_has_a_key_of_its_own() -> None:
    assert len({flight.key for flight in week().flights}) == 6104


def test_keys_are_valid_and_readable() -> None:
    keys = {flight.key for flight in week().flights}
    assert "2013-02-04:UA650:LGA" in keys
    assert all(parse(key, "string") == key for key in keys)


def test_airlines_and_airports_are_there() -> None:
    assert len(week().airlines) == 16 and len(week().airports) == 1458
    assert {flight.carrier for flight in week().flights} <= {airline["_id"] for airline in week().airlines}


def test_times_are_utc() -> None:
    flight = next(flight for flight in week().flights if flight.key == "2013-02-04:US1117:EWR")
    # Scheduled 5:00 to 6:48, both Eastern time.
    assert flight.sched_dep == datetime(2013, 2, 4, 10, 0, tzinfo=UTC)
    assert flight.sched_arr == datetime(2013, 2, 4, 11, 48, tzinfo=UTC)


def test_no_scheduled_flight_takes_longer_than_to_hawaii() -> None:
    hours = [(flight.sched_arr - flight.sched_dep).total_seconds() / 3600 for flight in week().flights]
    assert min(hours) > 0.5 and max(hours) < 12


def test_flights_stand_in_order_of_departure() -> None:
    departures = [flight.sched_dep for flight in week().flights]
    assert departures == sorted(departures)


def test_a_document_starts_as_scheduled_and_knows_no_delay() -> None:
    document = week().flights[0].document
    assert document["status"] == "scheduled" and not document["cancelled"] and "dep_delay" not in document


@pytest.mark.parametrize("place", [0, 3000, 6103])
def test_documents_are_not_shared(place: int) -> None:
    assert week().flights[place].document is not week().flights[place].document
