"""A running gateway, as in the integration tests."""

from __future__ import annotations

from integration.conftest import clean_broker, gateway, gateway_settings

__all__ = ["clean_broker", "gateway", "gateway_settings"]
