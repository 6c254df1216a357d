"""What readers may conclude from derived data in Redis. Missing is *unknown*, never zero and never unchanged.

Every read asks for the generations' epoch *after* the hash, in the same pipeline: if it is still the one that the
reader knows, the generation was kept up to date when the hash was read.
"""

from collections.abc import Sequence

from neverstale.derived.generations import Generation
from neverstale.derived.redis_names import LIST_FLOOR, PRESENT, slot_of
from neverstale.role.damage import Damage
from neverstale.versions import Version


def tag_fields(group: str) -> list[bytes]:
    """What to fetch of a list's tags for `page_floor`."""
    return [PRESENT, LIST_FLOOR, slot_of(group)]


def page_floor(
    generation: Generation,
    collection_floor: Version | None,
    tags: Sequence[bytes | None],
    damage: Damage | None = None,
) -> Version | None:
    """The version below which a page is stale; `None`: unknown, the page cannot be served and not be cached.

    `tags` are the values of `tag_fields`.
    """
    damage = damage or Damage()
    present, *raised = tags
    if present is None or collection_floor is None or generation.birth is None or generation.birth > damage.latest():
        return None
    versions = [damage.version("derived", tag) for tag in raised if tag is not None]
    known = [version for version in versions if version is not None]
    return max(collection_floor, generation.birth, *known) if len(known) == len(versions) else None
