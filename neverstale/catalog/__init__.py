"""The catalog: the file in which a team declares its resources.

```toml
database = "nyc"

[resources.flights]
key_type = "string"
fields = { carrier = "string", dep_delay = "int" }
```

It is checked as a whole: `Catalog.load` names every problem with its file, its path and the remedy.
"""

from neverstale.catalog.file import Catalog
from neverstale.catalog.resource import MOST_GROUPS_SHOWN, OWN_PREFIX, FieldType, OnChange, Resource, Warm

__all__ = ["MOST_GROUPS_SHOWN", "OWN_PREFIX", "Catalog", "FieldType", "OnChange", "Resource", "Warm"]
