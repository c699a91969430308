"""Self-supervision: the disc of the truth looks like what was seen, and the evidence bound can be climbed."""

import pytest
import torch
from plain import PLAIN

from kinematics_nn.network.frame import CHANNELS, FACTS, make_frame
from kinematics_nn.network.targets import SPEED, TARGETS, encode_targets
from kinematics_nn.training.loop import Settings, Trainer
from kinematics_nn.training.reconstruction import Reconstruction
from kinematics_nn.training.simulations import Ranges, Simulator


@pytest.fixture(scope="module")
def objective():
    return Reconstruction()


def simulated(seed, ranges, batches):
    """Image, facts and targets of so many times eight galaxies."""
    parts, simulator = [], Simulator(seed, ranges)
    with torch.no_grad():
        for _ in range(batches):
            cubes, disc = simulator(8)
            frame = make_frame(cubes)
            parts.append((frame.image, frame.facts, encode_targets(disc, frame)))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


@pytest.fixture(scope="module")
def galaxies():
    """Smooth, bright, well resolved discs: image, facts, targets."""
    ranges = Ranges(
        snr=(30.0, 60.0), beam=(2.0, 4.0), curves={"arctan": 1.0}, lights={"exponential": 1.0}, least_r50=1.2, r50=9.0,
        v22_sini=(4.0, 9.0), dispersion=(0.25, 4.0), **PLAIN,
    )  # fmt: skip
    return simulated(21, ranges, 2)


def misfit(objective, targets, image, facts):
    """rms over each galaxy of what is seen minus the render, in units of its peak."""
    fact = dict(zip(FACTS, facts.unbind(1), strict=True))
    seen = torch.sinh(image[:, : CHANNELS // 2])
    with torch.no_grad():
        model = objective.render(targets, fact, seen)
    assert model.shape == seen.shape
    return ((seen - model) ** 2).mean((1, 2, 3)).sqrt() / seen.amax((1, 2, 3))


def test_the_truth_looks_like_what_was_seen(objective, galaxies):
    image, facts, targets = galaxies
    # 30 to 60 times the noise, averaged over four images, and the frame's own interpolation.
    assert float(misfit(objective, targets, image, facts).median()) < 0.04


def test_the_odd_half_is_as_certain_as_the_noise_lets_it_be(objective, monkeypatch):
    """Truths against the mirror step in noise that is correlated over the beam: errors of one, in the median."""
    ranges = Ranges(
        snr=(8.0, 30.0), beam=(2.0, 4.0), curves={"arctan": 1.0}, lights={"exponential": 1.0}, least_r50=1.2, r50=9.0,
        v22_sini=(4.0, 9.0), dispersion=(0.25, 4.0), **PLAIN,
    )  # fmt: skip
    image, facts, targets = simulated(5, ranges, 4)
    monkeypatch.setattr(objective, "render", lambda targets, fact, seen: seen)  # the even half has no part in it
    at_truth = objective.log_likelihood(targets, image, facts)
    for name in ("pa", "u", "w", "vsys"):
        centred = targets.clone()
        centred[:, TARGETS.index(name)] = 0.0
        z = torch.sqrt(2 * (objective.log_likelihood(centred, image, facts) - at_truth).clamp(min=0))
        # 32 galaxies tell the median of |z|, 0.67, to a quarter; with correlated voxels as independent it was 3 to 9.
        assert 0.25 < float(z.median()) < 1.7, name


@pytest.mark.parametrize(
    ("name", "by"),
    [("inclination", 1.2), ("inclination", -1.2), ("r50", 0.4), ("r50", -0.4), ("dispersion", 1.0), ("flux", 0.4),
     ("speed", 0.4), ("speed", -0.4)],
)  # fmt: skip
def test_a_wrong_disc_looks_less_like_it(objective, galaxies, name, by):
    image, facts, targets = galaxies
    wrong = targets.clone()
    wrong[:, SPEED if name == "speed" else [TARGETS.index(name)]] += by
    true, false = (misfit(objective, t, image, facts) for t in (targets, wrong))
    # Here and there (a disc face-on has no speed to be wrong about) it makes no difference; nearly everywhere it does.
    assert (false > true).float().mean() >= 0.75


def test_the_likelihood_prefers_the_truth_in_what_is_odd(objective, galaxies):
    image, facts, targets = galaxies
    for name in ("pa", "u", "w", "vsys"):
        wrong = targets.clone()
        wrong[:, TARGETS.index(name)] += 3.0 * torch.sign(wrong[:, TARGETS.index(name)])
        with torch.no_grad():
            true, false = (objective.log_likelihood(t, image, facts) for t in (targets, wrong))
        assert (false < true).all(), name


def test_gradients_are_finite_and_reach_all_of_a_disc(objective, galaxies):
    image, facts, targets = galaxies
    targets = targets.clone().requires_grad_()
    objective.log_likelihood(targets, image, facts).sum().backward()
    assert torch.isfinite(targets.grad).all()
    reached = (targets.grad.abs() > 0).float().mean(0)
    # The light inside a tenth of r50 falls between the pixels of some.
    assert (reached > 0.3).all(), [name for name, share in zip(TARGETS, reached, strict=True) if share <= 0.3]


def test_far_off_targets_have_finite_likelihoods_and_gradients(objective, galaxies):
    image, facts, _ = galaxies
    for seed in range(3):
        wild = 6 * torch.randn(len(facts), len(TARGETS), generator=torch.Generator().manual_seed(seed))
        wild.requires_grad_()
        likelihood = objective.log_likelihood(wild, image, facts)
        likelihood.sum().backward()
        assert torch.isfinite(likelihood).all()
        assert torch.isfinite(wild.grad).all()


def test_training_without_labels_raises_the_bound(objective, galaxies):
    image, facts, targets = galaxies
    data = {"image": image, "facts": facts, "targets": targets}
    # The truths set the scalings, as a prior does; the loss never sees them.
    trainer = Trainer(
        Settings(samples=20 * 8, batch=8, rate=2e-3, average=0.5, dropout=0.0, seed=1, objective="reconstruction"),
        data,
        objective,
    )
    before = objective(trainer.encoder.eval(), data, torch.Generator().manual_seed(0))
    before.backward()
    for name, parameter in trainer.encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    trainer.run()
    with torch.no_grad():
        after = objective(trainer.encoder.eval(), data, torch.Generator().manual_seed(0))
    assert after < 0.9 * before
