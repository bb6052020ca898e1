"""Settings: Hydra composes `conf/`, frozen pydantic models check the result.

A service loads its settings once, at start, and hands them on as arguments; nothing reads the
environment at import. In a container everything can be set by environment: the variable
`SGAPS__SERVER__PORT=9000` is the override `server.port=9000`.
"""

from sgaps.settings.loading import load_settings, override
from sgaps.settings.sections import (
    AugmentationSettings,
    BusSettings,
    DataSettings,
    ImportanceMethod,
    ImportanceSettings,
    InpaintingName,
    LoggingSettings,
    LossSettings,
    MaskUpdateSettings,
    ModelSettings,
    PatternName,
    PoseLayout,
    ReconstructorSettings,
    SamplingSettings,
    Section,
    ServerSettings,
    Settings,
    TracingSettings,
    TrainingSettings,
    UpdateStrategy,
)

__all__ = [
    "AugmentationSettings",
    "BusSettings",
    "DataSettings",
    "ImportanceMethod",
    "ImportanceSettings",
    "InpaintingName",
    "LoggingSettings",
    "LossSettings",
    "MaskUpdateSettings",
    "ModelSettings",
    "PatternName",
    "PoseLayout",
    "ReconstructorSettings",
    "SamplingSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "TracingSettings",
    "TrainingSettings",
    "UpdateStrategy",
    "load_settings",
    "override",
]
