"""The largest that a message in either form may say; what a server allows is within these."""

MAX_SAMPLES = 65535
"""The binary form counts them in 16 bits."""
MAX_STATE_DIM = 4096
MAX_SIDE_PX = 8192
