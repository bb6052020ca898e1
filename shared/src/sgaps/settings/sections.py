"""What can be set: frozen pydantic models, a section for each group of `conf/`."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sgaps.errors import SettingsError
from sgaps.protocol.bounds import MAX_SAMPLES, MAX_STATE_DIM

PRINTABLE_ASCII = r"^[!-~]{0,1024}$"
"""What both a header and a JSON string carry unchanged."""

Positive = Annotated[int, Field(gt=0)]
Width = Annotated[int, Field(gt=0, le=8192)]
Depth = Annotated[int, Field(ge=0, le=64)]
Secs = Annotated[float, Field(gt=0, le=1e9)]
"""At most thirty years, in whatever unit they are counted then."""
Threads = Annotated[int, Field(gt=0, le=1024)]
"""Torch dies of a million without a word."""
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _as_browsers_send_it(origin: str) -> str:
    parts = urlsplit(origin)
    is_usual = (parts.scheme, parts.port) in {("https", 443), ("http", 80)}
    host = parts.netloc.removesuffix(f":{parts.port}") if is_usual else parts.netloc
    sent = f"{parts.scheme}://{host}".lower()
    if origin != "null" and (origin != sent or not parts.scheme or not host or "@" in host):
        raise ValueError("write it as browsers send it, and no more: https://game.example[:8443]")
    return origin


def _network(address: str) -> str:
    if address != "*":
        ipaddress.ip_network(address)
    return address


Origin = Annotated[str, AfterValidator(_as_browsers_send_it)]
ProxyAddress = Annotated[str, AfterValidator(_network)]

PatternName = Literal["uniform_grid", "random", "stratified", "checkerboard", "jittered_grid"]
UpdateStrategy = Literal["fixed", "interval", "quality", "adaptive"]
InpaintingName = Literal["telea", "navier_stokes"]
ReconstructorName = Literal["spt", InpaintingName]


class Section(BaseModel):
    """A frozen block of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerSettings(Section):
    """The gateway: where it listens and what it refuses."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    gateway_id: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]
    environment: Literal["development", "production"]
    allowed_origins: tuple[Origin, ...]
    """Origins browsers may come from; in development, localhost on any port as well."""
    auth_token: Annotated[str, Field(pattern=PRINTABLE_ASCII)]
    """Empty, and no auth_token_file: nobody needs a token."""
    auth_token_file: Path | None
    """A file that holds the token: what a secret is mounted as."""
    tls_certificate: Path | None
    """Certificate chain in PEM; with it and its key the gateway speaks https and wss."""
    tls_key: Path | None
    trusted_proxies: tuple[ProxyAddress, ...]
    """Addresses or networks whose X-Forwarded-For is believed, * for all of them; otherwise all
    clients behind a proxy share its address."""
    session_start_timeout_secs: Secs
    resume_window_secs: Secs
    ping_interval_secs: Secs
    client_timeout_secs: Secs
    """How long a client may leave a ping unanswered, what is sent to it unread, or a request
    unfinished before it is dropped."""
    max_sessions: Positive
    max_sessions_per_address: Positive
    """Those that can still be resumed included."""
    max_waiting: Positive
    """Connections without a session."""
    max_waiting_per_address: Positive
    max_viewers: Positive
    """People who look at sessions, by a socket or by `reconstruction.png`; one address has a
    quarter of the places."""
    max_message_bytes: Positive
    max_samples: Annotated[int, Field(gt=0, le=MAX_SAMPLES)]
    max_frame_rate: Annotated[float, Field(ge=2e-3)]
    """Frames per second above which a session is told to slow down."""
    max_pixels: Positive
    """Of a session's picture: rebuilding one takes a reconstructor about 200 bytes for each."""
    max_keyframe_pixels: Positive
    """Sessions with larger pictures are asked for no keyframes."""
    keyframe_interval: Annotated[int, Field(ge=0)]
    """Every how many frames the client sends the whole frame; 0 = never."""
    history_frames: Annotated[int, Field(ge=0)]
    """Past sample sets kept per session beside the stream."""
    watch_secs: Secs
    """How long one look at a session keeps its pictures coming."""
    probe_interval_secs: Annotated[float, Field(ge=0)]
    """How often the gateway sends a frame of its own through all stages; 0 = never."""

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> ServerSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key come together")
        return self

    @model_validator(mode="after")
    def _one_token(self) -> ServerSettings:
        if self.auth_token and self.auth_token_file:
            raise ValueError("auth_token or auth_token_file, not both")
        return self

    def token(self) -> str:
        """What clients must show; "" where nobody needs anything.

        Only the gateway, and who starts it, can read the file: so it is not read with the
        settings. Raises SettingsError: no token in the file, or none where other machines can
        reach the gateway.
        """
        token = _token_in(self.auth_token_file) if self.auth_token_file else self.auth_token
        if not token and not _is_loopback(self.host):
            raise SettingsError(
                f"server.host={self.host} can be reached from other machines: name a file with a "
                "token in server.auth_token_file (openssl rand -hex 32), or listen on 127.0.0.1"
            )
        return token


