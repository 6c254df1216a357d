"""The smallest declaration of each derived kind, so that tests of all kinds meet one that is new, too."""

from typing import Any

from neverstale.catalog.declarations import DECLARED


def smallest_of_each_kind() -> dict[str, dict[str, Any]]:
    """As a resource has them: kind -> name -> what must be said, each field that is named being `n`."""
    return {
        kind: {"smallest": {name: "n" for name, field in declaration.model_fields.items() if field.is_required()}}
        for kind, declaration in DECLARED.items()
    }
