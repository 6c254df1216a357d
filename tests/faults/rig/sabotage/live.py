"""Live reads."""

from tests.faults.rig.sabotage.rules import Patches, replaced, rule


@rule("what was not heard is read again")
def _never_doubtful() -> Patches:
    """Only announcements wake a feed, and nobody asks whether all of them were heard."""
    yield replaced("neverstale.api.live.feed:LiveFeed.is_doubtful", False)


@rule("a channel that broke vouches for nothing")
def _never_void() -> Patches:
    """What is heard later is believed to follow what was heard before."""
    yield replaced("neverstale.api.live.feeds:Feeds.void", lambda self: None)
