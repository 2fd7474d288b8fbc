"""Problems with known minima, walls of non-finite losses, and parity with the literature and Keras."""

import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from threadpoolctl import threadpool_info, threadpool_limits

from nst.engine.blas import one_blas_thread
from nst.engine.optimizers import LBFGS, Adam, NonFiniteError, Vector

pytestmark = pytest.mark.quick


class Evaluated(NamedTuple):
    loss: float
    gradient: Vector


Function = Callable[[Vector], Evaluated]


class Recorded:
    """Wrap a function, and remember its calls."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.points: list[Vector] = []
        self.evaluations: list[Evaluated] = []

    def __call__(self, point: Vector) -> Evaluated:
        self.points.append(point.copy())
        self.evaluations.append(self.function(point))
        return self.evaluations[-1]


class _SpentError(Exception):
    pass


def bowl(condition: float, size: int = 30, seed: int = 0) -> tuple[Function, np.ndarray]:
    """Make a convex quadratic, whose curvatures from 1 to `condition` lie along no axis, and its minimum."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
    matrix = (axes * np.geomspace(1, condition, size)) @ axes.T
    minimum = rng.normal(size=size)

    def function(point: Vector) -> Evaluated:
        away = point.astype(np.float64) - minimum
        return Evaluated(float(away @ matrix @ away / 2), (matrix @ away).astype(np.float32))

    return function, minimum


def rosenbrock(point: Vector) -> Evaluated:
    exact = point.astype(np.float64)
    return Evaluated(float(scipy.optimize.rosen(exact)), scipy.optimize.rosen_der(exact).astype(np.float32))


def below_one(point: Vector) -> Evaluated:
    """Compute -x with the barrier -0.01 log(1 - x): NaN beyond the wall at 1, and least at 0.99."""
    exact = point.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = np.sum(-exact - 0.01 * np.log(1 - exact))
        return Evaluated(float(loss), (0.01 / (1 - exact) - 1).astype(np.float32))


def spoilt_beyond(wall: float, loss: float, slope: float) -> Function:
    """Make a parabola with its minimum at 1, with another loss and gradient beyond the wall."""

    def function(point: Vector) -> Evaluated:
        if (point > wall).any():
            return Evaluated(loss, np.full_like(point, slope))
        return Evaluated(float(np.sum((point - 1.0) ** 2)), 2 * (point - 1))

    return function


def zeros(size: int) -> Vector:
    return np.zeros(size, np.float32)


def finite(evaluation: Evaluated) -> bool:
    return bool(np.isfinite(evaluation.loss) and np.isfinite(evaluation.gradient).all())


# Known minima


@pytest.mark.parametrize(("condition", "most_steps"), [(1, 5), (100, 100), (10_000, 800)])
def test_lbfgs_reaches_the_bottom_of_a_bowl(condition, most_steps):
    function, minimum = bowl(condition)
    optimizer = LBFGS(function, zeros(30))
    steps = 0
    while steps < most_steps and optimizer.evaluation.loss > 1e-8:
        assert optimizer.step()
        steps += 1
    np.testing.assert_allclose(optimizer.point, minimum, atol=2e-4)


