"""The id-to-slot map against a dictionary."""

import numpy as np
import pytest

from matching.index.slots import LEAF, SlotMap


@pytest.mark.parametrize("batch", [1, 40, 3 * LEAF])
@pytest.mark.parametrize("highest", [20_000, 2**63 - 1])
def test_agrees_with_a_dictionary(batch: int, highest: int) -> None:
    rng = np.random.default_rng(batch)
    slots, model = SlotMap(), {}
    for step in range(4_000 if batch == 1 else 200 if batch == 40 else 12):
        drawn = np.unique(rng.integers(0, highest, batch))
        if step % 4 == 3 and model:
            drawn = np.unique(rng.choice(np.array(list(model)), min(len(model), 2 * batch), replace=False))
            slots.remove(drawn)
            for key in drawn.tolist():
                del model[key]
            continue
        found = slots.find(drawn)
        assert found.tolist() == [model.get(key, -1) for key in drawn.tolist()]
        values = rng.integers(0, 2**40, len(drawn))
        slots.insert(drawn[found < 0], values[found < 0])
        slots.move(drawn[found >= 0], values[found >= 0])
        model.update(zip(drawn.tolist(), values.tolist(), strict=True))
    keys = np.array(sorted(model))
    assert slots.find(keys).tolist() == [model[key] for key in keys.tolist()]
    slots.remove(keys)
    assert (slots.find(keys) == -1).all()


@pytest.mark.parametrize("batch", [1, 7, 5 * LEAF])
def test_ascending_ids_leave_full_leaves(batch: int) -> None:
    slots = SlotMap()
    for start in range(0, 10 * LEAF, batch):
        ids = np.arange(start, start + batch)
        slots.insert(ids, ids)
    assert {leaf.shape[1] for leaf in slots._leaves[:-1]} == {LEAF}


def test_sparse_leaves_are_merged() -> None:
    slots = SlotMap()
    ids = np.arange(50 * LEAF)
    slots.insert(ids, ids)
    slots.remove(ids[ids % 100 != 0])
    assert len(slots._leaves) <= 3
    assert slots.find(ids[:300:100]).tolist() == [0, 100, 200]