def _token_in(file: Path) -> str:
    try:
        token = file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"server.auth_token_file {file} cannot be read: {error}") from error
    if not token or not re.fullmatch(PRINTABLE_ASCII, token):
        raise SettingsError(
            f"server.auth_token_file {file} must hold 1 to 1024 printable ASCII characters "
            "without spaces"
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class BusSettings(Section):
    """The Redis-compatible broker and how its streams are read."""

    url: str
    """redis://host:port/0; rediss:// speaks TLS. Of options it takes db, username, password."""
    username: str
    """ACL user (`sgaps acl`); empty: the one in the URL, or none."""
    password_file: Path | None
    """File with the password: in a URL it would be in the list of processes."""
    client_name: str
    """What CLIENT LIST shows; a service sets its own."""
    tls_ca_file: Path | None
    """Certificates that the broker's must be signed by; none: those of this machine."""
    tls_certificate_file: Path | None
    """This client's certificate, where the broker wants one; with its key."""
    tls_key_file: Path | None
    block_secs: Annotated[float, Field(gt=0, le=2)]
    socket_timeout_secs: Secs
    batch_size: Positive
    min_idle_secs: Secs
    """An entry that nobody touched for so long may be claimed; what a live consumer works at is
    renewed, for a minute at most."""
    max_deliveries: Positive
    max_backlog: Positive
    """Entries of sgaps:frames kept for a slow reconstructor once they are recorded."""
    max_backlog_secs: Secs
    """How long they are, at most, and what is rebuilt for a sampler: nobody plays on what is older,
    and large pictures fill a broker before there are so many."""

    @model_validator(mode="after")
    def _socket_outlasts_block(self) -> BusSettings:
        if self.socket_timeout_secs <= self.block_secs:
            raise ValueError("socket_timeout_secs must be greater than block_secs")
        return self

    @model_validator(mode="after")
    def _tls_is_spoken(self) -> BusSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        if (self.tls_ca_file or self.tls_key_file) and not self.url.startswith("rediss://"):
            raise ValueError("TLS files without TLS: url must begin with rediss://")
        return self


class SamplingSettings(Section):
    """Where the next samples go."""

    pattern: PatternName
    default_sample_count: Annotated[int, Field(ge=1, le=10_000)]
    importance_share: Share
    """Of the samples, placed by importance; the others lie everywhere."""
    min_spacing_px: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]


class MaskUpdateSettings(Section):
    """When a session gets new coordinates."""

    strategy: UpdateStrategy
    update_interval: Positive
    """Frames between two updates (strategies interval and adaptive)."""
    quality_threshold: float
    """Predicted PSNR in dB below which a new set is sent (strategies quality and adaptive)."""


ImportanceMethod: TypeAlias = Literal["attention_entropy", "predicted_error"]


class ImportanceSettings(Section):
    """What importance is computed from."""

    method: ImportanceMethod
    epsilon: Annotated[float, Field(gt=0)]


class ModelSettings(Section):
    """Shape of the Sparse Pixel Transformer; every number its builder needs.

    A manifest carries one, so the bounds also keep a checkpoint from asking for the moon.
    """

    embed_dim: Width
    num_heads: Width
    encoder_layers: Depth
    decoder_layers: Annotated[Depth, Field(gt=0)]
    ffn_dim: Width
    query_stride: Width
    color_channels: Literal[1, 3]
    """Sessions and recordings are gray so far: 3 is for those who call the model themselves."""
    position_frequencies: Width
    state_frequencies: Width
    max_state_dim: Width
    refine_channels: Annotated[Width, Field(ge=2)]
    """Half of them come from the queries."""
    coarse_channels: Annotated[tuple[Width, ...], Field(max_length=4)] = ()
    """Of the scales below those of `refine_channels`, each half as fine as the one before; none in
    the manifests of checkpoints that are older than this setting."""
    history_frames: Annotated[int, Field(ge=0)]
    """Past sample sets the model reads beside the present one."""
    attended_frames: Annotated[int, Field(ge=0)]
    """Of them, the newest that attention looks at too; the others enter the memory picture."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSettings:
        if self.embed_dim % self.num_heads:
            fitting = [n for n in range(1, 17) if self.embed_dim % n == 0]
            raise ValueError(
                f"embed_dim {self.embed_dim} must be a multiple of num_heads: for it "
                f"model.num_heads may be {', '.join(map(str, fitting))}"
            )
        return self


DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]


class CurriculumPhase(Section):
    """Part of a training run."""

    samples: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Per frame; each batch has one of these counts."""
    epochs: Positive
    """How long, in proportion to the other phases: together they last a whole run."""


