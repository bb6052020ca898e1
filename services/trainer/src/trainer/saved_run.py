"""A run that was cut off, on disk: safetensors with a JSON header, never a pickle."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from pydantic import BaseModel, ConfigDict, JsonValue
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sgaps.durable import write_durably
from sgaps.errors import SgapsError
from sgaps.settings import ModelSettings, Settings

HEADER = "run"
NOT_LEARNED = {
    *("device", "cpu_threads", "workers", "max_secs", "save_every_secs"),
    *("min_new_frames", "min_sessions", "val_share", "min_gain_db", "keep_versions"),
}
"""Training settings that may differ in a run taken up: where it computes, when it begins and ends,
what becomes of it."""


class CannotResume(SgapsError):
    """There is no run to take up, or not one of these settings."""


class WouldBeLost(SgapsError):
    """A new run would take the place of one that was cut off."""


class RunHeader(BaseModel):
    """What the tensors belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion_version: str
    model: ModelSettings
    val_sessions: tuple[str, ...]
    """Held out. What comes while a run is cut off is trained on, and takes none of their places."""
    train_sessions: tuple[str, ...] = ()
    """Trained on so far: some may be gone when it is taken up."""
    learned_by: dict[str, JsonValue] = {}
    """What `settings_of` gave; empty in a file of a time when nobody asked."""
    step: int = 0
    elapsed_secs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """Everything a run needs to go on where it was."""

    header: RunHeader
    tensors: dict[str, Tensor]
    """Weights, their average, and the moments of the optimiser, by dotted name."""

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under a name."""
        prefix = f"{name}."
        found = {key: value for key, value in self.tensors.items() if key.startswith(prefix)}
        return {key.removeprefix(prefix): value for key, value in found.items()}


def save_run(path: Path, run: SavedRun) -> None:
    """Replace what is there at once, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in run.tensors.items()}
    header = {HEADER: run.header.model_dump_json()}
    write_durably(path, safetensors.torch.save(tensors, metadata=header))


def settings_of(settings: Settings) -> dict[str, JsonValue]:
    """Those that shape what a run learns, but for its model's, by dotted name."""
    return {
        **_by_name("training", settings.training, but=NOT_LEARNED),
        **_by_name("augmentation", settings.augmentation),
        **_by_name("loss", settings.loss),
        **_by_name("sampling", settings.sampling),
        "sentinel_value": settings.sentinel_value,
    }


def _by_name(section: str, values: BaseModel, but: Collection[str] = ()) -> dict[str, JsonValue]:
    dumped = values.model_dump(mode="json", exclude=set(but))
    return {f"{section}.{name}": value for name, value in dumped.items()}


def refuse_to_replace(path: Path) -> None:
    """Raises WouldBeLost where a run was cut off; CannotResume where it cannot be read either."""
    if path.exists():
        raise WouldBeLost(
            f"a run that was cut off after {_read(path).header.step} steps is saved: go on with it "
            f"by --resume, or delete {path}"
        )


def load_run(
    path: Path, *, champion_version: str, settings: Settings, versions: Collection[str]
) -> SavedRun:
    """A run that began there, of these settings; `versions` are those that could be promoted again.

    Raises CannotResume.
    """
    if not path.exists():
        raise CannotResume("no run was cut off here: start one without --resume")
    saved = _read(path)
    if differing := _differing(saved.header, settings):
        raise CannotResume(
            f"the run that was cut off has other settings ({', '.join(differing)}): give the same, "
            f"or {anew(path)}"
        )
    if (began_at := saved.header.champion_version) != champion_version:
        back = f"sgaps checkpoints promote KEY {began_at} lets it go on, or "
        raise CannotResume(
            f"the run that was cut off began at {began_at}, and {champion_version} serves now: "
            f"{back if began_at in versions else ''}{anew(path)}"
        )
    return saved


def anew(path: Path) -> str:
    """What else to do where a saved run cannot be taken up."""
    return f"delete {path} and start without --resume"


def _differing(header: RunHeader, settings: Settings) -> list[str]:
    """Names of what is set otherwise now."""
    before = {**_by_name("model", header.model), **header.learned_by}
    now = {**_by_name("model", settings.model), **settings_of(settings)}
    return [name for name, value in before.items() if now.get(name, value) != value]


def _read(path: Path) -> SavedRun:
    try:
        with safe_open(path, framework="pt") as file:
            header = RunHeader.model_validate_json(file.metadata()[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CannotResume(f"{path} cannot be read ({error}): {anew(path)}") from error
    return SavedRun(header=header, tensors=tensors)
