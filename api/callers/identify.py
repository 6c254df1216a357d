"""Who is asking: from credentials to a caller, by the keys of a file and of an identity provider.

What was verified once is remembered until it ends, or until the keys change: then everything is forgotten, also what
follows from it (`Gate`). What could not be verified is never remembered, so nobody can fill the memory with it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from neverstale.api.callers.caller import ANYBODY, Caller, digest
from neverstale.api.callers.credentials import Unbelievable, credential_of
from neverstale.api.callers.key_file import ShownKey, StaticKeys, parsed
from neverstale.api.callers.key_set import KeySet
from neverstale.api.callers.scopes import rights_in
from neverstale.api.callers.tokens import NOT_VALID, Tokens, UnknownKid
from neverstale.api.web.problems import Problem, keys_unknown
from neverstale.role import telemetry
from neverstale.settings import CallerSettings

CREDENTIALS: Final = 8192
"""Callers that are remembered at once."""
REFETCH_SECONDS: Final = 60.0
"""Unknown keys have the set fetched no more often: whoever makes ids up makes nobody fetch more."""


class Callers:
    """The callers of one process. Every method belongs to its event loop."""

    def __init__(
        self,
        settings: CallerSettings,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokens = Tokens(settings, clock) if settings.takes_tokens else None
        self.configured = settings.configured
        self.on_change: Callable[[], None] = lambda: None
        """Called when what was remembered is forgotten."""
        self.fetch: Callable[[], asyncio.Future[None]] | None = None
        """Has the set of keys fetched, once for all who ask at the same time; it never fails."""
        self._keys = StaticKeys(())
        self._key_set: KeySet | None = None
        self._clock = clock
        self._monotonic = monotonic
        self._refetched = float("-inf")
        self._fetching: asyncio.Future[None] | None = None
        """The last fetch that an unknown key had begun: those that come meanwhile wait for it, too."""
        self._known: dict[bytes, Caller] = {}

    # --- keys that change

    def take_keys(self, keys: StaticKeys) -> None:
        """From now on these static keys hold, and no others."""
        self._keys = keys
        self._forget()

    def take_key_set(self, keys: KeySet | None) -> None:
        """From now on these verify tokens; `None`: nobody can."""
        if keys is None or self._key_set is None or keys.digest != self._key_set.digest:
            self._key_set = keys
            self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self.on_change()

    @property
    def verifies_tokens(self) -> bool:
        """Whether there are keys for that."""
        return self._key_set is not None

    # --- who asks

    def remembered(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
        """The caller that headers name (names in lower case), if that is known without verifying anything."""
        if not self.configured:
            return ANYBODY  # what is shown is meant for somebody else
        try:
            credential = credential_of(headers)
        except Unbelievable:
            return None
        if credential is None:
            return ANYBODY
        caller = self._known.get(credential)
        return caller if caller is not None and self._clock() < caller.until else None

    async def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller that headers name. Raises a `Problem`, which repeats nothing of what was shown."""
        if not self.configured:
            return ANYBODY
        try:
            credential = credential_of(headers)
            if credential is None:
                return ANYBODY
            caller = self._known.get(credential)
            if caller is None or self._clock() >= caller.until:
                caller = await self._verified(credential)
                self._remember(credential, caller)
            return caller
        except Unbelievable as error:
            telemetry.CALLERS_REFUSED.labels(error.reason).inc()
            raise error.problem() from None

    def _remember(self, credential: bytes, caller: Caller) -> None:
        if len(self._known) >= CREDENTIALS:
            self._known.clear()
        self._known[credential] = caller

    async def _verified(self, credential: bytes) -> Caller:
        shown = parsed(credential)
        if shown is not None:
            return self._of_key(shown)
        if self.tokens is None:
            raise Unbelievable("key", "The key is not valid.")
        if self._key_set is None:
            raise _unknown()
        try:
            return self.tokens.caller(credential, self._key_set)
        except UnknownKid:
            return await self._verified_anew(self.tokens, credential)

    async def _verified_anew(self, tokens: Tokens, credential: bytes) -> Caller:
        """The set may be another one by now."""
        if self.fetch is not None and self._monotonic() - self._refetched >= REFETCH_SECONDS:
            self._refetched = self._monotonic()
            self._fetching = self.fetch()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)
        try:
            if self._key_set is None:
                raise _unknown()
            return tokens.caller(credential, self._key_set)
        except UnknownKid:
            raise Unbelievable("token", NOT_VALID) from None

    def _of_key(self, shown: ShownKey) -> Caller:
        key = self._keys.find(shown)
        if key is None:
            raise Unbelievable("key", "The key is not valid.")
        until = math.inf if key.expires is None else key.expires.timestamp()
        if self._clock() >= until:
            raise Unbelievable("expired", "The key has expired.")
        return Caller(key.name, rights_in(key.scopes), key.claims, until, digest(b"s" + key.id.encode()))


def _unknown() -> Problem:
    telemetry.CALLERS_REFUSED.labels("unknown").inc()
    return keys_unknown()