class AugmentationSettings(Section):
    """What training changes in frames. All at 0: nothing.

    Drawn are all examples but those that come as they were recorded: half of the whole frames that
    were recorded with as many samples as are wanted, where nothing is cut or shrunk.
    """

    flip_share: Share
    """Of the drawn examples, seen in a mirror and without their state."""
    crop_share: Share
    """Of the batches, cut out of the frames: against learning places of the screen by heart."""
    scale_share: Share
    """Of the batches, shrunk to between half and all of their sides."""
    noise_std: Share
    """Of sensor noise at most, in the drawn examples; 1 is from black to white."""
    compression_share: Share
    """Of the frames of drawn examples, compressed as JPEG before they are sampled."""
    state_drop_share: Share
    """Of the values of state vectors, taken as missing."""
    state_absent_share: Share
    """Of the examples, without any state: a model that tells games apart by it is lost without."""


class TrainingSettings(Section):
    """How a key is trained, and when the trainer starts by itself."""

    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Weight
    max_epochs: Positive
    batch_size: Positive
    accumulation_steps: Positive
    warmup_epochs: Annotated[int, Field(ge=0)]
    """Of max_epochs: that share of a run warms up, whatever ends it, and at most half of it."""
    max_secs: Secs
    """Wall-clock budget of one run; it ends at max_epochs or here, whichever is first."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Of the moving average of the weights, which is what is kept; 0 keeps the last weights."""
    gradient_clip: Annotated[float, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)]
    device: DeviceName
    """On a GPU the network computes in bfloat16, everything else in float32."""
    cpu_threads: Threads
    min_new_frames: Positive
    """New recorded frames of a key that start a run."""
    min_sessions: Annotated[int, Field(ge=2)]
    """Sessions needed before a run: at least one is held out for validation."""
    val_share: Annotated[float, Field(gt=0, lt=1)]
    curriculum: tuple[CurriculumPhase, ...]
    """One after the other; empty: as many samples as are served."""
    workers: Annotated[int, Field(ge=0, le=64)]
    """Processes that prepare batches beside the training one; 0: it does so itself."""
    save_every_secs: Secs
    """How much of a run that is cut off is lost at most."""
    min_gain_db: Weight
    """A challenger is published if it beats the champion by this on the held-out sessions: in PSNR,
    less what the loss counts to the eye (loss.structural, loss.perceptual)."""
    keep_versions: Positive | None
    """Versions of a key that are left when a run begins, the newest; null: all."""


class LossSettings(Section):
    """Weights of the loss terms."""

    sampled: Weight
    """Squared error on pixels that were sampled but held out of the input."""
    full: Weight
    """Squared error on the whole frame, where a keyframe gives one."""
    structural: Weight
    """1 - SSIM on keyframes."""
    temporal: Weight
    """Squared error of the change since the whole frame before; doubles the cost of a step."""
    perceptual: Weight
    """Shift-tolerant LPIPS on keyframes; above 0 it needs sgaps-trainer[perceptual]. Look at the
    pictures of a run: a mere pattern may meet it (docs/quality.md)."""
    log_error: Weight
    """Squared error of the predicted log |error|."""


class DataSettings(Section):
    """Where recordings and checkpoints live."""

    recordings_dir: Path
    checkpoints_dir: Path
    shipped_dir: Path
    """Checkpoints that come with the project; those in checkpoints_dir go before them."""
    runs_dir: Path
    """Curves and pictures of training runs by hand."""
    train: tuple[Path, ...]
    """Recordings for `sgaps train`; empty: everything under recordings_dir."""
    val: tuple[Path, ...]
    """Held-out recordings; empty: val_share of the sessions in train."""
    test: tuple[Path, ...]
    """Recordings for `sgaps evaluate`."""

    @model_validator(mode="after")
    def _each_in_its_own_folder(self) -> DataSettings:
        # Not by resolve(), which raises where a link leads to itself.
        if os.path.realpath(self.recordings_dir) == os.path.realpath(self.checkpoints_dir):
            raise ValueError(
                "recordings_dir and checkpoints_dir are one folder: name two, for a training run "
                "locks a key's folder in both, and would wait for itself"
            )
        return self


class LoggingSettings(Section):
    """The lines of every service; and how a training run by hand is logged, beside its files."""

    form: Literal["text", "json"]
    """Lines for people, or an object a line for machines."""
    look_every_secs: Secs
    """How often held-out frames are rebuilt and drawn."""
    wandb: Literal["offline", "online", "disabled"]
    """Weights & Biases; offline runs stay on this machine until `wandb sync`."""
    wandb_project: str


