"""The autoencoder of PAV-DiT: laws 6 to 10 of its reference, its sizes, and its folder."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import PAV_AUTOENCODER
from sounding_video.core.errors import GeometryError, IncompatibleWeightsError, InputError
from sounding_video.models.pav_dit.forms import POCKET, PUBLISHED
from sounding_video.models.pav_dit.fusion import TimeBlocks, TimeScales
from sounding_video.models.pav_dit.mdsa import PavDitAutoencoder
from sounding_video.models.pav_dit.planes import expand
from torch import nn


def made(seed=0, **changes):
    config = copy.deepcopy(PAV_AUTOENCODER)
    for part, values in changes.items():
        config[part] = {**config[part], **values} if isinstance(values, dict) else values
    torch.manual_seed(seed)
    return PavDitAutoencoder(**config).eval()


def media(model, seed=1, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.rand(batch, *model.media_shape(side), generator=generator) - 1 for side in ("video", "audio")]


def shaken(model, seed=2):
    """Every branch that starts as zero is filled."""
    torch.manual_seed(seed)
    for part in (*model.planes.values(), *model.blocks.values()):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def latents_of(model, *given):
    with torch.no_grad():
        return model.encode(*given).map(model.latents)


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        model, pocket = PavDitAutoencoder(**PUBLISHED), PavDitAutoencoder(**POCKET)
    assert count(model.streams["video"]) / 1e6 == pytest.approx(62.1, abs=0.05), "PVDM's stream"
    assert count(model) / 1e6 == pytest.approx(141, abs=0.5)
    encoder, decoder = model.streams["video"].encoder, model.streams["video"].decoder
    assert count(encoder) / 1e6 == pytest.approx(26.9 + 8.3, abs=0.05) and count(decoder) / 1e6 == pytest.approx(
        26.9, abs=0.05
    )
    assert 2.5e6 < count(pocket) < 3.5e6 and count(PavDitAutoencoder()) == count(pocket)
    assert model.grid.length * 4 == 8192, "numbers a modality"
    assert pocket.grid.length * 16 == 3840


def test_law_6_with_one_scale_it_is_attention_along_time():
    torch.manual_seed(0)
    scales, plane = TimeScales(8, 2, (1,)), torch.randn(2, 8, 5, 3)
    with torch.no_grad():
        scales.scales[0].back.weight.copy_(torch.eye(8)[..., None])
    got = scales(plane)
    for column in range(3):  # the other axis is batch
        line = plane[..., column].mT
        wanted = line + scales.scales[0].attention(scales.norm(line))
        assert torch.allclose(got[..., column].mT, wanted, atol=1e-6)


@pytest.mark.parametrize("rates", [(1, 2, 4), (4,), (3, 2)])
@pytest.mark.parametrize("time", [33, 11, 1, 4])
def test_law_6_a_constant_in_time_stays_one_at_every_length(time, rates):
    torch.manual_seed(0)
    scales = TimeScales(8, 2, rates)
    for scale in scales.scales:  # the same in each step of what was pooled
        nn.init.normal_(scale.back.weight)
        with torch.no_grad():
            scale.back.weight.copy_(scale.back.weight[..., :1].expand_as(scale.back.weight).clone())
    out = scales(torch.randn(2, 8, 1, 3).expand(-1, -1, time, -1))
    assert out.shape == (2, 8, time, 3)
    assert torch.allclose(out, out[:, :, :1].expand_as(out), atol=1e-5), "also where time was filled up"
    assert not torch.equal(out, scales.norm(out.movedim(1, -1)).movedim(-1, 1))


SWITCHES = ("over_scales", "across", "in_blocks")


def test_law_7_a_new_decoder_sums_up_and_decodes_bit_for_bit():
    model = made()
    with torch.no_grad():
        latents = latents_of(model, *media(model))
        got = model.decode(*latents)
        for side in ("video", "audio"):
            stream = model.streams[side]
            planes = [layer(p) for layer, p in zip(stream.widen, model.grid.unpack(latents[side]), strict=True)]
            assert torch.equal(got[side], stream.decoder(expand(*planes)))


@pytest.mark.parametrize("switch", SWITCHES)
def test_law_7_what_is_switched_off_changes_nothing_at_first_and_something_after_a_step(switch):
    model = made()
    pictures, sounds = media(model)
    with torch.no_grad():
        latents = latents_of(model, pictures, sounds)

    def without():
        other = made(fusion={switch: False})
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            return other.decode(*latents)

    with torch.no_grad():
        before = model.decode(*latents)
    assert all(torch.equal(a, b) for a, b in zip(without(), before, strict=True))
    out = model.decode(*latents)
    ((out.video - pictures).abs().mean() + (out.audio - sounds).abs().mean()).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    with torch.no_grad():
        after = model.decode(*latents)
    assert not any(torch.equal(a, b) for a, b in zip(without(), after, strict=True))


def test_law_8_swapping_streams_and_weights_swaps_what_the_fusion_says():
    model = shaken(made())
    swapped = copy.deepcopy(model)
    for part in (swapped.planes, swapped.blocks):
        part["video"], part["audio"] = part["audio"], part["video"]
    torch.manual_seed(3)
    one, two = ([torch.randn(2, 16, *size) for size in model.grid.sizes] for _ in range(2))
    pair = type(latents_of(model, *media(model)))
    straight, crossed = model._fused(pair(one, two)), swapped._fused(pair(two, one))
    assert all(torch.equal(a, b) for a, b in zip(straight.video, crossed.audio, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(straight.audio, crossed.video, strict=True))
    assert not torch.allclose(straight.video[1], one[1], atol=1e-2)


def test_law_8_a_block_of_the_sound_reaches_only_that_block_of_the_picture():
    torch.manual_seed(0)
    blocks, volume, other = TimeBlocks(8, 2, 3), torch.randn(1, 8, 11, 2, 3), torch.randn(1, 8, 11, 2, 3)
    nn.init.normal_(blocks.read.attention.to_out.weight)
    changed = other.clone()
    changed[:, :, 4] += 1
    moved = (blocks(volume, other) != blocks(volume, changed)).flatten(3).any(-1).any(1)[0]
    assert moved.tolist() == [False] * 3 + [True] * 3 + [False] * 5


def test_law_9_encoders_are_independent_unless_they_are_fused():
    model = shaken(made())
    pictures, sounds = media(model)
    both, other = latents_of(model, pictures, sounds), latents_of(model, pictures, media(model, 9)[1])
    alone = latents_of(model, pictures)
    assert torch.equal(both.video, other.video) and torch.equal(both.video, alone.video) and alone.audio is None
    fused = shaken(made(fusion={"at": "encoder"}))
    both, other = latents_of(fused, pictures, sounds), latents_of(fused, pictures, media(model, 9)[1])
    assert not torch.equal(both.video, other.video)
    for given, got in (((pictures, None), "a picture alone"), ((None, sounds), "a sound alone")):
        with pytest.raises(InputError, match=f"encodes picture and sound together: got {got}; expected both"):
            fused.encode(*given)


def test_law_10_a_segment_later_is_a_row_later_in_both_motion_planes():
    model = made(body={"encoder": 0})
    sounds = media(model)[1]
    later = sounds.roll(1, dims=2)
    still, *motion = model.grid.unpack(latents_of(model, None, sounds).audio)
    still_later, *motion_later = model.grid.unpack(latents_of(model, None, later).audio)
    for plane, moved in zip(motion, motion_later, strict=True):
        assert torch.allclose(plane.roll(1, dims=2), moved, atol=1e-6) and not torch.allclose(plane, moved, atol=1e-3)
    assert not torch.allclose(still, still_later, atol=1e-6), "it reads when, too"


def test_law_10_rows_of_motion_planes_are_time_also_where_all_extents_are_equal():
    model = made(
        grid=(4, 4, 4), body={"encoder": 0}, extent={"height": 32, "width": 32}, sound={"columns": 12, "hop": 75}
    )
    pictures = media(model)[0]
    changed = pictures.clone()
    changed[:, :, 2:4] = 0  # frames of segment 1
    changes = [
        (before != after).any(1)
        for before, after in zip(
            *(model.grid.unpack(latents_of(model, each).video) for each in (pictures, changed)), strict=True
        )
    ]
    assert changes[0].all() and all(plane[:, 1].all() for plane in changes[1:])
    assert not any(plane[:, [0, 2, 3]].any() for plane in changes[1:])


def test_a_modality_alone_is_decoded_without_what_it_would_hear():
    model = shaken(made())
    latents = latents_of(model, *media(model))
    with torch.no_grad():
        both, alone = model.decode(*latents), model.decode(audio=latents.audio)
        other = model.decode(latents.video + 1, latents.audio)
    assert alone.video is None and alone.audio.shape == both.audio.shape == (2, 2, 4, 8, 9)
    assert not torch.allclose(alone.audio, both.audio) and not torch.allclose(other.audio, both.audio)
    assert both.video.shape == (2, 3, 8, 16, 24) and both.video.abs().max() <= 1


def test_bounds_and_statistics():
    model, bounded = made(), made(bound="tanh")
    given = media(model)
    moments = model.encode(*given)
    assert moments.video.shape[1] == 8 and bounded.encode(*given).video.shape[1] == 4
    assert latents_of(bounded, *given).video.abs().max() <= 1
    draws = [model.latents(moments.video, sample=True, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert model.posterior(moments.video).kl().shape == (2,)
    latents = model.latents(moments.audio).detach()
    model.latent_means[1, 2, 3], model.latent_deviations[1, 2, 3] = 5.0, 2.0
    changed = (model.normalise("audio", latents) != latents).any(0)
    assert changed.nonzero()[:, 0].unique().tolist() == [3]
    assert changed[3].nonzero()[0].item() == 2 * 3 + 4 * 3, "of one plane of the sound"
    assert torch.allclose(model.denormalise("audio", model.normalise("audio", latents)), latents, atol=1e-5)
    assert torch.equal(model.normalise("video", latents), latents)
    assert bounded.denormalise("video", latents * 1e3).abs().max() == 1


def test_it_is_saved_and_read_with_its_statistics(tmp_path):
    model = shaken(made())
    model.latent_means.normal_()
    model.save_pretrained(tmp_path)
    again, report = PavDitAutoencoder.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given = media(model)
    with torch.no_grad():
        wanted, got = (each.decode(*latents_of(each, *given)) for each in (model, again.eval()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, wanted, strict=True))
    assert torch.equal(again.latent_means, model.latent_means)
    assert again.geometry == model.geometry and again.fusing.scales == (1, 2, 4)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"bound": "none"}, InputError, "unknown bound of the latents: got 'none'"),
        ({"fusion": {"at": "middle"}}, InputError, "unknown place of the fusion"),
        ({"fusion": {"scales": ()}}, InputError, "there is no time scale"),
        ({"fusion": {"scale": 1}}, IncompatibleWeightsError, "the part 'fusion' of the configuration cannot be read"),
        ({"sound": {"columns": "9"}}, IncompatibleWeightsError, "the part 'sound' .* cannot be read"),
        ({"extent": {"width": 25}}, GeometryError, "not divide the picture: got 8×16×25; expected multiples of 4×2"),
        ({"sound": {"columns": 8}}, GeometryError, "does not divide the sound: got 4×8×8"),
        ({"sound": {"hop": 50}}, GeometryError, "sound last differently: got 0.5 s .*; expected a hop of 100"),
        ({"extent": {"fps": "7"}}, GeometryError, "no whole number of columns of sound"),
    ],
    ids=str,
)  # fmt: skip
def test_parts_that_do_not_fit_together_are_refused(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        made(**changes)


def test_media_and_latents_of_another_form_are_refused():
    model = made()
    with pytest.raises(InputError, match="the picture does not fit the autoencoder"):
        model.encode(torch.zeros(1, 3, 8, 24, 16))
    with pytest.raises(GeometryError, match="does not hold planes of this model"):
        model.decode(torch.zeros(1, 4, 25))
