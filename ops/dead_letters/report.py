"""How dead letters are shown."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.markup import escape

from neverstale.ops.dead_letters.dead_letters import Done, HeldLetter, Listing
from neverstale.ops.terminal.output import console, print_json, table

LONGEST_SHOWN: Final = 60
HEX_A_LINE: Final = 16


def print_listing(listing: Listing, *, as_json: bool) -> None:
    if as_json:
        answer = {"topic": listing.topic, "letters": [_facts(held) for held in listing.letters], "more": listing.more}
        print_json(answer)
        return
    shown = table("id", "time", "reason", "from", "bytes", "key", title=f"dead letters in {listing.topic}")
    for held in listing.letters:
        facts = _facts(held)
        columns = (str(facts[name]) for name in ("id", "at", "reason", "from", "bytes", "key"))
        shown.add_row(*(escape(text[:LONGEST_SHOWN]) for text in columns))
    console().print(shown if listing.letters else f"no dead letters in {listing.topic}")
    if listing.more:
        console().print("there are more: --limit")


def print_letter(held: HeldLetter, *, as_json: bool) -> None:
    """All of it."""
    facts = _facts(held)
    letter = held.letter
    value = letter.value if letter is not None else None
    if letter is not None:
        facts |= {"detail": letter.detail, "headers": {name: _text(text) for name, text in letter.headers}}
    if as_json:
        facts |= {"value": _text(value), "value_hex": value.hex() if value is not None else None}
        print_json(facts)
        return
    for name, fact in facts.items():
        console().print(f"[bold]{name}[/bold]  {escape(str(fact))}")
    console().print("")
    console().print(escape("\n".join(_lines(value))), soft_wrap=True)


def print_done(did: str, done: Done, *, as_json: bool) -> None:
    if as_json:
        print_json({did: done.ids, "refused": {str(letter_id): why for letter_id, why in done.refused.items()}})
        return
    console().print(f"{did} {len(done.ids)} dead letter{'' if len(done.ids) == 1 else 's'}")
    for letter_id, why in done.refused.items():
        console().print(escape(f"not {letter_id}: {why}"))


def _facts(held: HeldLetter) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": held.id, "at": _time(held.place.at_ms)}
    letter = held.letter
    if letter is None:
        return facts | {
            "reason": "foreign",
            "from": None,
            "from_at": None,
            "bytes": None,
            "key": None,
            "whole": False,
        }
    return facts | {
        "reason": letter.reason,
        "from": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "from_at": _time(letter.timestamp_ms),
        "bytes": letter.size,
        "key": _text(letter.key),
        "whole": letter.bytes_cut is None,
    }


def _time(milliseconds: int) -> str | None:
    if milliseconds < 0:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _text(content: bytes | None) -> str | None:
    """As text; what is none has its bytes escaped."""
    return None if content is None else content.decode(errors="backslashreplace")


def _lines(value: bytes | None) -> Sequence[str]:
    if value is None:
        return ["no value"]
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return list(_hex_lines(value))
    return [text] if text.isprintable() else list(_hex_lines(value))


def _hex_lines(value: bytes) -> Iterator[str]:
    for at in range(0, len(value), HEX_A_LINE):
        some = value[at : at + HEX_A_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in some)
        yield f"{at:06x}  {some.hex(' '):<{3 * HEX_A_LINE}} {text}"
