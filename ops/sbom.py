"""What an environment holds, as a CycloneDX 1.5 bill of materials: `python -m neverstale.ops.sbom`.

It is that of the Python that runs it, so it runs in an image, too.
"""

import json
import sys
from importlib.metadata import Distribution, distributions
from typing import Any


def bill(found: list[Distribution], product: str) -> dict[str, Any]:
    """The components of an environment, `product` being what it is there for. Equal environments have equal bills."""
    components = {_name(one): _component(one) for one in sorted(found, key=_name)}
    main = components.pop(product)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**main, "type": "application"}},
        "components": list(components.values()),
    }


def _component(one: Distribution) -> dict[str, Any]:
    name = _name(one)
    purl = f"pkg:pypi/{name}@{one.version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": one.version,
        "purl": purl,
    }
    said = one.metadata.json
    licence = str(said.get("license_expression") or said.get("license") or "")
    if licence and "\n" not in licence and len(licence) < 100:
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _name(one: Distribution) -> str:
    return one.metadata["Name"].lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    json.dump(bill(list(distributions()), "neverstale"), sys.stdout, indent=2)
