"""The roles that have users of their own."""

from typing import Final, Literal, get_args

Role = Literal["watcher", "consumer", "api", "operator"]
"""`operator` is whoever runs `neverstale check`, `status`, `doctor`, `resync` and the other commands."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)


def user_of(role: Role) -> str:
    """The name of its user, and of its certificate."""
    return f"neverstale-{role}"
