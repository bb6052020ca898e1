"""The Sparse Pixel Transformer: model, input, checkpoints."""

from sgaps.model.builder import build_model
from sgaps.model.checkpoint import CheckpointStore, load_serving, require_gray, stores_of
from sgaps.model.collate import collate
from sgaps.model.device import network_precision, pick_device, prepare_cpu
from sgaps.model.inputs import ModelInput
from sgaps.model.prior import pull_push
from sgaps.model.quality import predicted_psnr_db
from sgaps.model.transformer import ModelOutput, SparsePixelTransformer

__all__ = [
    "CheckpointStore",
    "ModelInput",
    "ModelOutput",
    "SparsePixelTransformer",
    "build_model",
    "collate",
    "load_serving",
    "network_precision",
    "pick_device",
    "predicted_psnr_db",
    "prepare_cpu",
    "pull_push",
    "require_gray",
    "stores_of",
]
