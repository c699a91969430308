"""The encoder: a deterministic trunk, dropout in the head alone, and scalings that cancel."""

import pytest
import torch
from torch.testing import assert_close

from kinematics_nn.errors import KinematicsError
from kinematics_nn.network.dropout import MonteCarloDropout, dropout_layers, realisations
from kinematics_nn.network.encoder import KinematicEncoder
from kinematics_nn.network.frame import FACTS, PIXELS, PLANES
from kinematics_nn.network.targets import TARGETS

N = len(TARGETS)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[False, True], ids=["plain", "gated"])
def encoder(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"bottleneck": 32, "context": 16, "couplings": 2}
        made = KinematicEncoder((8, 8, 16, 16), **sizes, dropout=0.2, gated=request.param).eval()
        if request.param:
            torch.nn.init.normal_(made.density.estimates.weight, std=0.3)
    mixing = torch.randn(N, N, generator=generator(4)) / N + torch.eye(N)
    facts = 5 + 3 * torch.randn(500, len(FACTS), generator=generator(2))
    targets = torch.randn(500, N, generator=generator(3)) @ mixing + 2
    made.standardise(facts, targets, torch.full((N,), 0.01))
    return made


@pytest.fixture
def galaxies():
    image = torch.randn(5, PLANES, PIXELS // 2, PIXELS, generator=generator(6))
    return image, 5 + 3 * torch.randn(5, len(FACTS), generator=generator(7))


@pytest.mark.parametrize("gates", [(False, False), (False, True), (True, True)])
def test_an_encoder_that_was_told_less_is_gone_on_from(galaxies, gates):
    """Weights of before some facts serve as they are, and a training from them begins where they ended."""
    sizes = {"widths": (8, 8, 16, 16), "bottleneck": 32, "context": 16, "couplings": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        less, more = (
            KinematicEncoder(**sizes, facts=n, gated=gated).eval()
            for n, gated in zip((20, len(FACTS)), gates, strict=True)
        )
        if gates[0]:
            torch.nn.init.normal_(less.density.estimates.weight, std=0.3)
    facts, targets = (torch.randn(500, n, generator=generator(n)) for n in (len(FACTS), N))
    for one in (less, more):
        one.standardise(5 + 3 * facts, targets, torch.full((N,), 0.01))
    more.start_from(less)
    with torch.no_grad():
        targets = torch.randn(5, N, generator=generator())
        found, wanted = (one.log_prob(targets, one.trunk(*galaxies)) for one in (more, less))
        assert_close(found, wanted)
        image, facts = galaxies
        assert_close(less.trunk(image, facts[:, :20]), less.trunk(image, facts))
    assert more.facts[0].weight[:, 20:].abs().max() == 0
    assert more.facts_std[20:].min() > 2, "what is new keeps the scalings of the data"


def test_frames_with_fewer_facts_than_it_is_told_are_refused(encoder, galaxies):
    image, facts = galaxies
    with pytest.raises(KinematicsError, match="frames with 20 facts"):
        encoder.trunk(image, facts[:, :20])


def test_dropout_is_in_the_head_alone(encoder, galaxies):
    assert len(dropout_layers(encoder)) == len(dropout_layers(encoder.head)) == 2
    assert not any(isinstance(layer, torch.nn.Dropout) for layer in encoder.modules())
    with realisations(encoder, 0):
        first, second = encoder.trunk(*galaxies), encoder.trunk(*galaxies)
        assert torch.equal(first, second)
        assert not torch.equal(encoder.head(first), encoder.head(first))
    assert torch.equal(encoder.head(first), encoder.head(first))


def test_a_batch_is_its_galaxies_one_by_one(encoder, galaxies):
    with torch.no_grad():
        together = encoder.trunk(*galaxies)
        alone = torch.cat([encoder.trunk(image[None], facts[None]) for image, facts in zip(*galaxies, strict=True)])
        targets = torch.randn(5, N, generator=generator())
        assert_close(alone, together, rtol=1e-4, atol=1e-5)
        assert_close(
            encoder.log_prob(targets, together),
            torch.cat([encoder.log_prob(targets[i : i + 1], together[i : i + 1]) for i in range(5)]),
            rtol=1e-4,
            atol=1e-3,
        )


def test_draws_of_a_batch_are_each_galaxys_own(encoder, galaxies):
    with torch.no_grad():
        trunk = encoder.trunk(*galaxies)
        draws = encoder.sample(trunk, 2000, generator())
        assert draws.shape == (5, 2000, N)
        # The draws of a galaxy are likelier under its own density than under another's.
        own = [float(encoder.log_prob(draws[i], trunk[i : i + 1].expand(2000, -1)).mean()) for i in range(5)]
        crossed = [float(encoder.log_prob(draws[i], trunk[i - 1 : i].expand(2000, -1)).mean()) for i in range(1, 5)]
    assert all(a > b for a, b in zip(own[1:], crossed, strict=True))


def test_log_prob_is_a_density_of_the_whitened_targets(encoder, galaxies):
    """E_q[p(x) / q(x)] = 1 for another density p: a normal of the draws' own mean and covariance, narrower."""
    n = 20_000
    with torch.no_grad():
        trunk = encoder.trunk(*galaxies)[:1]
        x = encoder.sample(trunk, n, generator())[0].double()
        log_q = encoder.log_prob(x.float(), trunk.expand(n, -1)).double()
    _, log_det = torch.linalg.slogdet(encoder.target_matrix.double())
    normal = torch.distributions.MultivariateNormal(x.mean(0), 0.8 * torch.cov(x.T))
    ratio = torch.exp(normal.log_prob(x) - log_q - log_det)
    error = float(ratio.std()) / n**0.5
    assert error < 0.05, "the normal is near enough to be an estimate"
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * error + 0.01)


def test_whitening_makes_the_prior_standard(encoder):
    mixing = torch.randn(N, N, generator=generator(8)) / 3 + torch.eye(N)
    facts, targets = (
        torch.rand(4000, len(FACTS), generator=generator()),
        torch.randn(4000, N, generator=generator()) @ mixing,
    )
    encoder.standardise(facts, targets, torch.full((N,), 1e-4))
    white = (targets - encoder.target_mean) @ encoder.target_matrix.T
    assert_close(torch.cov(white.T), torch.eye(N), rtol=0, atol=0.02)
    assert_close((facts - encoder.facts_mean).div(encoder.facts_std).std(0), torch.ones(len(FACTS)), rtol=0, atol=1e-3)


def test_targets_that_are_one_and_the_same_do_not_break_the_whitening(encoder):
    targets = torch.randn(300, 1, generator=generator()).expand(-1, N).contiguous()
    encoder.standardise(torch.zeros(300, len(FACTS)), targets, torch.full((N,), 0.05))
    assert torch.isfinite(encoder.target_matrix).all()
    # Nothing is stretched by more than the floor says.
    assert float(torch.linalg.matrix_norm(encoder.target_matrix, 2)) == pytest.approx(1 / 0.05, rel=0.01)


def test_facts_far_off_the_training_do_not_run_away(encoder, galaxies):
    image, facts = galaxies
    with torch.no_grad():
        far, farther = (encoder.trunk(image, facts + away) for away in (1e3, 1e6))
    assert torch.equal(far, farther)


@pytest.mark.parametrize("encoder", [True], indirect=True, ids=["gated"])
def test_a_gate_lets_a_fact_move_the_mean_by_its_own_amount(encoder, galaxies):
    """With the context held: by the fact's change times its gate, through the triangle's mean alone."""
    with torch.no_grad():
        trunk = encoder.trunk(*galaxies)
        context = encoder.context(trunk)
        moved = context.clone()
        moved[:, encoder.density.context + 3] += 0.7 * encoder.gate(context[:, : encoder.density.context])[:, 3]
        change = encoder.density.mean(moved) - encoder.density.mean(context)
        by = encoder.gate(encoder.head(trunk))[:, 3:4] * 0.7 * encoder.density.estimates.weight[:, 3]
        assert_close(change, by, rtol=1e-4, atol=1e-5)
        a, b = (encoder.density.sample(c, generator()) for c in (context, moved))
        assert_close(b - a, by, rtol=1e-3, atol=1e-4)


def test_a_gradient_reaches_every_parameter(encoder, galaxies):
    encoder.train()
    targets = torch.randn(5, N, generator=generator())
    for layer in encoder.modules():
        if isinstance(layer, MonteCarloDropout):
            layer.generator = generator()
    encoder.log_prob(targets, encoder.trunk(*galaxies)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_draws_depend_on_the_generators_alone(encoder, galaxies):
    with torch.no_grad():
        trunk = encoder.trunk(*galaxies)

        def draws(seed):
            with realisations(encoder, seed) as own:
                return encoder.sample(trunk, 20, own)

        assert torch.equal(draws(1), draws(1))
        assert not torch.equal(draws(1), draws(2))
