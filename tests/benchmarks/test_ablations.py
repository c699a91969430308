"""The small trainings of the ablations: their scores, their point head, and that they go on where they stopped."""

import ablations
import pytest
import torch

from kinematics_nn.network.encoder import KinematicEncoder
from kinematics_nn.network.frame import FACTS, PIXELS, PLANES
from kinematics_nn.network.targets import TARGETS


@pytest.fixture
def data():
    """Galaxies of which only the first fact says anything: it is every target."""
    generator = torch.Generator().manual_seed(1)
    facts = torch.randn(96, len(FACTS), generator=generator)
    targets = facts[:, :1] + 0.1 * torch.randn(96, len(TARGETS), generator=generator)
    return {"image": torch.zeros(96, PLANES, PIXELS // 2, PIXELS).half(), "facts": facts, "targets": targets}


def test_scores_are_those_of_known_draws():
    n = 4000
    truth = torch.zeros(n, len(TARGETS))
    generator = torch.Generator().manual_seed(2)
    # The speed: an error of 10 % and posteriors of it; the radius: posteriors half as wide.
    middle = 0.1 * torch.randn(n, 1, generator=generator)
    draws = truth[:, None].expand(n, 200, -1).clone()
    noise = torch.randn(n, 200, generator=generator)
    draws[..., TARGETS.index("speed_1.0")] = middle + 0.1 * noise
    draws[..., TARGETS.index("r50")] = middle + 0.05 * noise
    row = ablations.score(draws, truth)
    # A median of |normal| is 0.674, its error here 0.013; a coverage of 4000 errs by 0.8, and 200 draws add to it.
    assert float(row["v sin i [%]"].split("±")[0]) == pytest.approx(6.74, abs=0.45)
    assert float(row["in 68 %, v sin i"]) == pytest.approx(68, abs=3)
    assert float(row["in 68 %, r50"]) == pytest.approx(38, abs=3)


def test_a_point_head_spreads_by_its_dropout_alone(data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wet, dry = (KinematicEncoder(widths=(8, 8, 8, 8), dropout=rate).eval() for rate in (0.1, 0.0))
    for encoder in (wet, dry):
        draws = ablations.point_draws(encoder, data["image"][:3], data["facts"][:3], 20, seed=1)
        assert draws.shape == (3, 20, len(TARGETS))
        assert bool((draws.std(1) > 0).all()) == (encoder is wet)


def test_a_training_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    whole, cost = ablations.train("point", data, tmp_path, samples=64 * 4, every=2)
    assert cost["samples"] == 256
    other = tmp_path / "other"
    other.mkdir()
    saved = ablations.Trainer.save

    def save_and_stop(self, path):
        saved(self, path)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(ablations.Trainer, "save", save_and_stop)
        with pytest.raises(Stop):
            ablations.train("point", data, other, samples=64 * 4, every=2)
    again, _ = ablations.train("point", data, other, samples=64 * 4, every=2)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not (other / "point.checkpoint").exists()
