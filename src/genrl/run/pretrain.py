"""`genrl pretrain`: an episode store with embeddings becomes a multimodal-foundation world model."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genrl.data.sampler import WindowSampler
from genrl.data.store import EmbeddingInfo, open_stores
from genrl.evaluation.prediction import Prediction, predict_open_loop, prediction_video
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.compute import DeviceName, pick_device, prepare
from genrl.infra.config import config_hash
from genrl.infra.distributed import ALONE, World, join_world
from genrl.infra.errors import UserError
from genrl.infra.inputs import RunInput
from genrl.infra.media import write_video
from genrl.infra.progress import ProgressReport
from genrl.infra.rundir import Run
from genrl.interop.original_import import IMPORTED_CHECKSUM
from genrl.models.foundation import FoundationConfig, FoundationModel, ModelSpec
from genrl.models.latents import LatentCache
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig, FrameLearner, LatentLearner
from genrl.run.adoption import adopt, transfer
from genrl.run.inputs import model_input, store_inputs
from genrl.run.prompting import GENERAL, model_directory
from genrl.vlm.own import OWN_CLASS
from genrl.vlm.registry import column_name, column_vlm, find_vlm, load_vlm, vlm_source

LEARNERS: dict[str, type[FoundationLearner]] = {
    "frame": FrameLearner,
    "joint": FoundationLearner,
    "latent": LatentLearner,
}
"""Stages in their order; each has a configuration of its name."""
CALIBRATION_BATCHES = 8
"""Batches of frames that the posterior's start is fitted to."""
PREDICTION_WINDOWS = 16
"""Windows of the open-loop prediction that is logged."""
VIDEO_SCALE = 3
RESIDENT_SHARE = 0.6
"""Of a GPU's free memory that frames may take; an update wants the rest."""


@dataclass(frozen=True)
class StageConfig:
    """One stage of training."""

    updates: int
    """Gradient steps; 0 leaves the stage out."""
    batch_size: int
    """Windows of a batch."""
    window: int
    """Frames of a window; a multiple of the frames the VLM reads at a time (8)."""
    learner: FoundationLearnerConfig = field(default_factory=FoundationLearnerConfig)
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the stage; cosine ends at `final_rate` of it."""
    final_rate: float = 0.03
    warmup: int = 0
    """Updates over which the learning rate rises from zero."""

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch_size < 1 or self.window < 1 or self.warmup < 0:
            raise ValueError(
                "updates and warmup must be 0 or more, batch-size and window at least 1; got "
                f"{self.updates}, {self.warmup}, {self.batch_size}, {self.window}"
            )

    def rate(self, update: int) -> float:
        """Factor of the learning rate at an update of the stage."""
        warm = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return warm
        progress = update / max(1, self.updates)
        return warm * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class FrameStageConfig(StageConfig):
    """The stage from single frames."""

    updates: int = 0
    batch_size: int = 64
    window: int = 1
    """Frames in a row; 1 draws each by itself."""
    spread: float = 2.0
    """Standard deviation over frames that posterior logits begin with."""
    fixed_code: int = 120
    """First updates, in which the decoder alone learns: until it reads the samples, the encoder's gradient is noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spread <= 0 or self.fixed_code < 0:
            raise ValueError(
                f"frame.spread must be positive and frame.fixed-code 0 or more; got {self.spread}, {self.fixed_code}"
            )

    def rate(self, update: int) -> float:
        """As for any stage; the warm-up begins again when the encoder joins."""
        joined = update - self.fixed_code
        warm = min(1.0, (joined + 1) / self.warmup) if self.warmup and joined >= 0 else 1.0
        return super().rate(update) * warm


