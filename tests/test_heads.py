"""Heads against their formulas in float64, against another library, and in how they start from each other."""

import math

import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, NormalizedSoftmaxLoss, SubCenterArcFaceLoss
from torch.nn import functional as F

from pipeline.catalogue import HEADS
from pipeline.network.cosine_softmax import adacos_scale, adacos_start
from pipeline.network.heads import build_head

B, C, D, K = 9, 7, 5, 3


def random_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=generator), torch.randint(0, C, (B,), generator=generator)


def cosine(a, b):
    a, b = a.double(), b.double()
    return (a @ b / a.norm() / b.norm()).item()


def naive_cosines(head, descriptors):
    """(B, C) in float64, a pair at a time, to the nearest sub-centre."""
    centres = head.weight.detach().view(head.classes, -1, D)
    rows = [[max(cosine(d, c) for c in of_class) for of_class in centres] for d in descriptors]
    return torch.tensor(rows, dtype=torch.float64)


def naive_logits(head, descriptors, targets, margins):
    """The formulas of the papers, a number at a time."""
    if head.kind == "softmax":
        return descriptors.double() @ head.weight.detach().double().T + head.bias.detach().double()
    cosines = naive_cosines(head, descriptors)
    if head.kind == "adacos":
        return adacos_scale(cosines, targets, torch.tensor(adacos_start(C), dtype=torch.float64)) * cosines
    for row, target in enumerate(targets.tolist()):
        value, margin = cosines[row, target].item(), margins[target]
        if head.kind == "cosface":
            cosines[row, target] = value - margin
        elif math.acos(value) > math.pi - margin:
            cosines[row, target] = value - margin * math.sin(margin)
        else:
            cosines[row, target] = math.cos(math.acos(value) + margin)
    return 30.0 * cosines


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("per_class", [False, True])
def test_every_head_equals_its_formula_in_float64(kind, per_class):
    torch.manual_seed(1)
    margins = torch.linspace(0.1, 0.5, C) if per_class else torch.full((C,), 0.3)
    head = build_head(kind, D, C, margins if per_class else 0.3, 30.0, K)
    if kind == "softmax":
        torch.nn.init.normal_(head.bias)
    descriptors, targets = random_batch()
    expected = naive_logits(head, descriptors, targets, margins.tolist())
    torch.testing.assert_close(head(descriptors, targets).double(), expected, rtol=1e-4, atol=1e-4)


def their_loss(kind, head):
    """The loss of pytorch-metric-learning with our weights; it has no AdaCos and no bias."""
    if kind == "softmax":  # normalised by none: the inner product, at temperature 1
        loss = NormalizedSoftmaxLoss(C, D, temperature=1.0, distance=DotProductSimilarity(normalize_embeddings=False))
        loss.distance.normalize = lambda x, **_: x
    elif kind == "arcface":
        loss = ArcFaceLoss(C, D, margin=math.degrees(0.3), scale=30.0)
    elif kind == "cosface":
        loss = CosFaceLoss(C, D, margin=0.3, scale=30.0)
    else:
        loss = SubCenterArcFaceLoss(
            num_classes=C, embedding_size=D, margin=math.degrees(0.3), scale=30.0, sub_centers=K
        )
    loss.W.data = head.weight.data.reshape(-1, D).T.clone()
    return loss


@pytest.mark.parametrize("kind", [kind for kind in HEADS if kind != "adacos"])
def test_the_loss_equals_that_of_pytorch_metric_learning(kind):
    torch.manual_seed(0)
    head = build_head(kind, D, C, 0.3, 30.0, K)
    descriptors, targets = random_batch()
    ours = F.cross_entropy(head(descriptors, targets), targets)
    assert ours.item() == pytest.approx(their_loss(kind, head)(descriptors, targets).item(), rel=1e-5)


def test_cosines_with_a_fixed_scale_are_the_normalised_softmax_of_pytorch_metric_learning():
    torch.manual_seed(0)
    head, loss = build_head("arcface", D, C, 0.0, 20.0), NormalizedSoftmaxLoss(C, D, temperature=0.05)
    loss.W.data = head.weight.data.T.clone()
    descriptors, targets = random_batch()
    assert F.cross_entropy(head(descriptors), targets).item() == pytest.approx(loss(descriptors, targets).item(), 1e-5)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(("batch", "classes"), [(0, 4), (1, 1), (5, 2), (6, C)])
