"""Mutations of what is in the corpus: small ones, as whoever spoils bytes makes them."""

from collections.abc import Sequence
from random import Random

TOKENS = (*rb'"|{|]|:|,|-1|%00|NaN|null'.split(b"|"), b"\0", b"\xff", b"\r\n", b"\r\n\r\n", b"9" * 40)
MOST_BYTES = 4096


def mutated(dice: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, changed in one to four places."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randrange(1, 5)):
        place = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0 if place < len(data):
                data[place] = dice.randrange(256)
            case 1 if place < len(data):
                data[place] ^= 1 << dice.randrange(8)
            case 2:
                data[place:place] = dice.choice(TOKENS)
            case 3:
                del data[place : place + dice.randrange(1, 9)]
            case 4:
                end = place + dice.randrange(1, 17)
                data[place:place] = data[place:end]
            case 5:
                other = dice.choice(seeds)
                start = dice.randrange(len(other) + 1)
                data[place:] = other[start:]
            case _:
                data[place:place] = dice.randbytes(dice.randrange(1, 9))
    return bytes(data[:MOST_BYTES])