@dataclass(frozen=True)
class PretrainConfig:
    """Pretrain world model, connector and aligner on an episode store.

    The joint stage trains from windows of frames. The frame stage, where asked for, precedes it: encoder and decoder
    learn from single frames, without time. The latent stage, where asked for, then freezes encoder and decoder,
    computes every posterior of the data set once, and trains what is sequential (GRU, dynamics, connector, aligner)
    from them, about ten times faster. The result is OUT/model. The same command resumes.
    """

    data: tuple[Path, ...] = ()
    """Stores, or directories of stores."""
    out: Path | None = None
    """Run directory; by default named after verb, data and options."""
    vlm: str = "mini"
    """Video-language model whose embeddings the stores hold, as `genrl embed` was given it."""
    world_model: str | None = None
    """Start from the world model of this model (a name or directory): to connect it to another VLM, or to go on in the
    latent stage (--joint.updates 0)."""
    start: str | None = None
    """Start from all of this model, connector and aligner too, and keep its general policy: where the VLM's embeddings
    have moved but a little (`genrl train-vlm --start`)."""
    transfer: str | None = None
    """Begin from the weights of this model where their sizes fit, though it was made for another body: convolutions
    that know floor and limbs learn a new body sooner."""
    model: FoundationConfig = field(default_factory=FoundationConfig)
    frame: FrameStageConfig = field(default_factory=FrameStageConfig)
    """Stage from single frames; left out where --world-model or --start gives a model that has learnt."""
    joint: StageConfig = field(default_factory=lambda: StageConfig(updates=500_000, batch_size=48, window=48))
    """Stage from windows."""
    joint_connector: bool = True
    """Train connector and aligner in the joint stage too; without, it needs no embeddings."""
    latent: StageConfig = field(default_factory=lambda: StageConfig(updates=0, batch_size=48, window=48))
    """Stage from cached posteriors."""
    latent_dynamics: bool = True
    """Train GRU and dynamics in the latent stage too; without, connector and aligner alone follow a new VLM."""
    resident: bool | None = None
    """Keep all frames in the device's memory (by default on a GPU that has room)."""
    ray: str | None = None
    """Train on a Ray cluster: its address, `auto` for the one this machine belongs to, or `local`. Without it, several
    processes are started by `torchrun`."""
    workers: int = 1
    """Processes on the cluster; each takes a GPU where there are some."""
    seed: int = 0
    device: DeviceName = "auto"
    fresh: bool = False
    """Start over, deleting an existing run, but nothing else in its directory."""
    log_every: int = 50
    save_every: int = 500
    video_every: int = 2000
    """Updates between open-loop prediction videos and errors, 0 for none."""

    def __post_init__(self) -> None:
        if sum(name is not None for name in (self.start, self.world_model, self.transfer)) > 1:
            raise UserError("--start, --world-model and --transfer exclude each other: training goes on from one")

    @property
    def learnt(self) -> str | None:
        """The model that training goes on from."""
        return self.start or self.world_model


