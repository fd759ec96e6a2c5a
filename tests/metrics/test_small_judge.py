"""The judge of benchmarks/judge.py: what it is trained on, and the shape of what it says."""

import torch
from benchmarks.judge import VOID, Judge, augmented, class_weights


def test_labels_go_with_their_pixels_and_classes_weigh_by_how_rare_they_are():
    labels = torch.full((8, 256, 256), 10, dtype=torch.uint8)
    labels[:, :, 128:] = 3
    labels[:, 128:] = VOID
    photos = torch.where(labels == 10, 220, 60).to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
    torch.manual_seed(0)
    seen, ids = augmented(photos, labels, 64)
    assert seen.shape == (8, 3, 64, 64) and ids.shape == (8, 64, 64)
    assert seen.min() >= 0 and seen.max() <= 255 and set(ids.unique().tolist()) == {3, 10, VOID}
    for picture, classes in zip(seen.mean(1), ids, strict=True):
        assert picture[classes == 10].mean() > picture[classes == 3].mean() + 20
    assert not torch.equal(seen[0], seen[1])
    assert Judge(4)(seen).shape == (8, 11, 64, 64)
    counted = torch.arange(11).repeat_interleave(torch.arange(1, 12) * 4)
    frequencies = torch.arange(1, 12) / 66
    wanted = (frequencies.median() / frequencies).sqrt()
    torch.testing.assert_close(class_weights(counted, 0.5), wanted)
