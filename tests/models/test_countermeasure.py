import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sls.models.checkpoints import LoadedCheckpoint, load_checkpoint
from sls.models.countermeasure import Countermeasure, SlsClassifier
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig


@pytest.fixture
def golden(golden_dir: Path) -> LoadedCheckpoint:
    return load_checkpoint(golden_dir / "sls_tiny_epoch_0.pth", xlsr=golden_dir / "xlsr_tiny.pt")


@pytest.fixture
def golden_waveforms(golden_dir: Path) -> Tensor:
    with np.load(golden_dir / "sls_tiny_eval.npz") as arrays:
        return torch.from_numpy(arrays["waveforms"])


@pytest.fixture
def model(small_config: EncoderConfig, waveforms: Tensor) -> Countermeasure:
    torch.manual_seed(4)
    return Countermeasure(small_config, waveforms.shape[1]).eval()


def test_log_probabilities_are_those_of_the_seed_system(
    golden: LoadedCheckpoint, golden_waveforms: Tensor, golden_dir: Path
) -> None:
    with np.load(golden_dir / "sls_tiny_eval.npz") as arrays:
        expected = arrays["log_probs"]
    with torch.inference_mode():
        found = golden.model(golden_waveforms).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_twelve_steps_of_training_are_those_of_the_seed_system(
    golden: LoadedCheckpoint, golden_waveforms: Tensor, golden_dir: Path
) -> None:
    record = json.loads((golden_dir / "sls_tiny_train.json").read_text())
    model = golden.model.train()
    loss_function = nn.CrossEntropyLoss(torch.tensor(record["loss_weights"]))
    optimizer = torch.optim.Adam(model.parameters(), lr=record["lr"], weight_decay=record["weight_decay"])
    generator = torch.Generator().manual_seed(11)
    batches, losses = [], []
    for _ in record["step_losses"]:
        noise = torch.randn(5, 64_600, generator=generator) * 0.1
        batches.append((noise, torch.randint(0, 2, (5,), generator=generator)))
        loss = loss_function(model(noise), batches[-1][1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, record["step_losses"], rtol=1e-5)

    model.eval()
    with torch.inference_mode():
        after = model(golden_waveforms).numpy()
        validation = [(model(noise), labels) for noise, labels in batches[:4]]
    np.testing.assert_allclose(after, record["log_probs_after"], rtol=0, atol=1e-5)
    expected = record["validation_on_first_4_batches"]
    loss = np.mean([loss_function(log_probs, labels).item() for log_probs, labels in validation])
    hits = torch.cat([log_probs.argmax(dim=1) == labels for log_probs, labels in validation])
    assert loss == pytest.approx(expected["loss"], rel=1e-5)
    assert 100 * hits.float().mean().item() == pytest.approx(expected["accuracy_percent"])


def test_the_published_classifier_has_22847_inputs() -> None:
    with torch.device("meta"):
        classifier = SlsClassifier(dim=1024, num_frames=NAMED_ENCODERS["300m"].count_frames(64_600))
    assert classifier.fc1.in_features == 22_847


@pytest.mark.parametrize(
    ("dim", "num_frames", "num_layers"), [(3, 3, 1), (10, 24, 5), (32, 201, 2), (65, 7, 48)]
)
def test_any_number_of_layers_frames_and_dimensions(dim: int, num_frames: int, num_layers: int) -> None:
    outputs = [torch.randn(2, num_frames, dim) for _ in range(num_layers)]
    explanation = SlsClassifier(dim, num_frames)(outputs)
    assert explanation.layer_weights.shape == (2, num_layers)
    torch.testing.assert_close(explanation.log_probs.exp().sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(("dim", "num_frames"), [(2, 30), (30, 2)])
def test_too_little_to_pool_raises(dim: int, num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"found {num_frames} frames .*{dim}"):
        SlsClassifier(dim, num_frames)


def test_no_layer_at_all_raises() -> None:
    with pytest.raises(ValueError, match="layer_outputs"):
        SlsClassifier(8, 8)([])


def stacked_log_probs(classifier: SlsClassifier, outputs: list[Tensor]) -> Tensor:
    """The paper's formula as it is written, with all layers in one tensor."""
    stacked = torch.stack(outputs, dim=1)  # (batch, layers, frames, dim)
    weights = torch.sigmoid(F.linear(stacked.mean(dim=2), *classifier.fc0.parameters()))
    x = (stacked * weights.unsqueeze(-1)).sum(dim=1).unsqueeze(1)
    x = F.max_pool2d(F.selu(classifier.first_bn(x)), (3, 3))
    x = F.selu(classifier.fc3(F.selu(classifier.fc1(torch.flatten(x, 1)))))
    return torch.log_softmax(x, dim=1)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_running_sum_is_the_stacked_sum_and_so_are_its_gradients(is_training: bool) -> None:
    torch.manual_seed(1)
    classifier = SlsClassifier(dim=12, num_frames=30).train(is_training)
    outputs = [torch.randn(4, 30, 12, requires_grad=True) for _ in range(6)]
    found = classifier(outputs).log_probs
    expected = stacked_log_probs(classifier, outputs)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(found[:, 1].sum(), outputs, retain_graph=True),
        torch.autograd.grad(expected[:, 1].sum(), outputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_only_one_layer_is_held_at_a_time_without_gradient() -> None:
    import weakref

    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def layers():
        nonlocal most
        for _ in range(10):
            output = torch.randn(1, 9, 9)
            alive.append(weakref.ref(output))
            most = max(most, sum(reference() is not None for reference in alive))
            yield output
            del output

    with torch.inference_mode():
        SlsClassifier(9, 9).eval()(layers())
    assert most <= 2


def test_the_explanation_weighs_each_layer_of_each_utterance(
    model: Countermeasure, waveforms: Tensor
) -> None:
    with torch.inference_mode():
        explanation = model.explain(waveforms)
        outputs = list(model.xlsr(waveforms))
        assert torch.equal(explanation.log_probs, model(waveforms))
    expected = [
        torch.sigmoid(F.linear(output.mean(dim=1), *model.classifier.fc0.parameters())) for output in outputs
    ]
    torch.testing.assert_close(explanation.layer_weights, torch.cat(expected, dim=1))
    assert (explanation.layer_weights[0] != explanation.layer_weights[1]).all()


@pytest.mark.parametrize("extractor_mode", ["layer_norm", "group_norm"])
def test_a_score_depends_neither_on_neighbours_nor_on_batch_size(
    small_config: EncoderConfig, waveforms: Tensor, extractor_mode: str
) -> None:
    torch.manual_seed(4)
    model = Countermeasure(replace(small_config, extractor_mode=extractor_mode), waveforms.shape[1]).eval()
    with torch.inference_mode():
        alone = torch.cat([model(waveform[None]) for waveform in waveforms])
        together = model(waveforms)
        reversed_order = model(waveforms.flip(0)).flip(0)
        loud = model(torch.cat([waveforms, 50 * torch.ones_like(waveforms), torch.zeros_like(waveforms)]))[:3]
    for other in (together, reversed_order, loud):
        torch.testing.assert_close(other, alone, rtol=0, atol=1e-5)


def test_golden_scores_do_not_depend_on_batch_size(
    golden: LoadedCheckpoint, golden_waveforms: Tensor
) -> None:
    with torch.inference_mode():
        together = golden.model(golden_waveforms)
        alone = torch.cat([golden.model(waveform[None]) for waveform in golden_waveforms])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_threads_get_the_scores_that_one_thread_gets(model: Countermeasure, waveforms: Tensor) -> None:
    def score(index: int) -> Tensor:
        with torch.inference_mode():
            return model.explain(waveforms[index % 3][None]).log_probs

    expected = [score(index) for index in range(3)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(score, range(60)))
    for index, log_probs in enumerate(found):
        torch.testing.assert_close(log_probs, expected[index % 3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(7_760,), (2, 7_759), (2, 1, 7_760)])
def test_waveforms_of_another_shape_raise(model: Countermeasure, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"waveforms: .*{re.escape(str(shape))}.*7760"):
        model(torch.zeros(shape))


def test_half_precision_scores_are_given_in_full(model: Countermeasure, waveforms: Tensor) -> None:
    with torch.inference_mode():
        assert model.to(torch.bfloat16)(waveforms.to(torch.bfloat16)).dtype == torch.float32


def test_batch_statistics_stand_in_one_named_layer(model: Countermeasure) -> None:
    assert isinstance(model.classifier.first_bn, nn.BatchNorm2d)
    others = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert others == [model.classifier.first_bn]
