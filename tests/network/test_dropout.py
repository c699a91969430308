"""Monte-Carlo dropout: on where it is asked for, off elsewhere, and seeded."""

import pytest
import torch
from torch import nn

from kinematics_nn.network.dropout import MonteCarloDropout, dropout_layers, realisations

RATE = 0.3


@pytest.fixture
def module():
    return nn.Sequential(MonteCarloDropout(RATE), nn.Identity(), MonteCarloDropout(RATE), nn.BatchNorm1d(50)).eval()


@pytest.fixture
def x():
    return torch.ones(2000, 50)


def test_is_the_identity_outside(module, x):
    layer = dropout_layers(module)[0]
    assert layer(x) is x
    with realisations(module, 0):
        pass
    assert layer(x) is x


def test_drops_the_rate_and_keeps_the_mean(module, x):
    layer = dropout_layers(module)[0]
    with realisations(module, 0):
        y = layer(x)
    # 100,000 units: the share dropped has a standard error of 0.0014.
    assert float((y == 0).float().mean()) == pytest.approx(RATE, abs=0.007)
    assert float(y.mean()) == pytest.approx(1, abs=0.01)
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - RATE)])


def test_every_row_and_every_pass_has_a_mask_of_its_own(module, x):
    layer = dropout_layers(module)[0]
    with realisations(module, 0):
        first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    assert len(torch.unique(first, dim=0)) == len(x)


def test_a_seed_gives_the_same_masks(module, x):
    def passes(seed):
        with realisations(module, seed):
            return module(x)

    assert torch.equal(passes(3), passes(3))
    assert not torch.equal(passes(3), passes(4))


def test_global_random_state_neither_read_nor_moved(module, x):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        with realisations(module, 3):
            first = module(x)
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(2)
        with realisations(module, 3):
            assert torch.equal(module(x), first)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(module, x, training):
    module.train(training)
    with realisations(module, 0):
        assert not any(part.training for part in module.modules())
    assert all(part.training is training for part in module.modules())
    assert not any(layer.realising for layer in dropout_layers(module))


def test_the_mode_is_restored_after_an_error(module, x):
    def broken():
        with realisations(module, 0):
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert dropout_layers(module)[0](x) is x


def test_statistics_of_batch_norms_do_not_move(module, x):
    before = module[-1].running_mean.clone()
    with realisations(module, 0):
        module(x)
    assert torch.equal(module[-1].running_mean, before)


def test_trains_with_dropout(module, x):
    module.train()
    layer = dropout_layers(module)[0]
    layer.generator = torch.Generator().manual_seed(0)
    assert (layer(x) == 0).any()
