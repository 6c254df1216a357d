"""structlog, without rich: it would load that for tracebacks, which we spell ourselves, in a tenth of every start."""

import sys

_loaded = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    del sys.modules["rich"]
    if _loaded is not None:
        sys.modules["rich"] = _loaded

__all__ = ["structlog"]
