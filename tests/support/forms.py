"""Which form of searches and properties runs: the short one of `make test`, or the long one of `make test-all`."""

import os
from typing import Final

FULL: Final = os.environ.get("NEVERSTALE_TEST_SEARCH") == "full"
