"""What the process of schemathesis checks besides its own: see `test_openapi`."""

import time
from typing import Any

import schemathesis
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    positive_data_acceptance,
)

from neverstale.versions import from_hex

AHEAD_SECONDS = 60


@schemathesis.check
def what_the_description_allows_is_accepted(ctx: Any, response: Any, case: Any) -> None:
    """But for what no schema can say, and the description says in words."""
    try:
        positive_data_acceptance(ctx, response, case)
    except RejectedPositiveData:
        if not _cannot_be_described(response, case):
            raise


@schemathesis.check
def allow_names_what_is_described_and_query(ctx: Any, response: Any, case: Any) -> None:
    """OpenAPI 3.1 has no word for QUERY, which is answered all the same."""
    try:
        allow_header_conformance(ctx, response, case)
    except AllowHeaderMismatch as mismatch:
        if mismatch.missing_methods or mismatch.undocumented_methods != ["QUERY"]:
            raise


def _cannot_be_described(response: Any, case: Any) -> bool:
    """A cursor that is none of ours, a version that the database has not reached, a list of directives or ETags that
    is none, a field of a field that is not there: 400, and it is named. An ETag that is another document's: 412."""
    if response.status_code == 412:
        return "If-Match" in case.headers
    parameter = response.json().get("parameter") if response.status_code == 400 else None
    if parameter == "cursor":
        return "cursor" in (case.query or {})
    if parameter == "fields":
        return "." in str((case.query or {}).get("fields"))
    if parameter in ("Cache-Control", "If-Match", "If-None-Match"):
        return parameter in case.headers
    if parameter == "Neverstale-Min-Version":
        version = from_hex(case.headers["Neverstale-Min-Version"])
        return version >> 32 > time.time() + AHEAD_SECONDS
    return False
