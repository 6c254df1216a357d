"""The departures board: one week of real flights from New York's airports, as documents.

6,104 flights of 4-10 February 2013, of which 929 were cancelled (a blizzard), with airlines and airports.
Gates are made up: the source has none.
"""

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias
from zlib import crc32

Document: TypeAlias = dict[str, Any]

NOT_AVAILABLE = "NA"
CARIBBEAN_TZ = -4
"""The four airports that the list of airports lacks are in Puerto Rico and on the Virgin Islands."""
GATES = {"EWR": 70, "JFK": 80, "LGA": 60}


@dataclass(frozen=True, slots=True)
class ScheduledFlight:
    """One scheduled flight and what became of it. Times are UTC, delays are minutes."""

    key: str
    """The document's `_id`, e.g. `2013-02-04:UA650:LGA`."""
    carrier: str
    number: int
    tailnum: str | None
    origin: str
    dest: str
    day: str
    sched_dep: datetime
    sched_arr: datetime
    dep_delay: int | None
    """None: it never left."""
    arr_delay: int | None
    """None: it never left, or it landed elsewhere."""
    gate: str

    @property
    def cancelled(self) -> bool:
        return self.dep_delay is None

    @property
    def document(self) -> Document:
        """As it stands in the schedule, before anything has happened."""
        document: Document = {
            "_id": self.key,
            "carrier": self.carrier,
            "flight": self.number,
            "origin": self.origin,
            "dest": self.dest,
            "day": self.day,
            "sched_dep": self.sched_dep,
            "sched_arr": self.sched_arr,
            "gate": self.gate,
            "status": "scheduled",
            "cancelled": False,
        }
        if self.tailnum is not None:
            document["tailnum"] = self.tailnum
        return document


@dataclass(frozen=True, slots=True)
class Week:
    flights: tuple[ScheduledFlight, ...]
    """In order of scheduled departure: the order of the board."""
    airlines: tuple[Document, ...]
    airports: tuple[Document, ...]


@cache
def week() -> Week:
    """The whole week, read from the files that come with this package."""
    airports = [_airport(row) for row in _rows("airports.csv")]
    offsets = {airport["_id"]: airport["tz"] for airport in airports}
    flights = [_flight(row, offsets) for row in _rows("flights-2013-02-04-to-10.csv.gz")]
    flights.sort(key=lambda flight: (flight.sched_dep, flight.key))
    airlines = [{"_id": row["carrier"], "name": row["name"]} for row in _rows("airlines.csv")]
    return Week(tuple(flights), tuple(airlines), tuple(airports))


def _rows(name: str) -> list[dict[str, str]]:
    data = (files("neverstale.ops.demo") / "data" / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    return list(csv.DictReader(io.StringIO(text)))


def _airport(row: dict[str, str]) -> Document:
    return {
        "_id": row["faa"],
        "name": row["name"],
        "lat": float(row["lat"]),
        "lon": float(row["lon"]),
        "alt": int(row["alt"]),
        "tz": int(row["tz"]),
        "dst": row["dst"],
        "tzone": row["tzone"],
    }


def _flight(row: dict[str, str], offsets: dict[str, int]) -> ScheduledFlight:
    day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    key = f"{day}:{row['carrier']}{row['flight']}:{row['origin']}"
    # `time_hour` is the scheduled hour in UTC; the minutes stand beside it.
    departure = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
    return ScheduledFlight(
        key=key,
        carrier=row["carrier"],
        number=int(row["flight"]),
        tailnum=None if row["tailnum"] == NOT_AVAILABLE else row["tailnum"],
        origin=row["origin"],
        dest=row["dest"],
        day=day,
        sched_dep=departure,
        sched_arr=_arrival(departure, int(row["sched_arr_time"]), offsets.get(row["dest"], CARIBBEAN_TZ)),
        dep_delay=_minutes(row["dep_delay"]),
        arr_delay=_minutes(row["arr_delay"]),
        gate=gate(row["origin"], crc32(key.encode())),
    )


def _arrival(departure: datetime, hhmm: int, utc_offset_hours: int) -> datetime:
    """The first moment after departure at which clocks at the destination show `hhmm` (2400 is midnight)."""
    offset = timedelta(hours=utc_offset_hours)
    there = departure.astimezone(UTC) + offset
    midnight = there.replace(hour=0, minute=0)
    arrival = midnight + timedelta(hours=hhmm // 100, minutes=hhmm % 100)
    return (arrival if arrival > there else arrival + timedelta(days=1)) - offset


def _minutes(text: str) -> int | None:
    return None if text == NOT_AVAILABLE else int(text)


def gate(airport: str, number: int) -> str:
    """One of the airport's gates, e.g. `B17`."""
    within = number % GATES[airport]
    return f"{'ABCD'[within // 20]}{within % 20 + 1}"
