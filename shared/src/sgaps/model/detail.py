"""How much of a picture is too fine for large squares: where small ones would tell more."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def squared_detail(frame: Tensor, rows: int, columns: int) -> Tensor:
    """Mean squared deviation in each cell from what the means of all cells interpolate to.

    frame (B, C, H, W) → (B, rows, columns).
    """
    means = F.adaptive_avg_pool2d(frame, (rows, columns))
    size = (frame.shape[-2], frame.shape[-1])
    smooth = F.interpolate(means, size=size, mode="bilinear", align_corners=False)
    squared = (frame - smooth).square().mean(1, keepdim=True)
    return F.adaptive_avg_pool2d(squared, (rows, columns))[:, 0]


def expected_log_detail(frame: Tensor, log_error: Tensor) -> Tensor:
    """Log of the RMS detail that the true frame is expected to have in each cell.

    Of what the model shows (B, C, H, W) and of what it expects to be wrong about: log_error
    (B, gh, gw), log of the RMS error. → (B, gh, gw).
    """
    rows, columns = log_error.shape[-2:]
    shown = squared_detail(frame, rows, columns)
    expected: Tensor = 0.5 * (shown + (2 * log_error).exp()).log()
    return expected
