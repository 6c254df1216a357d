"""False registers: of which nobody can believe what they hold."""

from collections.abc import Awaitable, Callable, Sequence

from neverstale.redis.cache import Cache
from neverstale.versions import Version, is_hex, to_hex


async def forget_false(cache: Cache, collections: Sequence[str], now: Callable[[], Awaitable[Version]]) -> int:
    """Make them unknown: those that hold no version, a claim without an end, or a version that is later than what
    `now` answers, which is asked only if one seems to be. Answers how many there were.

    `now` must answer a version >= every change that was acknowledged before it was called.
    """
    registers = [cache.names.applied, *map(cache.names.floor, collections)]
    raws, *lives = await cache.send(("MGET", *registers), *(("PTTL", register) for register in registers))
    false, ahead = [], {}
    for key, raw, life in zip(registers, raws, lives, strict=True):
        if raw is None:
            continue
        if raw[:1] == b"?":
            if life < 0:
                cache.damage.met("register", f"{key!r} is claimed for ever")
                false.append(key)
        elif cache.damage.register(raw) is None:
            if is_hex(raw):
                ahead[key] = raw
            else:
                false.append(key)
    if ahead:
        present = to_hex(await now()).encode()
        false += [key for key, raw in ahead.items() if raw > present]
    if false:
        await cache.delete(false)
    return len(false)
