"""BLAS has one thread while this process works in threads of its own, and what it had before as soon as it does not."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from problems import random_dataset
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from slide_fast.estimator.classifier import SlideClassifier
from slide_fast.parallel.blas_threads import ONE_BLAS_THREAD
from slide_fast.prediction import predict_topk
from slide_fast.training import fit
from slide_ref.common.config import Config
from slide_ref.common.parameters import layers_of

DATA = random_dataset(0, n_samples=64, n_labels=100)
BLAS = ThreadpoolController().select(user_api="blas")
pytestmark = pytest.mark.skipif(not BLAS.lib_controllers, reason="threadpoolctl does not know this BLAS")


def n_threads():
    return [library.get_num_threads() for library in BLAS.lib_controllers]


def set_all(numbers):
    for library, number in zip(BLAS.lib_controllers, numbers, strict=True):
        library.set_num_threads(number)
    with BLAS.limit(limits=None):
        """From now on any thread may set limits."""


@pytest.fixture(autouse=True)
def three_threads():
    """A number that is neither 1 nor, most likely, that of the CPUs; there must be nothing else after the test."""
    numbers = n_threads()
    set_all([3] * len(numbers))
    before = threadpool_info()
    yield
    after = threadpool_info()
    set_all(numbers)
    assert after == before


@pytest.fixture
def other_user():
    """Another thread that has the limit until it is told to let go of it."""
    inside, leave = threading.Event(), threading.Event()

    def use():
        with ONE_BLAS_THREAD:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=use, daemon=True)

    def let_go():
        leave.set()
        thread.join()

    thread.start()
    inside.wait()
    yield let_go
    let_go()


@pytest.fixture(scope="module")
def layers():
    return layers_of(fit(Config(hidden=(16,), epochs=1), DATA, n_workers=1).arrays)


def test_a_thousand_predictions_that_overlap_in_four_threads(layers):
    expected = predict_topk(layers, DATA.features, 5)

    def ask(number):
        found = predict_topk(layers, DATA.features, 5, 1 + number % 2)
        return all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(1000)))
    assert n_threads() == [3] * len(n_threads())


def test_predictions_while_another_thread_trains(layers):
    expected, numbers = predict_topk(layers, DATA.features, 5)[0], []

    def train():
        config = Config(hidden=(16,), epochs=20, micro_batch=8)
        fit(config, DATA, test=DATA, n_workers=1, callback=lambda event: numbers.append(event["kind"]))

    thread = threading.Thread(target=train)
    thread.start()
    while thread.is_alive():
        assert np.array_equal(predict_topk(layers, DATA.features, 5, 2)[0], expected)
    thread.join()
    assert "end" in numbers


def test_the_last_who_leaves_puts_the_number_back(other_user):
    with pytest.raises(KeyboardInterrupt), ONE_BLAS_THREAD:
        raise KeyboardInterrupt
    assert set(n_threads()) == {1}
    with ONE_BLAS_THREAD:
        other_user()
        assert set(n_threads()) == {1}
    assert set(n_threads()) == {3}


def test_the_first_may_live_on_when_the_last_leaves():
    """Since threadpoolctl 3.8 the thread that came first alone may set the number, as long as it lives."""

    def limited():
        with threadpool_limits(2):
            return set(n_threads())

    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as last:
        first.submit(ONE_BLAS_THREAD.__enter__).result()
        last.submit(ONE_BLAS_THREAD.__enter__).result()
        first.submit(ONE_BLAS_THREAD.__exit__).result()
        assert set(n_threads()) == {1}
        last.submit(ONE_BLAS_THREAD.__exit__).result()
        assert set(n_threads()) == {3}
        assert first.submit(limited).result() == last.submit(limited).result() == {2}  # limits work as ever


def test_a_number_that_the_caller_sets_meanwhile_stays():
    with ONE_BLAS_THREAD:
        set_all([2] * len(n_threads()))
    assert set(n_threads()) == {2}
    set_all([3] * len(n_threads()))


def test_limits_of_the_caller_hold_again_afterwards(layers):
    with threadpool_limits(2):
        predict_topk(layers, DATA.features, 5, 2)
        assert set(n_threads()) == {2}


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("forks_inside", [False, True])
def test_a_child_forked_in_the_middle_has_only_its_own_uses(other_user, forks_inside):
    def found():
        inside = set(n_threads())
        with ONE_BLAS_THREAD:
            return inside, set(n_threads())

    if forks_inside:
        ONE_BLAS_THREAD.__enter__()
    pid = os.fork()
    if pid == 0:
        is_right = found() == ({1} if forks_inside else {3}, {1})
        if forks_inside:
            ONE_BLAS_THREAD.__exit__()
        os._exit(0 if is_right and set(n_threads()) == {3} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    if forks_inside:
        ONE_BLAS_THREAD.__exit__()


def test_openmp_of_other_packages_is_left_alone():
    """Its number of threads belongs to each thread, so nobody could put it back for another."""
    pytest.importorskip("sklearn.utils._openmp_helpers")
    openmp = ThreadpoolController().select(user_api="openmp")
    before = [library.get_num_threads() for library in openmp.lib_controllers]
    with ONE_BLAS_THREAD:
        assert [library.get_num_threads() for library in openmp.lib_controllers] == before


def test_estimators_share_the_limit():
    classifier = SlideClassifier(hidden=(16,), epochs=1, n_workers=1).fit(*DATA)
    expected = classifier.predict_topk(DATA.features)[0]

    def ask(number):
        mode = "index" if number % 3 == 0 else "exact"
        classifier.predict_proba(DATA.features)
        return mode == "index" or np.array_equal(classifier.predict_topk(DATA.features, mode=mode)[0], expected)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(40)))
