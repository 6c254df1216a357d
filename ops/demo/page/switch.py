"""The switch: consumers that stand still, so that everybody sees what bounds are for."""

from collections.abc import Callable, Sequence
from signal import SIGCONT, SIGSTOP

from neverstale.ops.stack.role import RunningRole


class FreezeSwitch:
    """Freezes the consumers of a stack, and lets them go on."""

    def __init__(self, roles: Callable[[], Sequence[RunningRole]]) -> None:
        self._roles = roles
        self.frozen = False

    def turn(self, *, frozen: bool) -> None:
        self.frozen = frozen
        for role in self._roles():
            if role.name.startswith("consumer-"):
                role.signal(SIGSTOP if frozen else SIGCONT)
