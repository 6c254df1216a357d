"""`neverstale demo`: the departures board on the whole pipeline, checked answer by answer."""

import asyncio
import json
import tempfile
import time
import webbrowser
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Final

from rich.console import Console

from neverstale.catalog import Catalog
from neverstale.ops.demo import boards
from neverstale.ops.demo.chaos import Recovery, Saboteur, kill_each
from neverstale.ops.demo.crowd import Crowd, entry_keys, gather
from neverstale.ops.demo.flights.board import Document, week
from neverstale.ops.demo.flights.play import demo_catalog
from neverstale.ops.demo.flights.player import Player
from neverstale.ops.demo.flights.writers import Writers
from neverstale.ops.demo.live import Live, LiveMoment
from neverstale.ops.demo.page.showing import shown
from neverstale.ops.demo.places import places
from neverstale.ops.demo.readers import PER_SECOND, READERS
from neverstale.ops.demo.report import Counts, Run, TimesHeard, figures, show
from neverstale.ops.demo.sweep import NotConverged, Sweep, converge, fields_of, sweep
from neverstale.ops.stack.board import Board
from neverstale.ops.stack.broker import BrokerChoice
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import at_once
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.ops.terminal import output
from neverstale.ops.truth.oracle import Writes, judge
from neverstale.ops.up import AS_ASKED, FOUND_A_PROBLEM, Interrupts, interruptible

LAST_WRITES_SECONDS: Final = 60.0
"""A write gives up before; several may wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    seconds: float = 20
    json: Path | None = None
    """Also write the figures here."""
    broker: BrokerChoice = "auto"
    data: Path | None = None
    """Keep the servers' data here; the collections of the demo are emptied first."""
    consumers: int = 2
    readers: int = READERS
    reads_per_second: float = PER_SECOND
    """Questions of all readers together, at most. Less than what they could ask: at its limit every pipeline is late,
    and how late it is else would not be seen."""
    writes_per_second: float = 200
    """Documents, not operations."""
    chaos: bool = False
    """Kill every role and server once."""
    sabotage: bool = False
    """Spoil the cache behind everybody's back: the oracle must find something."""
    seed: int = 1
    open: bool = False
    """Show the board in a browser."""


def demo(options: DemoOptions, console: Console | None = None) -> int:
    """Returns 0 if every answer kept its word and nothing was stale after convergence, else 1."""
    return asyncio.run(_demo(options, console or output.console()))


async def _demo(options: DemoOptions, console: Console) -> int:
    with interruptible(console) as interrupts:
        try:
            run = await _on_stack(options, console, interrupts)
        except (StackError, NotConverged) as error:
            console.out(str(error))
            return FOUND_A_PROBLEM
        except asyncio.CancelledError:
            if not interrupts.asked:
                raise
            interrupts.story.uncancel()
            console.out("Stopped before the end: nothing was checked.")
            return FOUND_A_PROBLEM
    show(run, console)
    if options.json is not None:
        options.json.write_text(json.dumps(figures(run), indent=2) + "\n")
    return AS_ASKED if run.clean else FOUND_A_PROBLEM


async def _on_stack(options: DemoOptions, console: Console, interrupts: Interrupts) -> Run:
    catalog = demo_catalog()
    stack_options = StackOptions(data=options.data, catalog=catalog, broker=options.broker)
    async with AsyncExitStack() as exits:
        writes = Writes()
        with Board(console) as board:
            stack = interrupts.stack = await exits.enter_async_context(LocalStack.start(stack_options, board))
            writers = Writers(stack.mongo_uri, Catalog.load(catalog).database, week(), writes)
            await exits.enter_async_context(writers)
            await writers.load()
            await stack.start_roles(options.consumers)
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="neverstale-demo-")))
        asking = gather(
            stack, folder, readers=options.readers, per_second=options.reads_per_second, seed=options.seed
        )
        crowd = await exits.enter_async_context(asking)
        try:
            return await Play(options, console, stack, writers, writes, crowd).shown_run(catalog)
        except NotConverged as error:
            # The logs may be gone when this is read.
            raise NotConverged("\n".join([str(error), *(each.obituary for each in stack.processes)])) from error


