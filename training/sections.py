"""The sections of a training configuration: models, bridges, alignment, data, objective, optimizer, saving."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelsConfig:
    """Which towers, codecs and text encoders.

    Args:
        root: ``pocket`` or a folder that holds a Wan and a Stable Audio diffusers folder.
        overlays: Folders of earlier runs (or of their checkpoints); the parts they trained replace those of ``root``.
        text_length: Tokens of a video caption, zero-padded; must be what sampling uses.
        gradient_checkpointing: Non-reentrant, so that every trainable block learns.
        compile: Compile the towers' blocks (torch.compile), which takes a minute and then saves time at every step.
        form: PAV-DiT: what a new model is where ``root`` holds none, ``pocket`` or ``published``. It is written into
            the output folder with the text encoder of the Wan that ``root`` holds and with ``text_length``.
    """

    root: str = "pocket"
    overlays: tuple[str, ...] = ()
    text_length: int = 1024
    gradient_checkpointing: bool = False
    compile: bool = False
    form: str = "pocket"


@dataclass(frozen=True)
class BridgesConfig:
    """The bridges to train; the defaults are the paper's for Wan 1.3B and Stable Audio Open.

    Args:
        kind: Fusion kind.
        reading: ``official`` or ``paper``.
        rope: Positions of the tokens: ``official``, ``time_aligned``, ``clock`` or ``token_clock``.
        video_points: Video blocks after which the bridges stand (0-based).
        audio_points: Audio blocks, as many.
        qk_width: Width of queries, keys and values over all heads.
        num_heads: Heads of a block.
        start: A bridge file to go on from, which then says kind, sizes, points and positions; empty for new bridges,
            which begin as the identity.
        start_rope: Other positions of the tokens than those of the file ``start``; its weights go on learning there.
        gate_bias: New attention bridges: added to the gates' biases; 1 opens them from the start, 0 leaves them as
            published.
        moment_bias: New bridges whose positions are one time axis (all but ``official``): how firmly heads begin by
            attending to what happens at the same time, 3 or with ``token_clock`` 7; 0 for anywhere, as published.
        settings: Settings that only this kind has, such as ``time_rank=64``.
    """

    kind: str = "dual_cross"
    reading: str = "official"
    rope: str = "official"
    video_points: tuple[int, ...] = (3, 7, 11, 15)
    audio_points: tuple[int, ...] = (2, 5, 8, 11)
    qk_width: int = 1536
    num_heads: int = 12
    start: str = ""
    start_rope: str = ""
    gate_bias: float = 0.0
    moment_bias: float = 0.0
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlignmentSection:
    """What picture and sound share, and how towers learn to read it (SAVA); sizes are those of the published towers.

    Args:
        start: Alignment file to go on from, which then says all sizes; a tower's run needs one.
        width: Dimensions of the shared space.
        hidden: Of the layers between.
        grid: Parts of the picture a side.
        positions: Parts of a moment of the sound.
        segment: Latent frames of a moment; as many as the clip has make one vector of it, as printed.
        mask: Kind of the masks.
        mask_input: What a mask is computed from: ``none`` keeps all, ``own`` its own side, ``both`` as printed.
        sparsity: λ, the price of a dimension in shares of 1/512; reached after a tenth of the run.
        pull: α, of both unmasked vectors towards each other.
        condition_noise: Deviation of noise on what a tower is told of the other side, in deviations of its latents:
            a cascade shows it generated ones.
        condition_dropout: Chance that a clip's text and tokens are dropped together.
        text_dropout: Chance that its text alone is.
        inject: How a tower is told: ``tokens`` behind its text, or ``frames``, added to its stream at each moment.
    """

    start: str = ""
    width: int = 512
    hidden: int = 512
    grid: int = 8
    positions: int = 6
    segment: int = 1
    mask: str = "bernoulli"
    mask_input: str = "both"
    sparsity: float = 5.0
    pull: float = 0.1
    condition_noise: float = 0.1
    condition_dropout: float = 0.1
    text_dropout: float = 0.1
    inject: str = "tokens"


@dataclass(frozen=True)
class DataConfig:
    """Clips and how they are cut.

    Args:
        source: ``world`` for procedural clips made from seeds, or a ``manifest.jsonl`` (or its folder).
        scenes: Only these scenes of the world; empty for all.
        looks: How many looks and voices each scene of the world may have; few are learned sooner. 0 for no limit.
        split: ``train``, ``validation`` or ``test``.
        num_clips: How many clips the world gives; 0 takes a whole manifest.
        expanded_share: Share of the world's clips whose captions are the lexicon's ``short`` expansion of the clip's
            concise prompt, as a user gets them, instead of the world's own.
        seed: Start of the world's seeds and of the order of clips.
        num_frames: Pictures of a training clip, 4k+1.
        clip_frames: Pictures of a world clip before cropping; 0 for ``num_frames``.
        fps: Frames per second, such as "15" or "30000/1001".
        width: Pixels.
        height: Pixels.
        crop_size: Video codec: side of a random square of the picture to train on; 0 takes the whole.
        varied_share: Audio codec: share of the windows that are played at another speed and through a random
            equaliser, so that the codec meets voices that the data lacks.
        crops_per_clip: Random windows of a longer clip; each is encoded and cached once.
        crop: ``random``, or ``head`` as the released code does.
        short: Clips that are too short are held and silent at the end (``pad``) or repeated (``loop``, released code).
        mono: Use the first sound channel for both, as the released code does.
        posterior: ``sample`` draws one latent a clip from the codec's posterior, ``mode`` takes its centre.
        sound_latents: ``encoded`` by the audio codec, or ``cepstral``: the codes that its encoder is taught (see
            :mod:`.sound_codes`), exactly.
        cache: Folder of cached clips, latents and texts; empty for ``cache`` in the output folder.
        keep_media: Also cache the decoded clips (8-bit pictures); needed by codec recipes and by workers.
        workers: Processes that make clips before training starts; 0 for none.
    """

    source: str = "world"
    scenes: tuple[str, ...] = ()
    looks: int = 0
    split: str = "train"
    num_clips: int = 0
    expanded_share: float = 0.0
    seed: int = 0
    num_frames: int = 81
    clip_frames: int = 0
    fps: str = "15"
    width: int = 832
    height: int = 480
    crop_size: int = 0
    varied_share: float = 0.0
    crops_per_clip: int = 1
    crop: str = "random"
    short: str = "pad"
    mono: bool = False
    posterior: str = "sample"
    sound_latents: str = "encoded"
    cache: str = ""
    keep_media: bool = False
    workers: int = 0


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is asked of the towers or codecs.

    Args:
        timestep: ``paper``: t_V = 1000·t_A; ``official``: trunc(999·t).
        times: ``shared``: both towers at one t, as in the paper; ``lockstep``: at the two times at which the sampler's
            default schedule has them at one step, so that bridges learn what sampling asks; ``flow``: both at one level
            of clearness as in the schedule of that name, the sound's error weighted as that of its flow (SyncFlow).
        flow_shift: Of the video's time where times are ``lockstep``, as :class:`~..pipeline.SamplingOptions` has it;
            the lower, the further the picture leads.
        draw: ``uniform``; ``sobol-bf16``: one scrambled Sobol sequence rounded to bfloat16 (released code);
            ``logit-normal``: the sigmoid of a normal number, flow time (AV-Link).
        video_text_dropout: Chance that a clip's video text is that of "" (each modality on its own).
        audio_text_dropout: Likewise for the audio text.
        kl_weight: Codecs: of the posterior's divergence from N(0, 1), summed over channels.
        edge_weight: Video codec: of the L1 of spatial differences.
        stft_weight: Audio codec: of the multi-resolution STFT loss.
        waveform_weight: Audio codec: of the L1 of samples.
        codes: Audio codec: ``learned``, or ``cepstral``: the encoder is told what its latents say (see
            :mod:`.sound_codes`), and the decoder learns from that.
        code_noise: Codecs: deviation of further noise on what is decoded, so that the decoder forgives a tower's
            errors; of the video codec in units of the normalised latents.
        logit_mean: Of ``logit-normal``; above 0 is towards noise.
        logit_std: Of ``logit-normal``.
        least_audio_time: Tasks with a given side, and times ``flow``: the least time that is drawn for the audio tower,
            for one that never saw less noise.
        given_video_time: Tasks with a given side: the one flow time of a given picture.
        given_audio_time: Likewise of a given sound, in Stable Audio's own time.
        given_draw: Tasks with a given side: ``fixed`` shows it at that time, ``uniform`` at any flow time.
        generated_text_dropout: Tasks with a given side: chance that the text of what is made is that of "".
        given_text_dropout: Likewise of what is given.
        drop_together: One draw decides for both texts of a clip: both are dropped, or none.
        pairing: Which noise meets which clip of a micro-batch: ``independent``, or ``ot``, the nearest (see
            :mod:`.pairing`).
        modality_dropout: PAV-DiT: chance that a clip's picture or its sound is absent, each half of it.
        critic_weight: PAV-DiT's autoencoder, where ``critic`` is among what is trained: of the critics' loss.
        feature_weight: Likewise of the difference of what the critics see, beside that loss.
        critic_start: Likewise the first step with critics; from it on they and the autoencoder learn in turn.
        critic_channels: Likewise width of the critics' first layer.
    """

    timestep: str = "paper"
    times: str = "shared"
    flow_shift: float = 3.0
    draw: str = "uniform"
    video_text_dropout: float = 0.1
    audio_text_dropout: float = 0.1
    kl_weight: float = 1e-6
    edge_weight: float = 1.0
    stft_weight: float = 1.0
    waveform_weight: float = 1.0
    codes: str = "learned"
    code_noise: float = 0.0
    logit_mean: float = 1.0
    logit_std: float = 1.0
    least_audio_time: float = 0.0
    given_video_time: float = 0.04
    given_audio_time: float = 0.156
    given_draw: str = "fixed"
    generated_text_dropout: float = 0.5
    given_text_dropout: float = 0.2
    drop_together: bool = False
    pairing: str = "independent"
    modality_dropout: float = 0.0
    critic_weight: float = 1.0
    feature_weight: float = 4.0
    critic_start: int = 0
    critic_channels: int = 64


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate; the defaults are the paper's.

    Args:
        lr: Peak learning rate.
        weight_decay: Decoupled decay.
        betas: Of the two moments.
        eps: Of the division.
        max_grad_norm: Clip the gradient's norm; 0 leaves it alone.
        warmup_steps: Linear from 0.
        decay: ``cosine`` down to ``min_lr`` at the last step, or ``constant``.
        min_lr: Floor of the cosine.
        ema_decay: Of the averaged weights that are written; 0 writes the weights themselves.
    """

    lr: float = 5e-5
    weight_decay: float = 1e-3
    betas: tuple[float, ...] = (0.9, 0.95)
    eps: float = 1e-8
    max_grad_norm: float = 0.0
    warmup_steps: int = 1000
    decay: str = "cosine"
    min_lr: float = 1e-6
    ema_decay: float = 0.0


@dataclass(frozen=True)
class SavingConfig:
    """When something is written.

    Args:
        every: Steps between checkpoints.
        keep: Checkpoints to keep.
        plot: Draw ``loss.png`` at every checkpoint (needs matplotlib).
        log_every: Steps between lines of ``loss.jsonl``.
    """

    every: int = 500
    keep: int = 2
    plot: bool = True
    log_every: int = 1
