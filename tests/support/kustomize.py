"""What `kubectl apply -k` would send, as far as our kustomizations go: resources, components, generated ConfigMaps,
labels, images, the namespace and patches, in kustomize's order."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

Document = dict[str, Any]
CRDS: Final = Path(__file__).with_name("crds")
KNOWN: Final = frozenset(
    (
        "apiVersion",
        "kind",
        "namespace",
        "resources",
        "components",
        "configMapGenerator",
        "patches",
        "labels",
        "images",
    )
)
"""What is understood here; a kustomization that uses more is no longer checked wholly."""


def built(folder: Path) -> list[Document]:
    """Every object, as it would be sent."""
    made = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert made.keys() <= KNOWN, made.keys() - KNOWN
    objects = [*_listed(folder, made.get("resources", ())), *_listed(folder, made.get("components", ()))]
    objects += [_config_map(folder, each) for each in made.get("configMapGenerator", ())]
    for patch in made.get("patches", ()):
        _patch(objects, patch)
    for each in objects:
        if "namespace" in made:
            each["metadata"]["namespace"] = made["namespace"]
        for labels in made.get("labels", ()):
            assert labels.keys() == {"pairs"}
            each["metadata"]["labels"] = each["metadata"].get("labels", {}) | labels["pairs"]
        for image in made.get("images", ()):
            _name_image(each, image)
    return objects


def _listed(folder: Path, names: list[str]) -> Iterator[Document]:
    for name in names:
        path = folder / name
        yield from built(path) if path.is_dir() else yaml.safe_load_all(path.read_text())


def _config_map(folder: Path, made: Mapping[str, Any]) -> Document:
    data = {name: (folder / name).read_text() for name in made.get("files", ())}
    for name in made.get("envs", ()):
        data |= dict(line.split("=", 1) for line in (folder / name).read_text().splitlines() if line)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data}


def _patch(objects: list[Document], patch: Mapping[str, Any]) -> None:
    """JSON patches (RFC 6902); one that finds nothing to change is an error, as it is for kustomize."""
    target = patch["target"]
    [found] = [
        each for each in objects if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])
    ]
    for step in yaml.safe_load(patch["patch"]):
        *path, last = step["path"].strip("/").split("/")
        place = found
        for part in path:
            place = place[part]
        match step["op"]:
            case "remove":
                del place[last]
            case "replace":
                assert last in place, step
                place[last] = step["value"]
            case "add":
                place[last] = step["value"]
            case other:
                raise AssertionError(f"{other} is not understood")


def _name_image(each: Any, image: Mapping[str, str]) -> None:
    if isinstance(each, list):
        for one in each:
            _name_image(one, image)
    elif isinstance(each, dict):
        if str(each.get("image", "")).partition(":")[0] == image["name"]:
            each["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for one in each.values():
            _name_image(one, image)


def validate(document: Document) -> None:
    """Against the schema of its kind, which knows all of its fields. Raises whatever the validator does."""
    known = _schemas().get((document["apiVersion"], document["kind"]))
    if known is None:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    else:
        jsonschema.validate(document, known)


@cache
def _schemas() -> dict[tuple[str, str], Document]:
    """Of custom kinds."""
    read = (json.loads(path.read_text()) for path in CRDS.glob("*.json"))
    return {(one["apiVersion"], one["kind"]): strict(one["schema"]) for one in read}


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a custom kind without what it allows only by silence: unknown fields, which a server drops. What
    Kubernetes itself says of `metadata` stays out of it."""
    made = _closed(dict(schema))
    made["properties"]["metadata"] = {"type": "object"}
    return made


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    if "properties" in schema:
        schema["properties"] = {name: _closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            schema[name] = _closed(schema[name])
    if isinstance(pattern := schema.get("pattern"), str) and not _compiles(pattern):
        del schema["pattern"]  # Go's spelling
    return schema


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
