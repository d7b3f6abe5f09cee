"""A small denoiser with real mathematics in it, conditioning for it, and the Gaussian world with a known answer."""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from packaging.version import Version
from sounding_video.core.types import Conditioning, JointLatents, ModalityConditioning

VIDEO_SHAPE, AUDIO_SHAPE = (1, 4, 3, 6, 8), (1, 6, 13)


class MixingDenoiser:
    """A smooth function of everything a joint model may look at, row by row; remembers what it was given.

    Each row's prediction depends on its own latents, timestep, text and duration and on the other modality's row, so
    that a wrong pairing of rows, texts or times changes the result.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, video, audio):
        self.calls.append((video, audio))
        return self._one(video, audio, 1000.0), self._one(audio, video, 1.0)

    @staticmethod
    def _one(own, other, time_scale):
        if own is None:
            return None
        latents = own.latents.float()
        column = (-1,) + (1,) * (latents.ndim - 1)
        time = own.timestep.to(torch.float32) / time_scale
        told = own.text.float().flatten(1).tanh().mean(1) + (0 if own.duration is None else own.duration.float().mean())
        heard = 0 if other is None else other.latents.float().flatten(1).mean(1) + other.text.float().flatten(1).mean(1)
        mixed = torch.sin(latents * (1 + time).view(column)) + (told + heard).view(column)
        return mixed.to(own.latents.dtype)


class GaussianDenoiser:
    """The exact answer when every latent value of the data is N(mean, std²): flow for video, v for audio.

    Video times are the sigmas it is built with, because the official integer timesteps are truncated.
    """

    def __init__(self, schedule, mean, std):
        self.schedule, self.mean, self.std, self.step = schedule, mean, std, -1

    def posterior(self, latents, alpha, sigma):
        """E[x0 | x] and E[ε | x] for x = alpha·x0 + sigma·ε."""
        variance = (alpha * self.std) ** 2 + sigma**2
        residual = latents - alpha * self.mean
        return self.mean + alpha * self.std**2 / variance * residual, sigma / variance * residual

    def __call__(self, video, audio):
        self.step += 1
        flow = v = None
        if video is not None:
            sigma = float(self.schedule.video.sigmas[self.step])
            clean, noise = self.posterior(video.latents, 1 - sigma, sigma)
            flow = noise - clean
        if audio is not None:
            time = float(audio.timestep) * math.pi / 2
            clean, noise = self.posterior(audio.latents, math.cos(time), math.sin(time))
            v = math.cos(time) * noise - math.sin(time) * clean
        return flow, v


def make_conditioning(video=True, audio=True, negative=True, batch=1):
    generator = torch.Generator().manual_seed(7)

    def draw(*shape):
        return torch.randn(batch, *shape, generator=generator)

    video_part = ModalityConditioning(draw(5, 8), draw(5, 8) if negative else None) if video else None
    audio_part = ModalityConditioning(draw(4, 6), draw(4, 6) if negative else None, draw(1, 12)) if audio else None
    return Conditioning(video_part, audio_part)


def stock_unipc(num_steps, flow_sigmas):
    """The stock scheduler at the points of either diffusers version; from 0.37 on it takes the older ones too."""
    stock = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    if Version(diffusers.__version__) >= Version("0.37.0"):
        newer = np.linspace(1, 1 / 1000, num_steps + 1)[:-1]
        older = np.flip(1 - np.linspace(1, 1 / 1000, num_steps + 1))[:-1].copy()
        stock.set_timesteps(sigmas=newer if flow_sigmas == "diffusers-0.37" else older)
    elif flow_sigmas == "diffusers-0.36":
        stock.set_timesteps(num_steps)
    else:
        pytest.skip("the newer spacing has no witness in this diffusers")
    return stock


@pytest.fixture(scope="session")
def unipc_witness():
    return stock_unipc


@pytest.fixture
def mixing():
    return MixingDenoiser()


@pytest.fixture(scope="session")
def gaussian():
    return GaussianDenoiser


@pytest.fixture(scope="session")
def conditioning():
    return make_conditioning


@pytest.fixture
def noise():
    generator = torch.Generator().manual_seed(3)
    return JointLatents(torch.randn(VIDEO_SHAPE, generator=generator), torch.randn(AUDIO_SHAPE, generator=generator))


@pytest.fixture(scope="session")
def mixing_class():
    return MixingDenoiser


@pytest.fixture(scope="session")
def fixed_noise():
    generator = torch.Generator().manual_seed(4)
    return JointLatents(torch.randn(VIDEO_SHAPE, generator=generator), torch.randn(AUDIO_SHAPE, generator=generator))
