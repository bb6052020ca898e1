"""A session as a gateway has it, for tests without a gateway."""

from __future__ import annotations

from functools import cache

from gateway.limits import ClientLimits
from gateway.session import Session
from sgaps.protocol.messages import Resolution
from sgaps.settings import Settings, load_settings


def a_session(session_id: str = "a") -> Session:
    return Session(
        session_id=session_id,
        checkpoint_key="doom",
        resolution=Resolution(width=64, height=48),
        client_name="",
        wants_importance=False,
        footprints=False,
        sample_count=500,
        limits=ClientLimits(_settings()),
    )


@cache
def _settings() -> Settings:
    return load_settings(environment={})