def test_cosines_of_classes_are_the_naive_ones(kind, batch, classes):
    torch.manual_seed(2)
    head, descriptors = build_head(kind, D, classes, sub_centres=K), torch.randn(batch, D) * 10.0
    expected = naive_cosines(head, descriptors).view(batch, classes)
    torch.testing.assert_close(head.class_cosines(descriptors).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_heads_compute_in_float32_inside_autocast(kind):
    head = build_head(kind, D, C).eval()
    descriptors, targets = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, cosines = head(descriptors, targets), head.class_cosines(descriptors)
    assert logits.dtype == cosines.dtype == torch.float32
    assert torch.equal(logits, head(descriptors, targets)) and torch.equal(cosines, head.class_cosines(descriptors))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_where_a_descriptor_is_the_direction_or_its_opposite(kind, sign):
    head = build_head(kind, D, C, torch.linspace(0.1, 0.5, C))
    descriptors = (sign * head.weight.detach().reshape(C, -1, D)[:, 0]).requires_grad_()
    targets = torch.arange(C)
    F.cross_entropy(head(descriptors, targets), targets).backward()
    assert descriptors.grad.isfinite().all() and head.weight.grad.isfinite().all()


def test_without_targets_there_is_no_margin():
    head = build_head("arcface", D, C, scale=30.0)
    descriptors, _ = random_batch()
    torch.testing.assert_close(head(descriptors), 30.0 * F.normalize(descriptors) @ F.normalize(head.weight).T)


def test_one_class_has_no_loss():
    targets = torch.zeros(2, dtype=torch.int64)
    for kind in HEADS:
        assert F.cross_entropy(build_head(kind, D, 1)(torch.randn(2, D), targets), targets).item() == 0.0


def test_the_scale_of_adacos_moves_only_in_training_and_is_in_the_state():
    head = build_head("adacos", D, C)
    descriptors, targets = random_batch()
    start = head.scale.item()
    head.eval()(descriptors, targets)
    head.train()(descriptors)
    assert head.scale.item() == start == pytest.approx(math.sqrt(2) * math.log(C - 1))
    head(descriptors, targets)
    moved = head.scale.item()
    assert moved != start and not head.scale.requires_grad
    again = build_head("adacos", D, C)
    again.load_state_dict(head.state_dict())
    assert again.scale.item() == moved


def test_only_one_sub_centre_of_a_class_learns_from_a_photograph():
    head = build_head("subcenter_arcface", D, C, sub_centres=K)
    descriptors, targets = random_batch()
    F.cross_entropy(head(descriptors[:1], targets[:1]), targets[:1]).backward()
    assert (head.weight.grad.abs().amax(dim=2) > 0.0).sum(dim=1).tolist() == [1] * C


def warm_started(start, kind, sub_centres=K):
    """A head of 3 classes, of which 2 and 0 start from the classes 1 and 5 of `start`; and as it was drawn."""
    head = build_head(kind, D, 3, sub_centres=sub_centres)
    drawn = head.weight.detach().clone()
    head.warm_start_from(start, torch.tensor([2, 0]), torch.tensor([1, 5]))
    return head, drawn


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("start_kind", HEADS)
def test_a_head_of_any_kind_starts_from_the_directions_that_another_learnt(kind, start_kind):
    torch.manual_seed(3)
    start = build_head(start_kind, D, C, sub_centres=2)
    if start_kind == "softmax":
        torch.nn.init.normal_(start.bias)
    head, drawn = warm_started(start, kind)
    assert torch.equal(head.weight[1], drawn[1])
    for new, old in ((2, 1), (0, 5)):
        longest = max(start.weight[old].view(-1, D), key=lambda centre: centre.norm().item())
        assert head.class_cosines(longest[None])[0, new].item() == pytest.approx(1.0, abs=1e-5)


def test_the_same_kind_copies_weights_and_biases():
    for kind in HEADS:
        start = build_head(kind, D, C)
        head, _ = warm_started(start, kind)
        assert torch.equal(head.weight[[2, 0]], start.weight[[1, 5]])
    torch.nn.init.normal_(start.bias)
    head, _ = warm_started(start, "softmax")
    assert torch.equal(head.bias, torch.stack([start.bias[5], torch.tensor(0.0), start.bias[1]]))


def test_more_sub_centres_than_are_known_stay_as_drawn():
    start = build_head("arcface", D, C)
    head, drawn = warm_started(start, "subcenter_arcface")
    assert torch.equal(head.weight[[2, 0], 0], start.weight[[1, 5]])
    assert torch.equal(head.weight[[2, 0], 1:], drawn[[2, 0], 1:])


def test_a_softmax_gives_the_directions_of_a_cosine_head_its_own_lengths():
    start = build_head("arcface", D, C)
    start.weight.data *= 100.0
    head, drawn = warm_started(start, "softmax")
    torch.testing.assert_close(head.weight.norm(dim=1), drawn.norm(dim=1))
    assert head.bias.tolist() == [0.0, 0.0, 0.0]


def test_a_sub_centre_that_nearly_all_photographs_chose_becomes_the_longest():
    torch.manual_seed(4)
    head = build_head("subcenter_arcface", 16, 4, sub_centres=K)
    head.weight.data = F.normalize(head.weight.data, dim=2)
    places = torch.randn(4, 16)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-5)
    used = torch.zeros(4, K)
    for _ in range(100):
        targets = torch.randint(0, 4, (8,))
        descriptors = F.normalize(places[targets] + 0.5 * torch.randn(8, 16))
        with torch.no_grad():
            cosines = torch.einsum("bd,bkd->bk", descriptors, F.normalize(head.weight[targets], dim=2))
            used.index_put_((targets, cosines.argmax(1)), torch.ones(8), accumulate=True)
        optimiser.zero_grad()
        F.cross_entropy(head(descriptors, targets), targets).backward()
        optimiser.step()
    clear = used.amax(1) > 0.9 * used.sum(1)
    assert clear.sum() >= 3
    assert torch.equal(used.argmax(1)[clear], head.weight.norm(dim=2).argmax(1)[clear])


def test_an_unknown_head_and_margins_of_other_landmarks_are_refused():
    with pytest.raises(ValueError, match="'sphereface' is none of arcface, cosface"):
        build_head("sphereface", D, C)
    with pytest.raises(ValueError, match="margins of shape"):
        build_head("arcface", D, C, torch.zeros(C - 1))
