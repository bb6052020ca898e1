"""Real sources of frames: Doom, Atari, video files, folders of pictures."""

from sgaps_client.sources.base import GameFrame, Source, checkpoint_key
from sgaps_client.sources.images import pictures_in
from sgaps_client.sources.registry import is_game, open_source, path_of

__all__ = [
    "GameFrame",
    "Source",
    "checkpoint_key",
    "is_game",
    "open_source",
    "path_of",
    "pictures_in",
]
