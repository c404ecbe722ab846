"""An outside oracle: steps of a dense network by PyTorch, where it is installed."""

import numpy as np
import pytest

from slide_ref.common.config import Config
from slide_ref.common.sparse_rows import Dataset, SparseRows, rows_from_lists
from slide_ref.training import micro_batch, new_network, train_step

torch = pytest.importorskip("torch")

N_FEATURES, N_LABELS, N_SAMPLES = 12, 9, 6


def samples():
    rng = np.random.default_rng(0)
    ids = rows_from_lists([rng.choice(N_FEATURES, 4, replace=False).tolist() for _ in range(N_SAMPLES)], N_FEATURES)
    features = SparseRows(ids.indptr, ids.indices, rng.standard_normal(ids.nnz).astype(np.float32), N_FEATURES)
    labels = [rng.choice(N_LABELS, 1 + i % 3, replace=False).tolist() for i in range(N_SAMPLES)]
    return Dataset(features, rows_from_lists(labels, N_LABELS))


def dense(rows):
    array = np.zeros(rows.shape)
    array[np.repeat(np.arange(rows.n_rows), np.diff(rows.indptr)), rows.indices] = 1 if rows.data is None else rows.data
    return array


def step_of_torch(parameters, optimizer, data):
    hidden = torch.from_numpy(dense(data.features))
    for l in range(0, len(parameters), 2):
        W, b = parameters[l : l + 2]
        hidden = hidden @ (W if l == 0 else W.T) + b
        hidden = torch.relu(hidden) if l < len(parameters) - 2 else hidden
    targets = torch.from_numpy(dense(data.labels))
    others = hidden.masked_fill(targets > 0, -torch.inf).logsumexp(dim=1, keepdim=True)
    terms = torch.nn.functional.softplus(others - hidden, threshold=1e9) * targets
    loss = (terms.sum(dim=1) / targets.sum(dim=1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class RowAdamW(torch.optim.Optimizer):
    """AdamW of whole tensors, but the second moment is that of the mean square of each row."""

    def __init__(self, parameters, config):
        super().__init__(parameters, {})
        self.config, self.n_steps = config, 0

    @torch.no_grad()
    def step(self):
        config, self.n_steps = self.config, self.n_steps + 1
        for i, w in enumerate(self.param_groups[0]["params"]):
            rows = w.grad.reshape(len(w), -1)
            m, v = self.state[w].setdefault("moments", [torch.zeros_like(rows), torch.zeros_like(rows[:, :1])])
            m.lerp_(rows, 1 - config.beta1)
            v.lerp_(rows.square().mean(dim=1, keepdim=True), 1 - config.beta2)
            m_hat, v_hat = m / (1 - config.beta1**self.n_steps), v / (1 - config.beta2**self.n_steps)
            w.mul_(1 - config.learning_rate * config.weight_decay * (i == 0))
            w.sub_((config.learning_rate * m_hat / (v_hat.sqrt() + config.epsilon)).reshape(w.shape))


@pytest.mark.parametrize("hidden", [(5,), (5, 4)])
@pytest.mark.parametrize(
    "settings", [{}, {"beta1": 0.9}, {"weight_decay": 0.0}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.9}]
)
def test_s10_s12_s26_steps_of_a_dense_network_are_those_of_pytorch(hidden, settings):
    """All samples in one micro-batch, so that every feature that occurs is touched in every step."""
    data = samples()
    config = Config(hidden=hidden, micro_batch=N_SAMPLES, learning_rate=0.1, decay="constant", **settings)
    network = new_network(config, N_FEATURES, N_LABELS, np.float64)
    assert not network.parts
    before = network.layers[0].W.copy()
    parameters = [
        torch.from_numpy(array.copy()).requires_grad_() for layer in network.layers for array in (layer.W, layer.b)
    ]
    if config.optimizer == "adam":
        optimizer = RowAdamW(parameters, config)
    else:
        optimizer = torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
    for step in (1, 2, 3):
        report = train_step(network, micro_batch(config, data, np.arange(N_SAMPLES), step - 1, step))
        assert report.loss == pytest.approx(step_of_torch(parameters, optimizer, data), rel=1e-12)
    ours = [array for layer in network.layers for array in (layer.W, layer.b)]
    theirs = [array.detach().numpy() for array in parameters]
    unseen = np.setdiff1d(np.arange(N_FEATURES), data.features.indices)
    theirs[0][unseen] = before[unseen]  # PyTorch lets all rows decay
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)