@pytest.mark.parametrize("size", [2, 10, 50])
def test_lbfgs_follows_rosenbrocks_valley(size):
    optimizer = LBFGS(rosenbrock, np.tile(np.float32([-1.2, 1.0]), size // 2))
    for _ in range(500):
        if not optimizer.step():
            break
    np.testing.assert_allclose(optimizer.point, 1, atol=1e-3)


@pytest.mark.parametrize("step_size", [0.05, 0.01])
def test_adam_comes_within_its_step_size_of_the_bottom_of_a_bowl(step_size):
    function, minimum = bowl(100)
    optimizer = Adam(function, zeros(30), step_size=step_size)
    for _ in range(1500):
        optimizer.step()
    np.testing.assert_allclose(optimizer.point, minimum, atol=step_size)


@pytest.mark.parametrize("make", [LBFGS, Adam])
def test_a_minimum_is_not_left(make):
    tried = Recorded(lambda x: Evaluated(float(np.sum((x - 2) ** 2)), 2 * (x - 2)))
    optimizer = make(tried, np.full(4, 2, np.float32))
    evaluation = optimizer.evaluation
    assert not optimizer.step()
    assert len(tried.points) == 1
    assert np.array_equal(optimizer.point, np.full(4, 2))
    assert optimizer.evaluation is evaluation


def test_lbfgs_reports_when_it_can_go_no_lower():
    for function, start in (
        (bowl(10)[0], zeros(30)),
        (rosenbrock, zeros(2)),
        (bowl(1000, size=5)[0], zeros(5)),
    ):
        optimizer = LBFGS(function, start)
        for _ in range(1000):
            if not optimizer.step():
                break
        assert not optimizer.step()
        assert optimizer.evaluation.loss < 1e-8


# What holds at every step


@pytest.mark.parametrize(
    "function", [bowl(1000)[0], rosenbrock, below_one], ids=["bowl", "rosenbrock", "wall"]
)
def test_lbfgs_lowers_the_loss_at_every_step_but_for_its_rounding(function):
    optimizer = LBFGS(function, zeros(30))
    for _ in range(50):
        before = optimizer.evaluation.loss
        if not optimizer.step():
            break
        assert optimizer.evaluation.loss <= before + LBFGS.ROUNDING * abs(before)


def test_lbfgs_goes_on_where_the_fall_of_the_loss_is_lost_in_its_rounding():
    function, _ = bowl(1000)

    def rounded(point: Vector) -> Evaluated:
        loss, gradient = function(point)
        return Evaluated(round(100 + loss, 2), gradient)  # of 100, a ten-thousandth

    optimizer = LBFGS(rounded, zeros(30))
    for _ in range(100):
        if not optimizer.step():
            break
    assert function(optimizer.point).loss < 2e-3
    assert not optimizer.step()


@pytest.mark.parametrize("make", [LBFGS, Adam])
@pytest.mark.parametrize("function", [bowl(1000)[0], rosenbrock], ids=["bowl", "rosenbrock"])
def test_the_evaluation_is_that_of_the_point(make, function):
    optimizer = make(function, zeros(30))
    for _ in range(40):
        again = function(optimizer.point)
        assert optimizer.evaluation.loss == again.loss
        assert np.array_equal(optimizer.evaluation.gradient, again.gradient)
        assert optimizer.point.dtype == np.float32
        optimizer.step()


@pytest.mark.parametrize("make", [LBFGS, Adam])
def test_the_start_is_not_written_to(make):
    start = zeros(30)
    optimizer = make(bowl(10)[0], start)
    for _ in range(5):
        optimizer.step()
    assert not start.any()
    assert optimizer.point.any()


@pytest.mark.parametrize("step_size", [0.5, 0.01])
def test_the_step_size_is_the_length_of_the_first_update(step_size):
    function, minimum = bowl(10)
    far = (minimum + 1000).astype(np.float32)
    tried = Recorded(function)
    LBFGS(tried, far, step_size=step_size).step()
    assert np.sqrt(np.mean((tried.points[1] - far) ** 2)) == pytest.approx(step_size, rel=0.01)
    adam = Adam(function, far, step_size=step_size)
    adam.step()
    np.testing.assert_allclose(np.abs(adam.point - far), step_size, rtol=0.01)


def test_a_slope_without_end_does_not_trap_the_line_search():
    endless = Recorded(lambda x: Evaluated(float(-np.sum(x)), -np.ones_like(x)))
    optimizer = LBFGS(endless, zeros(3))
    assert optimizer.step()
    assert len(endless.points) <= 21
    assert optimizer.evaluation.loss < -1000


def test_a_larger_memory_takes_fewer_steps():
    function, _ = bowl(1000)
    steps = {}
    for memory in (1, 4, 20):
        optimizer = LBFGS(function, zeros(30), memory=memory)
        steps[memory] = 0
        while optimizer.evaluation.loss > 1e-3:
            optimizer.step()
            steps[memory] += 1
    assert steps[1] > steps[4] > steps[20]


def test_the_memory_bounds_how_many_steps_are_kept():
    start, memory = zeros(10**6), 3
    scales = np.geomspace(1, 100, start.size, dtype=np.float32)

    def function(point):
        return Evaluated(float(scales @ (point - 1) ** 2), 2 * scales * (point - 1))

    tracemalloc.start()
    try:
        optimizer = LBFGS(function, start, memory=memory)
        for _ in range(4 * memory):
            assert optimizer.step()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < (2 * memory + 3) * start.nbytes  # with the point and its gradient


@pytest.mark.parametrize(
    ("size", "most"), [(1000, 8), (3 * 1024**2, 8), (2**22, 8), (2**23, 4), (2**24, 2), (3 * 4096**2, 1)]
)
def test_the_memory_of_long_vectors_is_one_step_or_what_fits_a_quarter_of_a_gigabyte(size, most):
    nothing = zeros(size)  # pages of zeros take up no memory before they are written
    tracemalloc.start()
    try:
        optimizer = LBFGS(lambda point: Evaluated(0.0, nothing), nothing)
        reserved, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert optimizer.point is nothing
    pairs = most * 2 * nothing.nbytes
    assert pairs <= reserved < pairs + 20_000
    assert pairs <= 2**28 or most == 1


@pytest.mark.parametrize("memory", [1, 2])
def test_a_memory_of_one_or_two_is_enough_to_descend(memory):
    function, minimum = bowl(10)
    optimizer = LBFGS(function, zeros(30), memory=memory)
    for _ in range(100):
        if not optimizer.step():
            break
    np.testing.assert_allclose(optimizer.point, minimum, atol=1e-3)


def two_loops(points: list[Vector], gradients: list[Vector], memory: int) -> np.ndarray:
    """Compute the next direction by Nocedal and Wright 2006, algorithm 7.4, in double precision."""
    s, y = (np.diff(np.float64(vectors), axis=0)[-memory:] for vectors in (points, gradients))
    q = np.float64(gradients[-1])
    alphas = {}
    for i in reversed(range(len(s))):
        alphas[i] = s[i] @ q / (s[i] @ y[i])
        q -= alphas[i] * y[i]
    r = s[-1] @ y[-1] / (y[-1] @ y[-1]) * q
    for i in range(len(s)):
        r += (alphas[i] - y[i] @ r / (s[i] @ y[i])) * s[i]
    return -r


@pytest.mark.parametrize("memory", [1, 4, 50])
def test_lbfgs_goes_where_the_two_loop_recursion_points(memory):
    bowls, _ = bowl(100)

    def function(point):
        loss, gradient = bowls(point)
        return Evaluated(loss + float(np.sum(np.float64(point) ** 4)), gradient + 4 * point**3)

    tried = Recorded(function)
    optimizer = LBFGS(tried, zeros(30), memory=memory)
    points, gradients = [optimizer.point], [optimizer.evaluation.gradient]
    for step in range(12):  # the memory of 4 wraps round twice
        before = len(tried.points)
        assert optimizer.step()
        if step > 0:
            direction = tried.points[before] - points[-1]
            expected = two_loops(points, gradients, memory)
            assert np.linalg.norm(direction - expected) < 1e-3 * np.linalg.norm(expected)
        points.append(optimizer.point)
        gradients.append(optimizer.evaluation.gradient)


def test_curvature_of_nothing_but_rounding_gives_a_direction():
    """Products that come out positive by one order of addition, and zero by another."""
    rng = np.random.default_rng(0)
    used = 0
    for _ in range(200):
        start, gradient = zeros(30), rng.normal(size=30).astype(np.float32)
        tried: list[Vector] = []

        def evaluate(point, start=start, gradient=gradient, tried=tried):
            tried.append(point)
            if len(tried) == 1:
                return Evaluated(0.0, gradient)
            update, change = np.float64(point - start), rng.normal(size=30).astype(np.float32)
            for part in (slice(None), 0):  # as good as orthogonal to the update
                change[part] -= update @ change / np.sum(update[part] ** 2) * update[part]
            return Evaluated(-1e12 * len(tried), gradient + change)  # so low that every point is accepted

        optimizer = LBFGS(evaluate, start)
        assert optimizer.step()
        before, point, slope = len(tried), optimizer.point, optimizer.evaluation.gradient
        with np.errstate(all="ignore"), suppress(NonFiniteError):  # the direction may be too long
            optimizer.step()
        direction = tried[before] - point
        used += not np.allclose(direction, -0.1 * slope / np.sqrt(np.mean(slope**2)), rtol=1e-3)
    assert used > 50


@pytest.fixture
def two_blas_threads():
    """Give NumPy's products two threads, whatever the machine has."""
    [before] = blas_threads()
    with ThreadPoolExecutor() as pool:  # threadpoolctl lets nobody else change a limit while its thread lives
        pool.submit(threadpool_limits, 2, user_api="blas").result()
    yield
    with ThreadPoolExecutor() as pool:
        pool.submit(threadpool_limits, before, user_api="blas").result()


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if "numpy" in library["filepath"]}


def test_numpys_products_take_one_thread_during_a_step(two_blas_threads):
    function, _ = bowl(100)
    seen: list[set[int]] = []

    def evaluate(point):
        seen.append(blas_threads())
        if len(seen) == 20:
            raise _SpentError
        return function(point)

    def descend(optimizer):
        while optimizer.step():
            assert blas_threads() == {2}

    optimizer = LBFGS(evaluate, zeros(30))
    with pytest.raises(_SpentError):
        descend(optimizer)
    assert blas_threads() == {2}
    assert seen[1:] == [{1}] * 19


def test_two_runs_at_once_leave_the_threads_of_numpys_products_as_they_were(two_blas_threads):
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first():
        with one_blas_thread:
            first_in.set()
            second_in.wait()
        first_out.set()

    def second():
        first_in.wait()
        with one_blas_thread:
            second_in.set()
            first_out.wait()
            assert blas_threads() == {1}

    with ThreadPoolExecutor() as pool:
        for run in [pool.submit(first), pool.submit(second)]:
            run.result()
    assert blas_threads() == {2}


def test_lbfgs_forgets_curvature_that_no_direction_can_be_computed_from():
    """The change of the gradient is so large that its products overflow."""
    steep = np.full(2, 1.2e19, np.float32)

    def evaluate(point):
        calls.append(point)
        return Evaluated(-1e30 * len(calls), steep if len(calls) % 2 else -steep)

    calls: list[Vector] = []
    optimizer = LBFGS(evaluate, zeros(2), step_size=0.25)
    with np.errstate(all="ignore"):
        for step in range(4):
            before, downhill = optimizer.point, -np.sign(optimizer.evaluation.gradient)
            assert optimizer.step()
            np.testing.assert_allclose(optimizer.point - before, 0.25 * downhill)  # as in the first step
            assert len(calls) == step + 2


def test_adam_takes_the_steps_of_keras():
    function, _ = bowl(100)
    ours = Adam(function, zeros(30), step_size=0.02)
    variable = tf.Variable(zeros(30))
    theirs = keras.optimizers.Adam(learning_rate=0.02, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    for _ in range(50):
        ours.step()
        theirs.apply([tf.constant(function(variable.numpy()).gradient)], [variable])
    np.testing.assert_allclose(ours.point, variable, atol=1e-4)


# Non-finite losses


def test_lbfgs_converges_next_to_a_wall_of_nan():
    tried = Recorded(below_one)
    optimizer = LBFGS(tried, zeros(5), step_size=3.0)
    for _ in range(60):
        moved = optimizer.step()
        assert finite(optimizer.evaluation)
        if not moved:
            break
    assert not all(finite(evaluation) for evaluation in tried.evaluations)
    np.testing.assert_allclose(optimizer.point, 0.99, atol=1e-3)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(("loss", "slope"), [(NAN, 0), (INF, 0), (-INF, 0), (0, NAN), (0, INF), (-1, 1e30)])
def test_lbfgs_never_accepts_what_is_not_finite(loss, slope):
    tried = Recorded(spoilt_beyond(1.01, loss, slope))
    optimizer = LBFGS(tried, zeros(3), step_size=4.0)
    for _ in range(30):
        moved = optimizer.step()
        assert (optimizer.point <= 1.01).all()
        if not moved:
            break
    assert any((point > 1.01).any() for point in tried.points)
    np.testing.assert_allclose(optimizer.point, 1, atol=1e-3)


@pytest.mark.parametrize("make", [LBFGS, Adam])
@pytest.mark.parametrize(("loss", "slope"), [(NAN, 0), (INF, 0), (-INF, 0), (0, NAN), (0, INF)])
def test_where_nothing_finite_is_in_reach_the_state_stays(make, loss, slope):
    start = np.full(3, 0.5, np.float32)
    optimizer = make(spoilt_beyond(0.5, loss, slope), start)
    evaluation = optimizer.evaluation
    for _ in range(2):
        with pytest.raises(NonFiniteError):
            optimizer.step()
        assert np.array_equal(optimizer.point, np.full(3, 0.5))
        assert optimizer.evaluation is evaluation


def test_high_ground_behind_a_gap_does_not_count_as_convergence():
    def function(point):
        away = float(np.abs(point).max())
        return Evaluated(0.0 if away == 0 else NAN if away < 0.5 else 5.0, np.ones_like(point))

    optimizer = LBFGS(function, zeros(3), step_size=1.0)
    with pytest.raises(NonFiniteError):
        optimizer.step()
    assert not optimizer.point.any()


@pytest.mark.parametrize("make", [LBFGS, Adam])
@pytest.mark.parametrize(("loss", "slope"), [(NAN, 0), (INF, 0), (-INF, 0), (0, NAN), (0, -INF), (0, 1e30)])
def test_a_start_that_is_not_finite_is_refused(make, loss, slope, recwarn):
    with pytest.raises(NonFiniteError):
        make(spoilt_beyond(0.5, loss, slope), np.ones(3, np.float32))
    assert not recwarn.list
