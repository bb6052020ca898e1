"""What all connections and requests of a gateway share."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.api_models import SessionList
from gateway.delivery import Deliverer
from gateway.outlook import Outlook
from gateway.probe import Probe
from gateway.session import Places, SessionManager
from gateway.views import Views
from sgaps.bus import Bus
from sgaps.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """One process."""

    settings: Settings
    token: str
    """What clients must show; "" where nobody needs anything."""
    bus: Bus
    sessions: SessionManager
    session_list: SessionList
    waiting: Places
    """Connections that have no session yet: they cost something, and nobody knows them."""
    outlook: Outlook
    deliverer: Deliverer
    probe: Probe
    views: Views
    started_at_secs: float
