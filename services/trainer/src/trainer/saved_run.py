"""A run that was cut off, on disk: safetensors with a JSON header, never a pickle."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sgaps.durable import write_durably
from sgaps.errors import SgapsError
from sgaps.settings import ModelSettings

HEADER = "run"


class CannotResume(SgapsError):
    """There is no run to take up, or not one of these settings."""


class RunHeader(BaseModel):
    """What the tensors belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion_version: str
    model: ModelSettings
    val_sessions: tuple[str, ...]
    """Held out. What comes while a run is cut off is trained on, and takes none of their places."""
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


def load_run(
    path: Path, *, champion_version: str, model: ModelSettings, versions: Collection[str]
) -> SavedRun:
    """A run that began there, in that shape; `versions` are those that could be promoted again.

    Raises CannotResume.
    """
    saved = _read(path)
    if saved.header.model != model:
        raise CannotResume(
            "the run that was cut off has other model settings: give the same, or start without "
            "--resume"
        )
    if (began_at := saved.header.champion_version) != champion_version:
        back = f"sgaps checkpoints promote KEY {began_at} lets it go on, or "
        raise CannotResume(
            f"the run that was cut off began at {began_at}, and {champion_version} serves now: "
            f"{back if began_at in versions else ''}start without --resume"
        )
    return saved


def _read(path: Path) -> SavedRun:
    if not path.exists():
        raise CannotResume("no run was cut off here: start one without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            header = RunHeader.model_validate_json(file.metadata()[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CannotResume(f"{path} cannot be read ({error}): start without --resume") from error
    return SavedRun(header=header, tensors=tensors)
