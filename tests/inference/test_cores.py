"""Items go to as many cores as torch has threads, and the answers are those of one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kinematics_nn.inference.cores import an_item_a_core, in_parallel


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_items_keep_their_order_and_torch_its_threads(threads):
    barrier = threading.Barrier(threads, timeout=20)

    def square(k):
        barrier.wait()  # three at a time, or none gets past
        return k**2, torch.get_num_threads()

    with an_item_a_core():
        with an_item_a_core():  # find_modes() within refined_posterior()
            found = in_parallel(square, list(range(6)))
        assert torch.get_num_threads() == 1
    assert found == [(k**2, 1) for k in range(6)]
    assert torch.get_num_threads() == threads


def test_outside_all_is_done_in_turn(threads):
    assert in_parallel(lambda k: threading.current_thread() is threading.main_thread(), [1, 2]) == [True, True]


def test_an_error_leaves_torch_its_threads(threads):
    """In threads that start later, too."""
    with pytest.raises(ZeroDivisionError), an_item_a_core():
        in_parallel(lambda k: 1 / k, [1, 0])
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == threads


def test_a_fit_that_ends_before_another_gives_its_thread_back(threads):
    begun, over = threading.Event(), threading.Event()

    def longer():
        with an_item_a_core():
            begun.set()
            over.wait(20)

    with ThreadPoolExecutor(1) as pool:
        with an_item_a_core():
            other = pool.submit(longer)
            assert begun.wait(20)
        assert torch.get_num_threads() == threads
        over.set()
        other.result()
        assert pool.submit(torch.get_num_threads).result() == threads
