"""The transformer of PAV-DiT over stacked planes: laws 3, 4, 11 and 13 of its reference, its size, and its folder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import PAV_TEXT, PAV_TRANSFORMER
from sounding_video.core.errors import GeometryError, InputError
from sounding_video.core.types import Modality
from sounding_video.models.pav_dit.stdit import PUBLISHED, PavDitTransformer, Seen
from torch import nn


def made(seed=0, **changes):
    torch.manual_seed(seed)
    return PavDitTransformer(**{**PAV_TRANSFORMER, **changes}).eval()


def shaken(model, seed=1):
    """Temporal blocks do something, as after training."""
    torch.manual_seed(seed)
    for parameter in model.temporal.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def sides(model, seed=2, batch=2, time=500.0):
    generator = torch.Generator().manual_seed(seed)
    channels, length = model.config.latent_channels, model.grid.length
    texts = [torch.randn(batch, tokens, PAV_TEXT, generator=generator) for tokens in (5, 7)]
    shapes = (batch, channels, 1, 1, length), (batch, channels, length)
    return [
        Modality(torch.randn(shape, generator=generator), torch.tensor([time]), text)
        for shape, text in zip(shapes, texts, strict=True)
    ]


def stacked(model, video, audio):
    """Everything that :meth:`denoise_planes` takes, of both sides."""
    planes = [model.grid.stack(model.grid.unpack(one.latents.flatten(2)), 2) for one in (video, audio)]
    text, read = model._texts({"video": video, "audio": audio})
    there, times = model.grid.mask(2).repeat(2, 1, 1)[None], video.timestep.expand(len(text), 6)
    return {"stack": torch.cat(planes, 1), "times": times, "text": text, "there": there, "used": range(6), "read": read}


def changed(one, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return replace(one, latents=one.latents + torch.randn(one.latents.shape, generator=generator))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_size_is_that_of_stdit3_with_16_blocks():
    with torch.device("meta"):
        model = PavDitTransformer(**PUBLISHED)
    assert round(count(model) / 1e6, 1) == 697.5
    # Open-Sora's has 8 outputs where ours has 4, and knows neither planes nor two captions.
    theirs = count(model) + 4 * 4 * (1152 + 1) - 6 * 1152 - 2 * 1152
    assert theirs == 697_507_232
    assert 4.5e6 < count(PavDitTransformer()) < 5.5e6


@torch.no_grad()
def test_law_3_nothing_in_padded_places_is_seen():
    model = shaken(made(grid=(4, 2, 3)))
    given = stacked(model, *sides(model))
    wanted = model.denoise_planes(**given)
    assert not given["there"].all() and not wanted.masked_select(~given["there"][:, :, None]).any()
    for noise in (1e6, torch.nan, torch.inf):
        spoilt = torch.where(given["there"][:, :, None], given["stack"], noise)
        assert torch.equal(model.denoise_planes(**{**given, "stack": spoilt}), wanted)


def test_law_3_no_gradient_reaches_padded_places():
    model = shaken(made())
    given = stacked(model, *sides(model))
    given["stack"].requires_grad_()
    model.denoise_planes(**given).square().sum().backward()
    there = given["there"][:, :, None].expand_as(given["stack"])
    assert not given["stack"].grad[~there].any() and given["stack"].grad[there].all()


@torch.no_grad()
@pytest.mark.parametrize("side", [0, 1])
def test_law_4_an_absent_modality_is_one_whose_planes_are_masked(side):
    model = shaken(made())
    both = sides(model)
    alone = [one if index == side else None for index, one in enumerate(both)]
    wanted = model(*alone)
    assert wanted[1 - side] is None
    masked = stacked(model, *both)
    text, read = model._texts({("video", "audio")[side]: both[side]})
    masked |= {"text": text, "read": read}
    masked["there"][:, 3 * (1 - side) : 3 * (1 - side) + 3] = False
    out = model.denoise_planes(**masked)
    planes = model.grid.unstack(out[:, 3 * side : 3 * side + 3])
    assert torch.allclose(model.grid.pack(planes), wanted[side].flatten(2), atol=1e-5)
    assert not out[:, 3 * (1 - side) : 3 * (1 - side) + 3].any(), "masked tokens are zero"
    other = model.denoise_planes(**{**masked, "stack": torch.where(masked["there"][:, :, None], masked["stack"], 7.0)})
    assert torch.equal(other, out)
    assert not torch.allclose(model(*both)[side], wanted[side], atol=1e-3), "together they are something else"


@torch.no_grad()
def test_law_11_temporal_blocks_start_as_the_identity():
    model = made()
    tokens, times, text = torch.randn(2, 6, 4, 24), torch.randn(2, 6, 6, 24), torch.randn(2, 5, 24)
    seen = Seen.of(None, torch.ones(2, 1, 1, 5, dtype=torch.bool))
    assert all(torch.equal(block(tokens, times, text, seen), tokens) for block in model.temporal)
    assert not any(torch.equal(block(tokens, times, text, seen), tokens) for block in model.spatial)


def test_law_11_sound_reaches_the_picture_only_after_a_step():
    model = made()
    video, audio = sides(model)
    with torch.no_grad():
        assert torch.equal(model(video, audio)[0], model(video, changed(audio))[0])
        assert model(video, audio)[0].abs().mean() > 1e-3, "the head is not zero"
    out = model(video, audio)
    sum(one.square().mean() for one in out).backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    with torch.no_grad():
        assert not torch.equal(model(video, audio)[0], model(video, changed(audio))[0])


@torch.no_grad()
def test_law_11_spatial_blocks_do_not_care_in_which_order_planes_come():
    model = made()
    given = stacked(model, *sides(model))
    order = [3, 1, 2, 0, 5, 4]
    moved = {**given, "stack": given["stack"][:, order], "there": given["there"][:, order], "used": order}
    assert torch.allclose(model.denoise_planes(**moved), model.denoise_planes(**given)[:, order], atol=1e-5)
    forgotten = model.denoise_planes(**{**moved, "used": range(6)})
    assert not torch.allclose(forgotten, model.denoise_planes(**given)[:, order], atol=1e-3), (
        "embeddings belong to planes"
    )


@torch.no_grad()
def test_temporal_blocks_join_the_same_place_of_all_planes_and_no_other():
    model = shaken(made(grid=(4, 4, 4)))
    tokens, times, text = torch.randn(1, 6, 4, 24), torch.randn(1, 6, 6, 24), torch.randn(1, 5, 24)
    seen = Seen.of(None, torch.ones(1, 1, 1, 5, dtype=torch.bool))
    other = tokens.clone()
    other[:, 4, 2] += 1  # a motion plane of the sound, one place
    moved = {}
    for name, block in (("temporal", model.temporal[0]), ("spatial", model.spatial[0])):
        moved[name] = (block(tokens, times, text, seen) != block(other, times, text, seen)).any(-1)[0]
    assert moved["temporal"][:, 2].all() and not moved["temporal"][:, [0, 1, 3]].any()
    assert moved["spatial"][4].all() and not moved["spatial"][[0, 1, 2, 3, 5]].any()


@torch.no_grad()
def test_texts_are_read_up_to_their_end_and_say_whose_they_are():
    model = made()
    video, audio = sides(model)
    longer = torch.cat((audio.text, torch.zeros(2, 9, PAV_TEXT)), dim=1)
    wanted = model(video, audio)
    assert all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(model(video, replace(audio, text=longer)), wanted, strict=True)
    )
    swapped = model(replace(video, text=audio.text), replace(audio, text=video.text))
    assert not torch.allclose(swapped[0], wanted[0], atol=1e-4)
    empty = model(replace(video, text=torch.zeros_like(video.text)), replace(audio, text=torch.zeros_like(audio.text)))
    assert all(one.isfinite().all() for one in empty)


@torch.no_grad()
def test_each_side_has_its_own_time_and_the_rate_counts():
    model = made()
    video, audio = sides(model)
    wanted = model(video, audio)
    for each in (torch.tensor([500.0]), torch.tensor([500.0, 500.0])):
        got = model(replace(video, timestep=each), audio)
        assert torch.allclose(got[0], wanted[0], atol=1e-6)
    got = model(video, replace(audio, timestep=torch.tensor([100.0])))
    assert torch.equal(got[0], wanted[0]) and not torch.allclose(got[1], wanted[1], atol=1e-4)
    assert torch.equal(model(video, audio, fps=8)[0], wanted[0]) and not torch.equal(
        model(video, audio, fps=30)[0], wanted[0]
    )
    one = [replace(side, latents=side.latents[1:], text=side.text[1:]) for side in (video, audio)]
    assert torch.allclose(model(*one)[1], wanted[1][1:], atol=1e-5), "rows of a batch do not mix"


@torch.no_grad()
def test_law_13_a_model_of_the_other_sign_is_turned_by_its_configuration_only():
    ours, theirs = made(), made(predicts="data_minus_noise")
    given = sides(ours)
    assert torch.equal(ours(*given)[0], -theirs(*given)[0])
    with pytest.raises(
        InputError, match="unknown prediction: got 'velocity'; expected one of noise_minus_data, data_m"
    ):
        made(predicts="velocity")


def test_it_is_saved_and_read(tmp_path):
    model = shaken(made())
    model.save_pretrained(tmp_path)
    again, report = PavDitTransformer.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert torch.allclose(again.eval()(*sides(model))[1], model(*sides(model))[1], atol=1e-5)
        half = again.to(torch.bfloat16)
        cast = [replace(one, latents=one.latents.bfloat16(), text=one.text.bfloat16()) for one in sides(model)]
        assert all(one.dtype == torch.bfloat16 and one.isfinite().all() for one in half(*cast))


def test_what_cannot_be_denoised_is_refused():
    model = made()
    video, audio = sides(model)
    with pytest.raises(InputError, match="there is nothing to denoise"):
        model(None, None)
    with pytest.raises(GeometryError, match=r"got \(2, 4, 25\); expected L = 26 for T 4, h 2, w 3"):
        model(video, replace(audio, latents=audio.latents[..., :-1]))
    with pytest.raises(InputError, match="the heads do not fit the width: got 5 heads of 24"):
        made(heads=5)


@torch.no_grad()
def test_law_4_a_row_without_a_side_is_as_that_row_alone():
    """One batch holds rows with both sides, with the picture alone and with the sound alone."""
    model = shaken(made())
    video, audio = sides(model, batch=3)
    rows = torch.tensor([[True, True], [True, False], [False, True]])
    mixed = model(video, audio, rows=rows)
    for row, has in enumerate(rows.tolist()):
        one = [replace(side, latents=side.latents[row : row + 1], text=side.text[row : row + 1])
               for side in (video, audio)]  # fmt: skip
        alone = model(*(side if there else None for side, there in zip(one, has, strict=True)))
        for got, wanted, there in zip(mixed, alone, has, strict=True):
            assert torch.allclose(got[row : row + 1], wanted, atol=1e-5) if there else not got[row].any()
    assert torch.equal(model(video, audio, rows=torch.ones(3, 2, dtype=torch.bool))[0], model(video, audio)[0])


@torch.no_grad()
def test_planes_of_one_size_need_no_mask():
    model = shaken(made(grid=(4, 4, 4)))
    video, audio = sides(model)
    given = stacked(model, video, audio)
    assert given["there"].all()
    made_of = model.grid.unstack(model.denoise_planes(**given)[:, :3])
    assert torch.allclose(model.grid.pack(made_of), model(video, audio)[0].flatten(2), atol=1e-5)


def test_gradients_are_the_same_with_checkpointing():
    model, given = shaken(made()), sides(made())
    gradients = []
    for _ in range(2):
        model.zero_grad()
        sum(one.square().mean() for one in model(*given)).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
        model.enable_gradient_checkpointing()
    assert all(torch.allclose(grad, gradients[1][name], atol=1e-6) for name, grad in gradients[0].items())
