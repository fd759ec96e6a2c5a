"""The label maps of Cityscapes as they ship (Cordts et al. 2016): 34 ids, of which 19 are trained on and scored."""

import numpy as np

SCORED, NUM_IDS = 19, 34
VOID = SCORED  # what is not scored, one channel
# The ids of road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person,
# rider, car, truck, bus, train, motorcycle, bicycle: train ids 0 to 18.
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_TRAIN_IDS = np.full(NUM_IDS + 1, VOID, np.int32)
_TRAIN_IDS[list(_IDS)] = range(SCORED)


def train_ids(ids: np.ndarray) -> np.ndarray:
    """Ids as train ids 0..18, all others 19."""
    return _TRAIN_IDS[np.where((ids >= 0) & (ids < NUM_IDS), ids, NUM_IDS)]


def ids_of_instances(instances: np.ndarray) -> np.ndarray:
    """Class ids of instance ids, which are 1000 * class + number where a class has instances."""
    return np.where(instances >= 1000, instances // 1000, instances)


def edges(instances: np.ndarray) -> np.ndarray:
    """Where an instance id (H, W) differs from one of its four neighbours', bool (Wang et al. 2018, section 3.3)."""
    found = np.zeros(instances.shape, bool)
    down, right = instances[1:] != instances[:-1], instances[:, 1:] != instances[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found
