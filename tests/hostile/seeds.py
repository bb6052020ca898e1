"""Where fuzzing begins: one input of every kind that is taken, and the oldest tricks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from paths import GOLDEN
from sgaps.keys import PastSamples
from sgaps.messages import (
    CheckpointPublished,
    CoordinatesChosen,
    DeadLetter,
    FrameAccepted,
    FrameReconstructed,
    Packed,
    SegmentSealed,
    ViewEncoded,
)
from sgaps.packing import pack_floats, pack_pixels

PICTURE_SIZE = (16, 12)

TEXTS_OF_CLIENTS = (
    '{"type":"session_start","checkpoint_key":"doom","resolution":[320,240],"max_state_dim":8}',
    '{"type":"session_start","checkpoint_key":"k","resolution":{"width":3,"height":2},'
    '"max_state_dim":0,"auth_token":"t","color":"gray","resume_session_id":"s-1",'
    '"client":{"name":"c","version":"1","features":["footprint","importance_map"]}}',
    '{"type":"frame_data","frame_id":3,"pixels":[[0.5,0.25,1],[0,1,0.125]],"state_vector":[1,-999],'
    '"resolution":[320,240],"timestamp":1.5}',
    '{"type":"frame_data","frame_id":4,"pixels":[[0.5,0.25,1,64]],"state_vector":[],'
    '"resolution":[8,6],"timestamp":2,"coordinate_set_id":9}',
    '{"type":"frame_data","frame_id":5,"pixels":[{"u":0,"v":1,"value":0.5,"footprint":2}],'
    '"state_vector":[3.4028235e38],"resolution":[8,6],"timestamp":2}',
    '{"type":"frame_data","frame_id":6,"pixels":{"a":[[0.5,0.25,1],[0,1,0.125]]},"state_vector":[],'
    '"resolution":[8,6],"timestamp":2}',
    '{"type":"frame_data","frame_id":7,"pixels":"[[,,]]","state_vector":[],"resolution":[8,6],'
    '"timestamp":2}',
    '{"type":"keyframe","frame_id":3,"encoding":"png","data":"iVBORw0KGgo="}',
    '{"type":"keyframe","frame_id":3,"encoding":"jpeg","data":"\u00e4"}',
    '{"type":"heartbeat","timestamp":1.5}',
    '{"type":"heartbeat","timestamp":1,"timestamp":2}',
    '{"type":"heartbeat","timestamp":1e400}',
    '{"type":"heartbeat","timestamp":NaN}',
    '{"type":"heartbeat","timestamp":"\\ud800"}',
    "[" * 300,
)
TEXTS_OF_SERVERS = (
    '{"type":"session_start_ack","session_id":"s-1","checkpoint_loaded":true,"sample_count":500,'
    '"max_state_dim":64,"target_fps":10,"model_version":"v1","coordinate_set_id":1,'
    '"keyframe_interval":5,"protocol_version":1,"resumed":false,"last_frame_id":-1,"features":[]}',
    '{"type":"uv_coordinates","frame_id":-1,"coords":[[0.5,0.25],[1,0]],"importance_map":null,'
    '"coordinate_set_id":1,"model_version":"v1","predicted_psnr":21.5}',
    '{"type":"uv_coordinates","frame_id":7,"coords":[[0.5,0.25,8]],"coordinate_set_id":16,'
    '"model_version":"v1","importance_map":{"width":2,"height":1,"data":"AP8="}}',
    '{"type":"heartbeat_ack","timestamp":1,"server_time":2,"last_recorded_frame_id":3,'
    '"target_fps":10}',
    '{"type":"error","code":"overloaded","message":"later","fatal":false,"retry_after_secs":1}',
)


def picture(encoding: str, mode: str = "L") -> bytes:
    """An encoded picture of PICTURE_SIZE, of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (*PICTURE_SIZE[::-1], 4), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(data, encoding)
    return data.getvalue()


def pictures() -> list[bytes]:
    png = [picture("png", mode) for mode in ("L", "RGB", "RGBA", "P", "1", "I;16")]
    return [*png, picture("jpeg"), picture("jpeg", "RGB")]


def stream_entries() -> list[Packed]:
    """One of every class."""
    points = pack_floats(np.full((2, 3), 0.5, np.float32))
    pixels = pack_pixels(np.full((2, 3), 0.5))
    session: dict[str, Any] = {"session_id": "s", "gateway_id": "g", "frame_id": 1}
    seen: dict[str, Any] = {
        "model_version": "v",
        "predicted_psnr_db": 20.0,
        "received_at_secs": 1.0,
    }
    return [
        FrameAccepted(
            **session,
            checkpoint_key="k",
            coordinate_set_id=2,
            width=8,
            height=6,
            samples_bytes=pixels,
            state_bytes=pack_floats(np.ones(3, np.float32)),
            client_time_secs=1.0,
            received_at_secs=2.0,
            footprint_bytes=b"\1\2",
        ),
        FrameReconstructed(
            **session,
            **seen,
            width=8,
            height=6,
            sample_count=2,
            grid_width=3,
            grid_height=2,
            entropy_bytes=points,
            log_error_bytes=points,
            queue_secs=0.0,
            inference_secs=0.1,
        ),
        CoordinatesChosen(
            **session,
            **seen,
            coordinate_set_id=4,
            coords_bytes=points[:16],
            importance_width=1,
            importance_height=1,
            importance=b"\7",
            footprint_bytes=b"\1\2",
        ),
        ViewEncoded(
            session_id="s",
            frame_id=1,
            width=9,
            height=9,
            model_version="v",
            reconstruction_png=b"png",
            samples_bytes=pixels,
            footprint_bytes=b"\1\2",
            state_bytes=points[:8],
            keyframe_encoding="png",
            keyframe=b"png",
        ),
        SegmentSealed(checkpoint_key="k", session_id="s", path="p", frame_count=1, size_bytes=2),
        CheckpointPublished(checkpoint_key="k", model_version="v", val_psnr_db=20.0),
        DeadLetter(
            source_stream="f", group="g", entry_id="1-1", deliveries=3, reason="r", data=b"d"
        ),
        PastSamples(frame_id=1, width=8, height=6, samples_bytes=pixels, footprint_bytes=b"\1\2"),
    ]


def golden(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(f"{kind}*.bin"))]