async def _ended(playing: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(LAST_WRITES_SECONDS):
            await playing
    except TimeoutError:
        raise NotConverged(
            f"writes were still under way {LAST_WRITES_SECONDS:g} s after the last one began"
        ) from None


class Play:
    """One run on a stack that is ready."""

    def __init__(
        self,
        options: DemoOptions,
        console: Console,
        stack: LocalStack,
        writers: Writers,
        writes: Writes,
        crowd: Crowd,
    ) -> None:
        self._options = options
        self._stack = stack
        self._writers = writers
        self._writes = writes
        self._crowd = crowd
        self._player = Player(week(), writers, options.writes_per_second, self._show_now)
        self._live = Live(console, options.seconds, self._moment, self._clock)
        self._recoveries: list[Recovery] = []
        self._saboteur = Saboteur(stack.redis_url, entry_keys(week())) if options.sabotage else None

    async def shown_run(self, catalog: Path) -> Run:
        """As `run`, with the board in a browser meanwhile if that is wanted."""
        if not self._options.open:
            return await self.run(catalog)
        async with shown(self._stack, self._player) as page:
            self._live.tell(f"The board: {page}")
            await asyncio.to_thread(webbrowser.open, page)
            return await self.run(catalog)

    async def run(self, catalog: Path) -> Run:
        """Write and read, let the cache catch up, look at everything once, and judge."""
        started = time.monotonic()
        await self._replay()
        seconds = time.monotonic() - started
        counts = Counts(**{field.name: self._crowd.gauges[field.name] for field in fields(Counts)})
        died = self._died()
        converged = await converge(self._stack.api_url, self._writes.last_version)
        await self._crowd.stop()
        stored = await self._writers.stored()
        swept = await self._sweep(catalog, stored)
        heard = TimesHeard()
        return Run(
            stack=self._servers(),
            seconds=seconds,
            changes=self._player.changes,
            weeks=self._player.weeks,
            failed_writes=self._writers.turns.failed,
            counts=counts,
            converged_seconds=converged,
            verdict=judge(self._writes, heard.each(self._crowd.reads())),
            heard=heard,
            sweep=swept,
            boards=await boards.check(self._stack.api_url, stored["flights"], fields_of(catalog, "flights")),
            corrections=self._crowd.corrections(week(), self._writes),
            died=died,
            recoveries=self._recoveries if self._options.chaos else None,
        )

    async def _sweep(self, catalog: Path, stored: Mapping[str, Mapping[str, Document]]) -> Sweep:
        if self._saboteur is not None:
            await self._saboteur.spoil_finally(stored["flights"])
        return await sweep(self._stack.api_url, places(week()), stored, catalog)

    def _servers(self) -> dict[str, str]:
        stack = self._stack
        return {
            "mongodb": stack.mongod.description,
            "kafka": stack.kafka.description,
            "redis": stack.redis.description,
        }

    def _show_now(self, place: int) -> None:
        self._crowd.gauges["now"] = place

    def _clock(self) -> str:
        return f"{week().flights[self._crowd.gauges['now']].sched_dep:%a %d %b %H:%M} UTC"

    def _moment(self) -> LiveMoment:
        gauges = self._crowd.gauges
        return LiveMoment(time.monotonic(), self._player.changes, gauges["documents"], gauges["hits"])

    async def _replay(self) -> None:
        stop = asyncio.Event()
        async with at_once() as group:
            wanted = boards.paths(flight.document for flight in week().flights)
            looking = boards.look(self._stack.api_url, wanted, Random(self._options.seed))
            others = [group.create_task(self._live.show()), group.create_task(looking)]
            if self._saboteur is not None:
                others.append(group.create_task(self._saboteur.spoil(lambda: self._crowd.gauges["now"])))
            playing = group.create_task(self._player.play(stop))
            trouble = group.create_task(self._trouble())
            await asyncio.sleep(self._options.seconds)
            await trouble
            stop.set()
            await _ended(playing)
            for other in others:
                other.cancel()

    async def _trouble(self) -> None:
        if self._options.chaos:
            self._recoveries = await kill_each(self._stack, self._live.tell)

    def _died(self) -> list[str]:
        return [process.obituary for process in self._stack.processes if not process.alive] + self._crowd.dead
