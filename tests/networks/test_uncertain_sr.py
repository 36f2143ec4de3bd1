from __future__ import annotations

from functools import partial

import pytest
import torch
from bayesian_networks import LATENT, OPERATOR, PARTS, SCALE, low_resolution, lr_psnr, network, point

from monai_ext.networks.uncertain_sr import UncertainSuperResolution, WeightEnsemble
from monai_ext.networks.variance_parts import combine_samples, summarise_latents
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d


def test_a_network_with_one_answer_is_certain_of_it():
    certain, low = point(), low_resolution()
    samples, parts = certain.sample(low, 3), certain.uncertainty(low, weight_samples=3)
    assert torch.equal(samples[:, 0], samples[:, 2]) and not parts["total"].any()
    torch.testing.assert_close(parts["mean"], certain.network(low).clamp(0, 1))
    consistent = point(operator=OPERATOR)
    assert lr_psnr(consistent(low), low) > 50 > lr_psnr(certain(low), low)


def test_dropout_kept_on_makes_samples_and_epistemic_uncertainty():
    doubtful, low = point(conv=partial(DropoutConv2d, rate=0.2)), low_resolution()
    samples = doubtful.sample(low, 4, generator=torch.Generator().manual_seed(0))
    assert samples.std(1).mean() > 0
    parts = doubtful.uncertainty(low, weight_samples=5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parts["total"], parts["epistemic"]) and parts["epistemic"].mean() > 0
    draws, generator = [], torch.Generator().manual_seed(0)
    for _ in range(5):
        with torch.no_grad(), doubtful.draw_weights(generator) as drawn:
            draws.append(drawn(low))
    torch.testing.assert_close(parts["epistemic"], torch.stack(draws).var(0))


def test_an_ensemble_has_the_variance_between_its_members_each_taken_once():
    members, low = [point(seed) for seed in range(3)], low_resolution()
    ensemble = WeightEnsemble(members).eval()
    with torch.no_grad():
        answers = torch.stack([member(low) for member in members])
    parts = ensemble.uncertainty(low, weight_samples=8)  # only three differ
    torch.testing.assert_close(parts["epistemic"], answers.var(0))
    torch.testing.assert_close(parts["mean"], answers.mean(0))
    torch.testing.assert_close(ensemble(low), answers.mean(0))
    samples = ensemble.sample(low, 3)
    assert sorted(s.sum().item() for s in samples.unbind(1)) == pytest.approx(sorted(a.sum().item() for a in answers))


def test_an_ensemble_of_networks_with_a_latent_has_both_parts_and_shares_samples_out():
    members, low = [network(seed=seed) for seed in range(2)], low_resolution()
    ensemble = WeightEnsemble(members).eval()
    parts = ensemble.uncertainty(low, weight_samples=2, latent_samples=3, generator=torch.Generator().manual_seed(0))
    assert parts["epistemic"].mean() > 0 and parts["ambiguity"].mean() > 0
    samples = ensemble.sample(low, 3, generator=torch.Generator().manual_seed(1))
    noise = ensemble.draw_noise(low, 3, torch.Generator().manual_seed(1))
    for i in range(3):
        torch.testing.assert_close(samples[:, i], members[i % 2](low, noise[:, i]))
    assert {id(member) for member in members} == {id(drawn) for drawn in ensemble.weight_samples(2)}


def test_all_kinds_are_asked_in_the_same_way():
    kinds = (network(), point(), WeightEnsemble([point(0), point(1)]))
    assert all(isinstance(each, UncertainSuperResolution) for each in kinds)
    low = low_resolution()
    for each in kinds:
        parts = each.uncertainty(low, weight_samples=2, latent_samples=2)
        assert set(parts) == {"mean", *PARTS, "total"} and all(v.shape == (2, 3, 24, 28) for v in parts.values())
        assert each.sample(low, 2).shape == (2, 2, 3, 24, 28)


def test_uncertainty_is_the_decomposition_of_its_own_draws():
    built, low = network(VariationalConv2d, likelihood="gaussian"), low_resolution()
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, VariationalConv2d):
                module.log_deviation.fill_(-4.0)
    noise = torch.randn(2, 3, 4, LATENT, 6, 7)
    found = built.uncertainty(
        low, weight_samples=3, latent_samples=4, noise=noise, generator=torch.Generator().manual_seed(9)
    )
    generator, means, variances = torch.Generator().manual_seed(9), [], []
    for t in range(3):
        with torch.no_grad(), built.draw_weights(generator) as drawn:
            for latent in range(4):
                gaussian = drawn.prior(low)
                z = gaussian.mean + gaussian.stddev * noise[:, t, latent]
                means.append(drawn(low, noise[:, t, latent]))
                variances.append((2 * drawn.decode(low, z)[1]).exp())
    stacks = (torch.stack(values).unflatten(0, (3, 4)) for values in (means, variances))
    expected = combine_samples(list(map(summarise_latents, *stacks)), latent_samples=4)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    assert found["epistemic"].mean() > 0 and found["ambiguity"].mean() > 0
    torch.testing.assert_close(sum(found[name] for name in PARTS), found["total"])


def test_certain_weights_leave_no_epistemic_part_and_all_draws_to_the_latent():
    built, low = network(), low_resolution()
    noise = torch.randn(2, 3, 2, LATENT, 6, 7)
    parts = built.uncertainty(low, weight_samples=3, latent_samples=2, noise=noise)
    assert not parts["epistemic"].any()
    with torch.no_grad():
        means = torch.stack([built(low, each) for each in noise.flatten(1, 2).unbind(1)])
    torch.testing.assert_close(parts["ambiguity"], means.var(0))
    torch.testing.assert_close(parts["mean"], means.mean(0))


def test_tiles_with_the_noise_and_generator_of_the_whole_image_agree_on_its_uncertainty():
    built, low = network(partial(DropoutConv2d, rate=0.2)), low_resolution(1, 48, 10)
    noise = torch.randn(1, 2, 2, LATENT, 48, 10)
    draws = {"weight_samples": 2, "latent_samples": 2}

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    whole = built.uncertainty(low, **draws, noise=noise, generator=seeded())
    part = built.uncertainty(low[:, :, 4:44], **draws, noise=noise[..., 4:44, :], generator=seeded())
    assert whole["epistemic"].mean() > 0
    for name, value in whole.items():
        rows = value[:, :, SCALE * 20 : SCALE * 28]
        error = (part[name][:, :, SCALE * 16 : SCALE * 24] - rows).abs().max()
        assert error < 0.02 * rows.abs().max(), name


def test_ensembles_of_nothing_of_one_network_twice_and_of_different_kinds_are_refused():
    same = point()
    for networks, message in (
        ([], "got 0 networks"),
        ([same, same], "each built by itself"),
        ([same, network()], "agree in both"),
    ):
        with pytest.raises(ValueError, match=message):
            WeightEnsemble(networks)
