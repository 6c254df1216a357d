"""`neverstale up`: MongoDB, Kafka, Redis and every role on this machine, until Ctrl-C."""

import asyncio
import shlex
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.ops.demo.flights.play import TRY, loaded
from neverstale.ops.demo.page.showing import shown
from neverstale.ops.stack.board import Board
from neverstale.ops.stack.broker import BrokerChoice
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import at_once
from neverstale.ops.stack.revival import Revival
from neverstale.ops.stack.stack import ROLE_STOP_SECONDS, LocalStack, StackOptions
from neverstale.ops.up_settings import not_used, write_settings
from neverstale.settings import Settings
from neverstale.settings.sources import DEFAULT, Origins, fields

AS_ASKED, FOUND_A_PROBLEM, WRONG_USE = 0, 1, 2
BEYOND_DRAINING_SECONDS = 5.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """A port of 0 is a free one. Without `data`, nothing is kept."""

    data: Path | None = None
    catalog: Path = Path("catalog.toml")
    settings: Settings = field(default_factory=Settings)
    """For the roles; what is said of them in `neverstale.ops.up_settings` does not count."""
    origins: Origins = field(default_factory=lambda: dict.fromkeys(fields(), DEFAULT))
    config: Path | None = None
    """The file that some of them are from."""
    api_port: int = 0
    mongo_port: int = 0
    kafka_port: int = 0
    redis_port: int = 0
    console_port: int = 0
    consumers: int = 1
    api_workers: int = 1
    broker: BrokerChoice = "auto"
    demo: bool = False
    """Load the week of flights, and play it until the end."""


@dataclass
class Interrupts:
    """The first signal cancels `story`, which stops the stack in order; a second one ends it at once."""

    story: asyncio.Task[object]
    console: Console
    asked: bool = False
    stack: LocalStack | None = None  # none until its servers run

    def __call__(self) -> None:
        if not self.asked:
            self.asked = True
            self.console.out("Stopping; once more to force it.")
            self.story.cancel()
        elif self.stack is not None:
            self.stack.kill()


async def up(options: UpOptions, console: Console | None = None) -> int:
    """Run the stack until SIGINT, SIGTERM or SIGHUP.

    Returns:
        0 after a stop that was asked for, 1 if something did not start or died, 2 on wrong use.
    """
    console = console or Console(highlight=False)
    with interruptible(console) as interrupts:
        try:
            check(options)
            await _run(options, console, interrupts)
        except Misconfigured as error:
            console.out(str(error))
            return WRONG_USE
        except StackError as error:
            console.out(str(error))
            return FOUND_A_PROBLEM
        except asyncio.CancelledError:
            if not interrupts.asked:
                raise
            interrupts.story.uncancel()
            return AS_ASKED


def check(options: UpOptions) -> None:
    """Refuse what cannot work before anything is started.

    Raises:
        Misconfigured: the catalog or an option is wrong.
    """
    Catalog.load(options.catalog)
    for option, number in (("--consumers", options.consumers), ("--api-workers", options.api_workers)):
        if number < 1:
            raise Misconfigured(option, f"{number} is too few", "give 1 or more")
    if options.broker == "embedded" and options.kafka_port:
        problem = "the embedded broker chooses its own port"
        raise Misconfigured("--kafka-port", problem, "drop it, or use --broker kafka")


async def _run(options: UpOptions, console: Console, interrupts: Interrupts) -> NoReturn:
    """Until it is cancelled, or something dies."""
    with Board(console) as board:
        async with LocalStack.start(_stack_options(options), board) as stack, AsyncExitStack() as exits:
            interrupts.stack = stack
            player = await exits.enter_async_context(loaded(stack.mongo_uri)) if options.demo else None
            for line in not_used(options.origins):
                console.out(line)
            groups = tuple(Catalog.load(options.catalog).groups)
            variables = write_role_settings(stack, options)
            await stack.start_roles(options.consumers, options.api_workers, groups, **variables)
            page = await exits.enter_async_context(shown(stack, player)) if player is not None else None
            board.finish()
            console.out(summary(stack, options, write_environment(stack), page))
            async with at_once() as group:
                if player is not None:
                    group.create_task(player.play(asyncio.Event()), name="play")
                await Revival(stack, console.out).keep()


def write_role_settings(stack: LocalStack, options: UpOptions) -> dict[str, str]:
    """Write `<data>/neverstale.toml`; the variable that leads roles to it."""
    target = stack.data / "neverstale.toml"
    write_settings(target, options.settings, options.origins, options.config)
    return {"NEVERSTALE_CONFIG": str(target)}


def write_environment(stack: LocalStack) -> Path:
    """Write `<data>/env`, a shell file to `source`; it appears whole."""
    target = stack.data / "env"
    partial = target.with_suffix(".partial")
    variables = stack.environment | {"NEVERSTALE_CONFIG": str(stack.data / "neverstale.toml")}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    partial.write_text("".join(lines))
    partial.rename(target)
    return target


def summary(stack: LocalStack, options: UpOptions, environment: Path, page: str | None = None) -> str:
    """What runs, where, and what becomes of the data."""
    kept = f"{stack.data}, kept" if options.data else f"{stack.data}, removed at the end (keep them with --data)"
    rows = {
        "API": f"{stack.api_url}/",
        "Console": f"{stack.console_url}/",
        **({"Board": page} if page is not None else {}),
        "MongoDB": f"{stack.mongo_uri}  ({stack.mongod.description})",
        "Kafka": f"{stack.bootstrap_servers}  ({stack.kafka.description})",
        "Redis": f"{stack.redis_url}  ({stack.redis.description})",
        "Data": kept,
        "Logs": str(stack.data / "logs"),
        "Shell": f"source {shlex.quote(str(environment))}",
    }
    table = "\n".join(f"  {name:<8} {value}" for name, value in rows.items())
    play = ""
    if options.demo:
        shown = "".join(f"\n  curl -i '{stack.api_url}{path}'" for path in TRY)
        play = f"\nA week of flights is being played. Ask for some of it:\n{shown}\n"
    return f"\n{table}\n{play}\nReady. Ctrl-C stops everything."


def _stack_options(options: UpOptions) -> StackOptions:
    return StackOptions(
        data=options.data,
        catalog=options.catalog,
        api_port=options.api_port,
        mongo_port=options.mongo_port,
        kafka_port=options.kafka_port,
        redis_port=options.redis_port,
        console_port=options.console_port,
        broker=options.broker,
        role_stop_seconds=max(ROLE_STOP_SECONDS, options.settings.service.drain_seconds + BEYOND_DRAINING_SECONDS),
    )


@contextmanager
def interruptible(console: Console) -> Iterator[Interrupts]:
    """While inside, SIGINT, SIGTERM and SIGHUP interrupt the current task as `Interrupts` says."""
    loop = asyncio.get_running_loop()
    story = asyncio.current_task()
    assert story is not None
    interrupts = Interrupts(story, console)
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, interrupts)
    try:
        yield interrupts
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
