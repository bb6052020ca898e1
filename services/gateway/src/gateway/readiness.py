"""Whether frames would be answered and recorded now."""

from __future__ import annotations

import time

from gateway.serving import missing_services
from gateway.shared import Gateway

DELIVERY_STALE_SECS = 10.0
"""Above every wait of one turn."""


def what_is_missing(gateway: Gateway) -> dict[str, str]:
    """Each thing without which no frame is answered and recorded, and what is wrong with it."""
    if not gateway.outlook.is_fresh:
        return {"broker": "it does not answer"}
    missing = missing_services(gateway.outlook.services)
    if why := gateway.outlook.twins.why:
        missing["gateway"] = why
    if time.monotonic() - gateway.deliverer.consumer.last_turn_at_secs > DELIVERY_STALE_SECS:
        missing["gateway"] = f"no turn of its delivery for {DELIVERY_STALE_SECS:g} s"
    return missing
