"""Who asks: what is remembered, when it is forgotten, and how often unknown keys have the set fetched."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from neverstale.api.callers.caller import ANYBODY
from neverstale.api.callers.identify import REFETCH_SECONDS, Callers
from neverstale.api.callers.key_file import StaticKey, StaticKeys, hashed
from neverstale.api.callers.key_set import KeySet
from neverstale.api.web.problems import Problem
from neverstale.settings import CallerSettings
from tests.support.tokens import Provider, caller_settings

PROVIDER = Provider()
NEWER = Provider("-2")
SECRET = "s" * 43
SHOWN = f"nsk_aaaaaaaa_{SECRET}"


def static_key(expires: datetime | None = None) -> StaticKey:
    return StaticKey(
        id="aaaaaaaa",
        name="board",
        sha256=hashed(SECRET.encode()),
        scopes=("read:things",),
        created=datetime.now(UTC),
        expires=expires,
    )


def shows(credential: str, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"{scheme} {credential}".encode())]


async def refusal(callers: Callers, headers: list[tuple[bytes, bytes]]) -> Problem:
    with pytest.raises(Problem) as refused:
        await callers.identify(headers)
    return refused.value


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(clock: Clock) -> Callers:
    callers = Callers(caller_settings(keys_file="keys.json"), clock, clock)
    callers.take_keys(StaticKeys([static_key()]))
    callers.take_key_set(KeySet.of(PROVIDER.text()))
    return callers


@pytest.mark.parametrize("credential", [lambda: SHOWN, PROVIDER.token], ids=["key", "token"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_caller_is_verified_once_and_then_remembered(
    callers: Callers, credential: Callable[[], str], scheme: str
) -> None:
    headers = shows(credential(), scheme)
    assert callers.remembered(headers) is None
    caller = await callers.identify(headers)
    assert callers.remembered(headers) is caller is await callers.identify(headers)
    assert caller.rights.may_read("things", "lists")


async def test_who_shows_nothing_is_anybody(callers: Callers) -> None:
    assert await callers.identify([(b"host", b"x")]) is ANYBODY is callers.remembered([])


async def test_where_no_callers_are_configured_what_is_shown_is_for_somebody_else() -> None:
    callers = Callers(CallerSettings())
    for headers in (shows("whatever"), shows("x", "Basic"), shows("x") * 2):
        assert await callers.identify(headers) is ANYBODY is callers.remembered(headers)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        (shows(SHOWN) + shows(SHOWN), "invalid_request"),
        (shows("dXNlcjpwYXNz", "Basic"), "invalid_request"),
        (shows("", "Bearer"), "invalid_request"),
        (shows(f"{SHOWN} {SHOWN}"), "invalid_request"),
        (shows(f"{SHOWN},{SHOWN}"), "invalid_request"),
        (shows(f"{SHOWN}\0"), "invalid_request"),
        ([(b"authorization", SHOWN.encode())], "invalid_request"),
        (shows("x" * 9000), "invalid_token"),
        (shows(SHOWN[:-1] + "t"), "invalid_token"),
        (shows("nsk_bbbbbbbb_" + SECRET), "invalid_token"),
        (shows("nsk_" + SECRET), "invalid_token"),
        (shows(SHOWN.upper()), "invalid_token"),
        (shows(Provider().token()), "invalid_token"),
    ],
)
async def test_what_shows_nothing_is_a_401_that_repeats_nothing(
    callers: Callers, headers: list[tuple[bytes, bytes]], error: str
) -> None:
    problem = await refusal(callers, headers)
    assert (problem.status, SECRET in str(problem.members)) == (401, False)
    assert problem.headers["www-authenticate"].startswith(f'Bearer realm="neverstale", error="{error}", ')
    assert callers.remembered(headers) is None


async def test_a_key_ends_at_its_hour_also_if_it_is_remembered(callers: Callers, clock: Clock) -> None:
    callers.take_keys(StaticKeys([static_key(datetime.fromtimestamp(clock.now + 5, UTC))]))
    assert (await callers.identify(shows(SHOWN))).name == "board"
    clock.now += 5
    assert callers.remembered(shows(SHOWN)) is None
    assert "expired" in str((await refusal(callers, shows(SHOWN))).members)


async def test_a_token_ends_at_its_hour_and_the_leeway(callers: Callers, clock: Clock) -> None:
    token = PROVIDER.token(exp=int(clock.now) + 20)
    assert (await callers.identify(shows(token))).name == "someone"
    clock.now += 31
    assert callers.remembered(shows(token)) is None


async def test_other_keys_forget_whoever_was_remembered(callers: Callers) -> None:
    told: list[bool] = []
    callers.on_change = lambda: told.append(True)
    token = PROVIDER.token()
    for headers in (shows(SHOWN), shows(token)):
        await callers.identify(headers)
    callers.take_key_set(KeySet.of(PROVIDER.text()))
    assert told == [] and callers.remembered(shows(token)) is not None
    callers.take_key_set(KeySet.of(NEWER.text("ec")))
    callers.take_keys(StaticKeys(()))
    assert told == [True, True]
    for headers in (shows(SHOWN), shows(token)):
        assert callers.remembered(headers) is None
        assert (await refusal(callers, headers)).status == 401


async def test_a_new_key_of_the_provider_is_fetched_when_a_token_names_it(callers: Callers) -> None:
    callers.fetch = lambda: asyncio.ensure_future(turn(callers, KeySet.of(NEWER.text("ec"))))
    assert (await callers.identify(shows(NEWER.token()))).name == "someone"


async def turn(callers: Callers, keys: KeySet) -> None:
    await asyncio.sleep(0)
    callers.take_key_set(keys)


async def test_made_up_keys_have_the_set_fetched_once_a_minute(callers: Callers, clock: Clock) -> None:
    fetched: list[float] = []

    def fetch() -> asyncio.Future[None]:
        fetched.append(clock.now)
        return asyncio.ensure_future(asyncio.sleep(0))

    callers.fetch = fetch
    tokens = [Provider(f"-{n}").token() for n in range(5)]
    for token in tokens:
        assert (await refusal(callers, shows(token))).status == 401
    assert len(fetched) == 1
    clock.now += REFETCH_SECONDS
    await asyncio.gather(*(refusal(callers, shows(token)) for token in tokens))
    assert len(fetched) == 2


async def test_without_any_keys_of_the_provider_nobody_can_tell(callers: Callers) -> None:
    callers.take_key_set(None)
    problem = await refusal(callers, shows(PROVIDER.token()))
    assert (problem.status, problem.headers["retry-after"]) == (503, "1")
    assert (await callers.identify(shows(SHOWN))).name == "board"
