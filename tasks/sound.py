"""Sound for a picture: the picture is given, the sound is made, in windows where the clip is a long one."""

from __future__ import annotations

from dataclasses import replace

from ..core.clock import Timeline, samples_for
from ..core.errors import InputError
from ..core.pair import Pair
from ..core.types import AudioClip, AVClip, Conditioning, JointLatents
from ..core.windows import Window
from ..media.audio import FADE_SECONDS
from ..media.joining import JoinedSound, known_end
from ..media.user_file import UserFile, fit_file
from ..models.clip_encoding import encode_clip
from ..pipeline import decode_latents, sample_latents
from ..sampling.given import Given, known
from .base import OVERLAP_SECONDS, Run, captions_of_windows, fit_told, made_alone, own_timeline, planned_windows


def sound_for(run: Run, file: UserFile, *, overlap: float = OVERLAP_SECONDS) -> tuple[AudioClip, list[str]]:
    """Make the sound of a user's picture, of any length: pictures are read window by window, and one is kept at a time.

    Args:
        run: Model, captions, options. The picture is shown to the model as ``options.given_how`` says.
        file: What is seen, of any rate, size and length.
        overlap: Seconds that neighbouring windows share; each is given the end of the sound before it.

    Returns:
        The sound, exactly as long as the picture, and sentences about how the picture was fitted to the model.

    Raises:
        InputError: a file without a picture, a model without towers for both, bridges that do not lead to the sound.
    """
    if file.picture is None:
        raise InputError("there is no picture to make a sound for", got=file.path, expected="a video or a picture")
    if not (run.model.makes("video") and run.model.makes("audio")):
        raise InputError("a sound for a picture needs both towers", got=run.model.description)
    if run.reading is not None:
        run.reading.require(run.model, "audio")
    timeline = own_timeline(run.model, file)
    plan, told = planned_windows(timeline, file.seconds, overlap)
    told_each = captions_of_windows(run.conditioning(timeline), timeline, plan, run.progress)
    notes, latents = list(file.notes), None
    joined = JoinedSound(samples_for(file.seconds, timeline.geometry.sample_rate))
    for number, window in enumerate(plan):
        clip, report = fit_file(file, timeline, start=window.start)
        if number == 0:
            notes += fit_told(report, plan)
        latents = _window(run.seeded(number), timeline, told_each[number], clip, window, latents)
        decoded = decode_latents(JointLatents(audio=latents), fps=timeline.fps, **run.codecs())
        joined.add(decoded.audio, window)
    return joined.whole(FADE_SECONDS), [*notes, *told]


def _window(
    run: Run, timeline: Timeline, conditioning: Conditioning, clip: AVClip, window: Window, before: object
) -> object:
    """Audio latents of one window, which begins with the end of the one before it."""
    picture = encode_clip(replace(clip, audio=None), timeline, **run.codecs()).video
    shape = (1, *timeline.audio_latent_shape)
    sound = None
    if before is not None and window.known_latents:
        content = picture.new_zeros(shape)
        content[..., : window.known_latents] = known_end(before, window)
        sound = known(content, stop=window.known_latents)
    if run.reading is not None:
        return made_alone(run, "audio", timeline, conditioning, told_of=picture, known=sound)
    return sample_latents(
        run.model,
        conditioning,
        video_shape=tuple(picture.shape),
        audio_shape=shape,
        options=run.options,
        given=Pair(Given(picture, how=run.options.given_how, time=run.options.given_level), sound),
        progress=run.progress,
        times=timeline.times,
    ).audio
