"""Tenants: whose a document is, and which values of groups come from the caller's credentials and not from the query.

```toml
[resources.orders]
tenant = { field = "customer", claim = "org" }

[resources.orders.lists.open]
by = { customer = "claim:org", status = "query" }
```
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from neverstale.misconfiguration import wrong

CLAIM: Final = "claim:"
QUERY: Final = "query"
TENANT_TYPES: Final = ("string", "int", "long", "objectid", "uuid")
"""Types of fields that say whose a document is: those whose JSON is one text or one whole number."""


class Tenant(BaseModel):
    """How documents of tenants are told apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: Annotated[str, Field(min_length=1, pattern=r"^[^$.\x00][^.\x00]*$")]
    """A top-level field that says whose a document is; an array of several is all of theirs."""
    claim: Annotated[str, Field(min_length=1)] = "tenant"
    """What the credentials of a caller call it."""


def told_apart(values: Any) -> Any:
    """A declaration whose `by` is a table as one whose `by` is a list, with `claims` beside it."""
    if not isinstance(values, dict) or not isinstance(values.get("by"), dict):
        return values
    claims = {}
    for path, origin in values["by"].items():
        if isinstance(origin, str) and origin.startswith(CLAIM) and len(origin) > len(CLAIM):
            claims[path] = origin.removeprefix(CLAIM)
        elif origin != QUERY:
            raise wrong(f"{path} comes from {origin!r}", f'use "{QUERY}", or "{CLAIM}NAME" for one of credentials')
    return {**values, "by": tuple(values["by"]), "claims": claims}
