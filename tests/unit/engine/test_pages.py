"""The page allocator: counts of holders, all or nothing, nothing lost."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from glm5_engine.pages import PAGE_SIZE, PageAllocator, PageError, pages_for


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (64, 1), (65, 2), (128, 2)])
def test_pages_for_rounds_up(tokens, pages):
    assert pages_for(tokens) == pages


def test_the_size_of_a_page_is_that_of_the_model():
    from glm5_model.cache import PAGE_SIZE as MODELS

    assert PAGE_SIZE == MODELS


def test_a_pool_that_is_too_small_gives_nothing_and_keeps_all():
    pool = PageAllocator(3)
    assert pool.allocate(4) is None
    assert pool.num_free == 3


def test_a_shared_page_is_free_after_its_last_holder():
    pool = PageAllocator(1)
    pages = pool.allocate(1)
    pool.share(pages)
    assert pool.is_shared(pages[0])
    pool.release(pages)
    assert pool.num_free == 0
    assert not pool.is_shared(pages[0])
    pool.release(pages)
    assert pool.num_free == 1


@pytest.mark.parametrize("act", [PageAllocator.release, PageAllocator.share])
def test_a_free_page_cannot_be_released_or_shared(act):
    with pytest.raises(PageError, match="page 0 is free"):
        act(PageAllocator(1), [0])


class Holders(RuleBasedStateMachine):
    """Any sequence of allocations, shares and releases against a plain list of lists."""

    def __init__(self):
        super().__init__()
        self.pool = PageAllocator(12)
        self.held = []

    @rule(count=st.integers(0, 14))
    def allocate(self, count):
        free = self.pool.num_free
        pages = self.pool.allocate(count)
        assert (pages is None) == (count > free)
        if pages:
            assert not {page for held in self.held for page in held} & set(pages)
            self.held.append(pages)

    @rule(data=st.data())
    def share(self, data):
        if self.held:
            pages = data.draw(st.sampled_from(self.held))[:2]
            self.pool.share(pages)
            self.held.append(list(pages))

    @rule(data=st.data())
    def release(self, data):
        if self.held:
            self.pool.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def used_pages_are_those_held(self):
        flat = [page for held in self.held for page in held]
        assert self.pool.num_used == len(set(flat))
        assert self.pool.num_used + self.pool.num_free == 12
        assert all(self.pool.is_shared(page) == (flat.count(page) > 1) for page in flat)


TestHolders = Holders.TestCase