class Pretraining:
    """The learner of the present stage, as one thing that a run saves and restores."""

    def __init__(
        self,
        model: FoundationModel,
        samplers: Mapping[str, WindowSampler],
        config: PretrainConfig,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.model = model
        self.samplers = samplers
        self.config = config
        self.device = device
        self.cache: LatentCache | None = None
        self.stage = ""
        self.learner: FoundationLearner

    def enter(self, stage: str) -> None:
        """Fresh optimisers over what the stage trains, unless it is the present one."""
        if stage != self.stage:
            if self.stage:
                self.samplers[self.stage].release()
            self.stage = stage
            config: StageConfig = getattr(self.config, stage)
            options = {"dynamics": self.config.latent_dynamics} if stage == "latent" else {}
            self.learner = LEARNERS[stage](self.model, config.learner, self.world, **options)
            gc.collect()  # The one before refers to itself, and has moments and graphs.

    def update(self, number: int, done: int) -> dict[str, Tensor]:
        """One update of the present stage.

        Args:
            number: Update of the run, which names the batch.
            done: Updates of this stage before.
        """
        sampler = self.samplers[self.stage]
        config: StageConfig = getattr(self.config, self.stage)
        rate = config.rate(done)
        if isinstance(self.learner, LatentLearner):
            if self.cache is None:
                self.cache = cache_latents(self, sampler)
            return self.learner.update_latents(self.cache.batch(sampler.rows(number)), rate)
        batch = sampler.batch(number).to(self.device)
        if not isinstance(self.learner, FrameLearner):
            return self.learner.update(batch, rate)
        assert isinstance(config, FrameStageConfig)
        if not done:
            frames = [sampler.batch(number + i).frames.flatten(0, 1) for i in range(CALIBRATION_BATCHES)]
            self.model.world_model.calibrate(self.world.gather(torch.cat(frames).to(self.device)), config.spread)
        return self.learner.update_frames(batch.frames, rate, fixed_code=done < config.fixed_code)

    def state_tensors(self) -> dict[str, Tensor]:
        """Those of the learner."""
        return self.learner.state_tensors()

    def state_meta(self) -> dict[str, Any]:
        """The stage, beside the learner's."""
        return self.learner.state_meta() | {"stage": self.stage, "vlm_checksum": self.model.spec.vlm_checksum}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` and `state_meta` gave."""
        own = self.model.spec
        was = meta.get("vlm_checksum", own.vlm_checksum)  # Checkpoints from before it was recorded lack it.
        if was != own.vlm_checksum:
            raise UserError(
                f"the run began with embeddings {own.vlm!r} of checksum {was}, --data now has those of "
                f"{own.vlm_checksum}; --fresh starts over with them"
            )
        self.enter(meta["stage"])
        self.learner.load_state(tensors, meta)


def pretrain(config: PretrainConfig) -> Path:
    """Runs or resumes pretraining.

    Returns:
        Directory of the model.

    Raises:
        UserError: If data, embeddings or options do not fit, before anything is trained.
    """
    if not config.data:
        raise UserError("--data is missing: name an episode store (`genrl collect` makes one)")
    if config.ray is not None:
        from genrl.run.pretrain_ray import pretrain_on_ray

        return pretrain_on_ray(config)
    if config.workers != 1:
        raise UserError("--workers counts processes of --ray; without a cluster use torchrun --nproc-per-node")
    world, device = join_world(pick_device(config.device))
    prepare(device)
    samplers = make_samplers(config, device, world)
    spec = model_spec(config, samplers)
    out = config.out or Path(f"pretrain-{config.data[0].name}-{config_hash(config)}")
    with Run.open(
        out,
        "pretrain",
        config,
        fresh=config.fresh,
        extendable=("joint.updates", "latent.updates"),
        world=world,
        results=("model", "videos"),
        inputs=read_inputs(config, spec),
    ) as run:
        if run.is_complete(lambda: check_result(out / "model")):
            if world.leads:
                print(f"{out}: finished; the model is {out / 'model'} (--fresh starts over)")
            return out / "model"
        torch.manual_seed(config.seed)
        model = FoundationModel(config.model, spec).to(device)
        if config.transfer is not None:
            transfer(model, config.transfer)
        general = adopt(model, config.start, config.world_model)
        training = Pretraining(model, samplers, config, device, world)
        start = run.restore(training)
        train(run, training, start)
        if not run.stopped and world.leads:
            results = prediction_errors(predict(training.model, config, device))
            training.model.save(run.path / "model", updates=all_updates(config), measured=results)
            if general is not None:
                general.save(run.path / "model" / GENERAL)
            run.finish({"model": str(run.path / "model"), **results})
            print(f"model: {run.path / 'model'}")
    return out / "model"


def read_inputs(config: PretrainConfig, spec: ModelSpec) -> list[RunInput]:
    """Stores, embeddings and models that the result depends on."""
    inputs = [*store_inputs(config.data), RunInput(f"--vlm {config.vlm}", spec.vlm_checksum)]
    options = {"--start": config.start, "--world-model": config.world_model, "--transfer": config.transfer}
    for option, name in options.items():
        if name is not None:
            with suppress(UserError):  # A finished run needs it no more; any other one will miss it itself.
                inputs.append(model_input(option, name))
    return inputs


def check_result(model: Path) -> None:
    """Raises UserError where the model is missing or damaged, or the general policy that it may have from --start."""
    load_checkpoint(model)
    if (model / GENERAL).is_dir():
        load_checkpoint(model / GENERAL)


def train(run: Run, training: Pretraining, start: int) -> None:
    """All stages in one count of updates."""
    config, device = training.config, training.device
    updates = stage_updates(config)
    first = dict(zip(updates, accumulate(updates.values(), initial=0), strict=False))
    total = sum(updates.values())
    for update in run.updates(total, start, "pretrain", headline="loss/kl"):
        stage = next(name for name in reversed(updates) if updates[name] and update >= first[name])
        training.enter(stage)
        metrics = training.update(update, update - first[stage])
        run.log(update, metrics, every=config.log_every)
        if config.video_every and run.world.leads and stage != "frame" and (update + 1) % config.video_every == 0:
            prediction = predict(training.model, config, device)
            log_prediction(run, prediction, update, training.model.spec.frames_per_second)
        run.save(update, training, every=config.save_every)


def stage_updates(config: PretrainConfig) -> dict[str, int]:
    """Updates of each stage, in their order."""
    updates = {stage: getattr(config, stage).updates for stage in LEARNERS}
    return updates | {"frame": 0} if config.learnt is not None else updates


def all_updates(config: PretrainConfig) -> dict[str, int]:
    """Updates of each kind that are in the result, those of --start included."""
    before = load_checkpoint(model_directory(config.start))[1].get("updates", {}) if config.start else {}
    return before | {stage: count + before.get(stage, 0) for stage, count in stage_updates(config).items()}


def make_samplers(config: PretrainConfig, device: torch.device, world: World = ALONE) -> dict[str, WindowSampler]:
    """One sampler for each stage that has updates; refuses data that do not fit together."""
    samplers = {}
    column = column_name(config.vlm)
    resident = device if keeps_frames(config, device) else None
    pinned = device.type == "cuda" and resident is None
    updates = stage_updates(config)
    for stage, count in updates.items():
        if count:
            world.share(getattr(config, stage).batch_size, f"--{stage}.batch-size")
    share = (world.rank, world.size)
    if updates["frame"]:
        samplers["frame"] = WindowSampler(
            config.data,
            config.frame.window,
            config.frame.batch_size,
            config.seed,
            resident=resident,
            share=share,
            pinned=pinned,
        )
    if updates["joint"]:
        samplers["joint"] = WindowSampler(
            config.data,
            config.joint.window,
            config.joint.batch_size,
            config.seed,
            embedding=column if config.joint_connector else None,
            resident=resident,
            share=share,
            rewards=config.model.world_model.reward_head,
            pinned=pinned,
        )
    if updates["latent"]:
        latent = config.latent
        samplers["latent"] = WindowSampler(
            config.data, latent.window, latent.batch_size, config.seed, column, share=share
        )
    if not samplers:
        raise UserError("--frame.updates, --joint.updates and --latent.updates are all 0: nothing to train")
    return samplers


def keeps_frames(config: PretrainConfig, device: torch.device) -> bool:
    """Whether all frames are kept in the device's memory: as asked for, else on a GPU that has room."""
    if config.resident is not None or device.type != "cuda":
        return bool(config.resident)
    stores = open_stores(config.data)
    needed = sum(store.num_frames * 3 * store.spec.frame_size**2 for store in stores)
    free = torch.cuda.mem_get_info(device)[0]
    if needed <= RESIDENT_SHARE * free:
        return True
    gigabytes = f"{needed / 2**30:.1f} GiB of frames, {free / 2**30:.1f} GiB free on the GPU"
    print(f"{gigabytes}: they are read ahead from disk (--resident True keeps them there)", file=sys.stderr)
    return False


def model_spec(config: PretrainConfig, samplers: Mapping[str, WindowSampler]) -> ModelSpec:
    """What the model is made for, from the data and the VLM."""
    data = next(iter(samplers.values())).spec
    infos = [sampler.embedding_info for sampler in samplers.values() if sampler.embedding_info]
    if infos:
        check_weights(config.vlm, infos[0], config.data[0])
        name, checksum, dim, frames = infos[0].name, infos[0].checksum, infos[0].dim, infos[0].frames_per_clip
        source = infos[0].source
    else:
        vlm = load_vlm(config.vlm)
        name, checksum, dim, frames = vlm.name, vlm.checksum, vlm.embed_dim, vlm.frames_per_clip
        source = ""
    for stage, sampler in samplers.items():
        window = getattr(config, stage).window
        if sampler.embedding_info and window % frames:
            raise UserError(f"--{stage}.window {window} is not a multiple of the {frames} frames that {name} reads")
    if data.frame_size != 64:
        raise UserError(f"the data have frames of {data.frame_size} pixels; the model reads 64 (`genrl data import`)")
    return ModelSpec(
        domain=data.domain,
        look=data.look,
        camera=data.camera,
        action_dim=data.action_dim,
        action_repeat=data.action_repeat,
        control_timestep=data.control_timestep,
        action_low=data.action_low or (-1.0,) * data.action_dim,
        action_high=data.action_high or (1.0,) * data.action_dim,
        discrete=data.discrete,
        vlm=name,
        vlm_checksum=checksum,
        embed_dim=dim,
        frames_per_clip=frames,
        vlm_source=source or vlm_source(config.vlm),
    )


def check_weights(vlm: str, info: EmbeddingInfo, data: Path) -> None:
    """Refuses embeddings that other weights made than those this machine has under the name of the VLM.

    A model learns from the embeddings alone, so a VLM that is not here is no fault, and none is downloaded; prompting
    will compare then.
    """
    vlm = column_vlm(vlm, info.source)
    if info.checksum == IMPORTED_CHECKSUM or (find_vlm(vlm) is None and not OWN_CLASS.fullmatch(vlm)):
        return
    own = load_vlm(vlm).checksum
    if own != info.checksum:
        raise UserError(
            f"--data {data} has embeddings {info.name!r} from other weights (checksum {info.checksum}) than "
            f"--vlm {vlm} has here ({own}), whose prompts the model would not understand; "
            f"`genrl embed --data {data} --vlm {vlm} --fresh` computes them anew"
        )


def cache_latents(training: Pretraining, sampler: WindowSampler) -> LatentCache:
    """Posteriors of the whole data set, under a progress bar of the leader's."""
    assert sampler.embedding_info is not None
    column, stores = sampler.embedding_info.name, open_stores(training.config.data)
    cache = LatentCache(training.model.world_model, column, training.device)
    if not training.world.leads:
        cache.add(stores)
        return cache
    with ProgressReport(sampler.num_frames, 0, "posteriors", "frame") as progress:
        cache.add(stores, progress.advance)
    return cache


def predict(model: FoundationModel, config: PretrainConfig, device: torch.device) -> Prediction:
    """Open-loop prediction of the same few windows each time, as long as the longest that training reads."""
    window = max(getattr(config, stage).window for stage, updates in stage_updates(config).items() if updates)
    sampler = WindowSampler(config.data, max(window, 8), PREDICTION_WINDOWS, config.seed, read_ahead=0)
    return predict_open_loop(model.world_model, sampler.batch(0).to(device))


def prediction_errors(prediction: Prediction) -> dict[str, float]:
    """Mean squared errors after the context, pixels in 0 ... 1."""
    after = slice(prediction.context, None)
    return {
        "prediction/error": float(prediction.error[after].mean()),
        "prediction/mean_error": float(prediction.mean_error[after].mean()),
        "prediction/copy_error": float(prediction.copy_error[after].mean()),
        "prediction/reconstruction_error": float(prediction.reconstruction_error[after].mean()),
        "prediction/relative_error": prediction.relative_error,
        "prediction/relative_mean_error": prediction.relative_mean_error,
    }


def log_prediction(run: Run, prediction: Prediction, update: int, fps: float) -> None:
    """Writes the prediction's video and logs its errors."""
    frames = prediction_video(prediction).repeat(VIDEO_SCALE, 1).repeat(VIDEO_SCALE, 2)
    write_video(run.path / "videos" / f"prediction_{update + 1:08d}.mp4", frames, fps)
    run.log(update, prediction_errors(prediction))
