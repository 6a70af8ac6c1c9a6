"""The native bake: gradients, Adam, determinism, and that it converges."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from field_cases import HI, LO, SMALL, psnr, sphere_field, sphere_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.errors import InputError, ShapeError
from gas_rt.kernels import (
    FieldTrainer,
    HashField,
    HashGridConfig,
    field_forward,
    learning_rate,
    twins,
)
from gas_rt.kernels._backend import native
from gas_rt.kernels.hash_field import density_mlp_size
from gas_rt.kernels.twins.field import corners, normalised

STEP_M = 0.01


def trainer_after(steps: int, config: HashGridConfig = SMALL, *, threads: int = 1) -> FieldTrainer:
    """Some steps in, so that nothing is near its initial zero."""
    trainer = FieldTrainer(config, 3, lo=LO, hi=HI, threads=threads)
    for step in range(steps):
        trainer.step(*sphere_samples(700, seed=step), lr=1e-2)
    return trainer


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 6),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 300),
    st.integers(0, 9),
)
def test_gradients_agree_with_the_twin(levels: int, features: int, n: int, seed: int) -> None:
    config = HashGridConfig(levels, features, 9, 5, 1.6)
    trainer = trainer_after(2, config)
    batch = sphere_samples(n, seed=seed)
    weight = np.random.default_rng(seed).random(n).astype(np.float32)
    ours = trainer.gradients(*batch, weight=weight)
    loss, nets, table = twins.loss_and_gradients(
        trainer.field(), *batch, colour_weight=5.0, weight=weight
    )
    assert ours.loss == pytest.approx(loss, rel=1e-5)
    assert relative(np.concatenate([ours.density_mlp, ours.colour_mlp]), nets) < 1e-4
    assert relative(ours.table, table) < 1e-4


def test_gradients_agree_with_torch() -> None:
    torch = pytest.importorskip("torch")
    trainer = trainer_after(4)
    field = trainer.field()
    x, d, sigma, rgb = sphere_samples(900, seed=77)
    ours = trainer.gradients(x, d, sigma, rgb)

    # float64, so that the comparison measures our rounding alone
    table, density, colour = (
        torch.tensor(a, dtype=torch.float64, requires_grad=True)
        for a in (field.table, field.density_mlp, field.colour_mlp)
    )
    features = []
    for level in range(SMALL.levels):
        index, weight = corners(SMALL, level, normalised(field, x))
        entries = table.reshape(-1, SMALL.features)[torch.tensor(SMALL.offsets[level] + index)]
        features.append((entries * torch.tensor(weight[..., None], dtype=torch.float64)).sum(1))
    encoded = torch.cat(features, 1)
    split = 32 * SMALL.n_padded
    w0, w1 = density[:split].reshape(32, -1), density[split:].reshape(16, 32)
    w2, w3 = colour[:1024].reshape(32, 32), colour[1024:].reshape(16, 32)
    geometry = torch.relu(encoded @ w0.T) @ w1.T
    ones = torch.ones(len(x), 13, dtype=torch.float64)
    seen = torch.cat([geometry, torch.tensor(d, dtype=torch.float64), ones], 1)
    out = torch.sigmoid(torch.relu(seen @ w2.T) @ w3.T)[:, :3]
    alpha = 1 - torch.exp(-torch.tensor(sigma, dtype=torch.float64) * STEP_M)
    ours_alpha = 1 - torch.exp(-torch.nn.functional.softplus(geometry[:, 0]))
    opacity = torch.nn.functional.binary_cross_entropy(ours_alpha, alpha, reduction="none")
    error = ((out - torch.tensor(rgb, dtype=torch.float64)) ** 2).sum(1)
    loss = (opacity + 5.0 * alpha * error).mean()
    loss.backward()

    assert ours.loss == pytest.approx(loss.item(), rel=1e-5)
    for mine, theirs in (
        (ours.table, table),
        (ours.density_mlp, density),
        (ours.colour_mlp, colour),
    ):
        assert relative(mine, theirs.grad.numpy()) < 1e-4


def test_gradients_agree_with_finite_differences() -> None:
    trainer = trainer_after(4)
    start, batch = trainer.field(), sphere_samples(512, seed=5)
    gradient = trainer.gradients(*batch)
    weight = np.ones(512, np.float32)

    def loss(table: np.ndarray, density: np.ndarray, colour: np.ndarray) -> float:
        field = HashField(SMALL, table, density, colour, LO, HI)
        probe = native.Trainer(field.compiled)
        return probe.run(*batch, weight, STEP_M, 5.0, -1.0, 0.9, 0.99, 1e-15, 1)

    rng = np.random.default_rng(0)
    values = (start.table, start.density_mlp, start.colour_mlp)
    for part, name in enumerate(("table", "density_mlp", "colour_mlp")):
        slope = getattr(gradient, name)
        # Half along the gradient, half at random: a slope that float32 losses can resolve.
        direction = slope / np.linalg.norm(slope) + rng.normal(size=slope.shape) / slope.size
        epsilon = 2e-3
        moved = [
            loss(
                *(v + sign * epsilon * direction if i == part else v for i, v in enumerate(values))
            )
            for sign in (1, -1)
        ]
        assert (moved[0] - moved[1]) / (2 * epsilon) == pytest.approx(slope @ direction, rel=0.02)


def test_ten_steps_agree_with_the_twin() -> None:
    trainer = FieldTrainer(SMALL, 1, lo=LO, hi=HI)
    twin = twins.Trainer(trainer.field())
    for step in range(10):
        batch = sphere_samples(600, seed=step)
        loss = trainer.step(*batch, lr=5e-3)
        ones = np.ones(600, np.float32)
        twin_loss = twin.run(*batch, ones, STEP_M, 5.0, 5e-3, 0.9, 0.99, 1e-15, 1)
        assert loss == pytest.approx(twin_loss, rel=1e-3)
    field = trainer.field()
    table, nets = np.empty_like(field.table), np.empty(density_mlp_size(SMALL) + 1536, np.float32)
    twin.read(False, table, nets)
    # Adam divides a gradient by its own size, so entries with next to none may go either way.
    assert np.mean(np.abs(field.table - table) < 1e-3) > 0.99
    assert relative(field.density_mlp, nets[: len(field.density_mlp)]) < 1e-2


def test_training_does_not_depend_on_the_threads_to_the_bit() -> None:
    fields = [trainer_after(5, threads=threads).field() for threads in (1, 2, 5)]
    for other in fields[1:]:
        for name in ("table", "density_mlp", "colour_mlp"):
            np.testing.assert_array_equal(getattr(fields[0], name), getattr(other, name))


def test_callers_of_one_trainer_take_turns() -> None:
    """A step runs without the GIL, and its buffers grow with the batch."""
    trainer = trainer_after(1, threads=2)
    batches = [sphere_samples(n, seed=n) for n in (100, 3000, 9000, 20_000)]
    want = [trainer.gradients(*batch).loss for batch in batches]
    trainer = trainer_after(1, threads=2)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda batch: trainer.gradients(*batch).loss, batches * 3))
    assert got == want * 3


def test_a_seed_is_reproducible_and_seeds_differ() -> None:
    one, again, other = (FieldTrainer(SMALL, s, lo=LO, hi=HI).field() for s in (4, 4, 5))
    np.testing.assert_array_equal(one.table, again.table)
    assert np.abs(one.table - other.table).max() > 0


def test_a_patterned_sphere_is_learned() -> None:
    field = sphere_field()
    x, d, sigma, rgb = sphere_samples(4000, seed=999)
    out_sigma, out_rgb = field_forward(field, x, d)
    alpha, out_alpha = 1 - np.exp(-sigma * STEP_M), 1 - np.exp(-out_sigma * STEP_M)
    assert psnr(alpha, out_alpha) > 28
    solid = alpha > 0.5
    assert psnr(rgb[solid], out_rgb[solid]) > 28


def test_unseen_entries_and_weightless_samples_change_nothing() -> None:
    trainer = FieldTrainer(SMALL, 0, lo=LO, hi=HI)
    before = trainer.field()
    x, d, sigma, rgb = sphere_samples(64, seed=0)
    trainer.step(x, d, sigma, rgb, lr=1e-2, weight=np.zeros(64, np.float32))
    after = trainer.field()
    np.testing.assert_array_equal(before.table, after.table)
    np.testing.assert_array_equal(before.density_mlp, after.density_mlp)
    trainer.step(x[:1], d[:1], sigma[:1], rgb[:1], lr=1e-2)
    moved = (trainer.field().table != before.table).reshape(-1, SMALL.features).any(1).sum()
    assert 0 < moved <= 8 * SMALL.levels


def test_learning_rate_warms_up_and_decays() -> None:
    rates = [learning_rate(step, 100, peak=1e-2, warmup=10) for step in range(100)]
    assert rates[9] == max(rates) == pytest.approx(1e-2)
    assert rates[0] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4)
    assert sorted(rates[9:], reverse=True) == rates[9:]


def test_bad_batches_are_refused_and_leave_the_trainer_alone() -> None:
    trainer = FieldTrainer(SMALL, 0, lo=LO, hi=HI)
    before = trainer.field()
    x, d, sigma, rgb = sphere_samples(4, seed=0)
    with pytest.raises(ShapeError, match="at least one point"):
        trainer.step(x[:0], d[:0], sigma[:0], rgb[:0], lr=1e-2)
    with pytest.raises(ShapeError, match="sigma: expected shape"):
        trainer.step(x, d, sigma[:2], rgb, lr=1e-2)
    with pytest.raises(ShapeError, match=r"rgb: .* NaN"):
        trainer.step(x, d, sigma, rgb * np.nan, lr=1e-2)
    with pytest.raises(InputError, match="weight: expected at least 0"):
        trainer.step(x, d, sigma, rgb, lr=1e-2, weight=-np.ones(4, np.float32))
    with pytest.raises(InputError, match="lr: expected"):
        trainer.step(x, d, sigma, rgb, lr=float("nan"))
    with pytest.raises(InputError, match="step_m"):
        FieldTrainer(SMALL, 0, lo=LO, hi=HI, step_m=0.0)
    with pytest.raises(InputError, match="colour_weight"):
        FieldTrainer(SMALL, 0, lo=LO, hi=HI, colour_weight=-1.0)
    np.testing.assert_array_equal(before.table, trainer.field().table)