class TracingSettings(Section):
    """Spans of frames, for a collector of OpenTelemetry."""

    endpoint: Annotated[str, Field(pattern=r"\A(https?://[!-~]+)?\z")]
    """Where OTLP/HTTP is taken: http://host:4318/v1/traces; empty: nothing is traced."""
    sample_ratio: Share
    """Of the frames, drawn by the gateway."""


class RecorderSettings(Section):
    """Segments on disk."""

    segment_frames: Positive
    segment_idle_secs: Secs
    """A session silent for this long has its segment sealed; one of fewer than ten frames waits
    longer for more, a single frame ten times as long."""
    min_free_bytes: Annotated[int, Field(ge=0)]
    """With less free on the disk, nothing is recorded until there is more."""
    max_deliveries: Positive
    """Instead of the bus's: being killed from outside with a frame in hand uses up a delivery too,
    and what is given up here is lost."""
    keep_secs: Secs | None
    """Trained segments that were sealed longer ago are deleted; null: age deletes nothing."""
    keep_bytes: Positive | None
    """While the recordings are larger, the oldest trained segments are deleted; null: never.
    With one of the two set, they are on a full disk too."""


class ReconstructorSettings(Section):
    """What rebuilds the frames."""

    method: ReconstructorName
    device: DeviceName
    gpu_leases_dir: Path | None
    """A folder that the replicas of a machine share, to have a GPU each; none: the first GPU."""
    max_batch: Positive
    """Frames of one turn at most, each of another session; the model on a CPU takes four at
    most."""
    max_models: Positive
    """Keys whose own checkpoints are in memory at most; the general one serves what is played
    beyond them."""
    cpu_threads: Threads
    inpaint_radius_px: Positive


class PoseLayout(Section):
    """Which values of a state vector tell where the eye is and where it looks."""

    values: tuple[Annotated[int, Field(ge=0, lt=1024)], ...] = Field(min_length=4, max_length=5)
    """Of east, north, up, yaw, and where there is one pitch. Degrees; yaw from east, anticlockwise,
    pitch above the horizon."""
    nearest: Annotated[float, Field(ge=1e-6, le=1e6)]
    """How near a wall may be, in units of the position; forty times that is far away."""


class AtlasSettings(Section):
    """Of which levels whole pictures are kept, to know them by heart."""

    layouts: Mapping[str, PoseLayout]
    """By a pattern of checkpoint keys, as of file names: the one that is the key itself, else the
    first that fits."""
    max_pictures: Annotated[int, Field(ge=0, le=1 << 14)]
    """Of a level. 0: no atlas."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    """Of its pictures: at 80 one of 320x240 takes 12 to 15 kB, at 40 less than half of that."""

    def layout_of(self, checkpoint_key: str) -> PoseLayout | None:
        """None where the states of a key tell no pose."""
        if own := self.layouts.get(checkpoint_key):
            return own
        fitting = (
            layout
            for pattern, layout in self.layouts.items()
            if fnmatchcase(checkpoint_key, pattern)
        )
        return next(fitting, None)


class Settings(Section):
    """All settings of all services; each reads its own section."""

    max_state_dim: Annotated[int, Field(gt=0, le=MAX_STATE_DIM)]
    sentinel_value: float
    target_fps: Annotated[float, Field(ge=2e-3, le=1e4)]
    """What the protocol can tell, halved too, as it is where frames come too fast."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    instance: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_.-]{1,64}\z")]
    """Name of this process among its like; stable over a restart."""
    metrics_host: str
    metrics_port: Annotated[int, Field(ge=0, le=65535)]
    """Prometheus endpoint of a worker; 0 = none."""
    server: ServerSettings
    bus: BusSettings
    sampling: SamplingSettings
    mask_update: MaskUpdateSettings
    importance: ImportanceSettings
    model: ModelSettings
    training: TrainingSettings
    augmentation: AugmentationSettings
    loss: LossSettings
    data: DataSettings
    logging: LoggingSettings
    tracing: TracingSettings
    recorder: RecorderSettings
    reconstructor: ReconstructorSettings
    atlas: AtlasSettings

    @property
    def asked_fps(self) -> float:
        """What clients are asked for: not more than is taken from them."""
        return min(self.target_fps, self.server.max_frame_rate)

    @model_validator(mode="after")
    def _samples_are_accepted(self) -> Settings:
        if self.sampling.default_sample_count > self.server.max_samples:
            raise ValueError("sampling.default_sample_count is above server.max_samples")
        return self

    @model_validator(mode="after")
    def _a_served_model_remembers_as_much(self) -> Settings:
        if self.model.history_frames > self.server.history_frames:
            raise ValueError("model.history_frames is above server.history_frames")
        return self
