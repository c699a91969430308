"""The training loop: it learns, and goes on from a checkpoint as if it had never stopped."""

from dataclasses import replace

import pytest
import torch

from kinematics_nn.network.dropout import dropout_layers
from kinematics_nn.training.loop import Settings, Trainer

SETTINGS = Settings(samples=12 * 16, batch=16, rate=2e-3, average=0.8, seed=3)


def differences(a, b):
    """Names of the weights in which two encoders differ."""
    a, b = a.state_dict(), b.state_dict()
    return [name for name in a if not torch.equal(a[name], b[name])]


def losses(trainer, steps):
    """The loss of each of the next steps."""
    found = []

    def note(step, mean):
        found.append(mean * (len(found) + 1) - sum(found))

    trainer.run(steps, progress=note)
    return found


def test_the_loss_goes_down(frames):
    trainer = Trainer(replace(SETTINGS, samples=25 * 16), frames)
    before = trainer.validate(frames)
    found = losses(trainer, None)
    assert trainer.step == trainer.steps == len(found) == 25
    # The same galaxies, mirrors and noise before and after, so that the difference has no scatter but the training's.
    assert trainer.validate(frames) < before - 2


def test_a_stopped_run_goes_on_as_if_it_had_not(frames, tmp_path):
    unbroken = Trainer(SETTINGS, frames)
    wanted = losses(unbroken, None)

    stopped = Trainer(SETTINGS, frames)
    found = losses(stopped, 5)
    stopped.save(tmp_path / "checkpoint")
    losses(stopped, 2)  # went on, and was killed before the next checkpoint
    resumed = Trainer(SETTINGS, frames)
    resumed.load(tmp_path / "checkpoint")
    assert resumed.step == 5
    found += losses(resumed, None)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert not differences(resumed.encoder, unbroken.encoder)
    assert not differences(resumed.average.module, unbroken.average.module)
    assert [row["step"] for row in resumed.curve] == [5, 12]


def test_seeds_decide(frames):
    one, same, other = (Trainer(replace(SETTINGS, seed=seed), frames) for seed in (3, 3, 4))
    assert not differences(one.encoder, same.encoder)
    assert differences(one.encoder, other.encoder)
    assert losses(one, 3) == losses(same, 3)


def test_the_global_random_state_stays(frames):
    before = torch.random.get_rng_state()
    Trainer(SETTINGS, frames).run(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_checkpoint_of_another_kind_of_device_is_refused(frames, tmp_path):
    trainer = Trainer(SETTINGS, frames)
    trainer.save(tmp_path / "checkpoint")
    state = torch.load(tmp_path / "checkpoint", weights_only=True) | {"device": "cuda"}
    torch.save(state, tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"made on cuda, this run is on cpu.*--device cuda"):
        trainer.load(tmp_path / "checkpoint")


def test_a_checkpoint_of_other_settings_is_refused(frames, tmp_path):
    trainer = Trainer(SETTINGS, frames)
    trainer.save(tmp_path / "checkpoint")
    other = Trainer(replace(SETTINGS, rate=1e-4), frames)
    with pytest.raises(ValueError, match="the settings"):
        other.load(tmp_path / "checkpoint")


def test_a_checkpoint_is_written_whole_or_not_at_all(frames, tmp_path, monkeypatch):
    trainer = Trainer(SETTINGS, frames)
    path = tmp_path / "run.checkpoint"
    trainer.save(path)
    before = path.read_bytes()

    def killed(state, name):
        name.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.save(path)
    assert path.read_bytes() == before


def test_every_galaxy_is_seen_before_one_is_seen_again(frames):
    n = len(frames["facts"])
    numbered = frames | {"image": torch.arange(n)}
    trainer = Trainer(replace(SETTINGS, batch=8), numbered)
    seen = torch.cat([trainer._batch()["image"] for _ in range(n // 8)])
    assert len(seen.unique()) == len(seen) == n // 8 * 8


def test_starts_from_another_encoder_and_its_scalings(frames):
    first = Trainer(SETTINGS, frames)
    first.run(2)
    moved = frames | {"targets": frames["targets"] + 1}
    second = Trainer(replace(SETTINGS, seed=9), moved)
    assert differences(first.encoder, second.encoder)
    second.start_from(first.encoder)
    assert not differences(first.encoder, second.encoder)


def test_validation_is_of_the_average_without_dropout_and_repeats(frames):
    trainer = Trainer(SETTINGS, frames)
    trainer.run(4)
    first = trainer.validate(frames)
    assert trainer.validate(frames) == first
    assert not trainer.average.module.training
    with torch.no_grad():
        trainer.encoder.density.affine.bias.add_(10)  # what is validated is not what is trained
    assert trainer.validate(frames) == first
    for layer in dropout_layers(trainer.average.module):
        layer.rate = 0.9
    assert trainer.validate(frames) == first


def test_an_average_is_an_average(frames):
    trainer = Trainer(replace(SETTINGS, average=0.5), frames)
    name = "density.affine.bias"
    trainer.run(1)
    wanted = trainer.encoder.state_dict()[name].clone()  # the first step's weights, taken as they are
    for _ in range(3):
        trainer.run(1)
        wanted = 0.5 * wanted + 0.5 * trainer.encoder.state_dict()[name]
    torch.testing.assert_close(trainer.average.module.state_dict()[name], wanted, rtol=1e-5, atol=1e-7)


def test_an_average_of_what_stays_is_what_stays(frames):
    # 0.9 * 3 + 0.1 * 3 is less than 3 in floating point: indices that are averaged, too, point elsewhere.
    trainer = Trainer(replace(SETTINGS, average=0.9), frames)
    trainer.run(4)
    for averaged, own in zip(trainer.average.module.buffers(), trainer.encoder.buffers(), strict=True):
        assert averaged.is_floating_point() or torch.equal(averaged, own)
