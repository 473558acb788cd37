"""Batches through a function: here, in worker processes, or on a Dask cluster, with the same results."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cvmlab.errors import CvmlabError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

AHEAD: Final = 2
"""Batches for each worker that are under way at once: this bounds memory."""
RETRIES: Final = 3

In = TypeVar("In")
Out = TypeVar("Out")


class Runner:
    """Runs a function on batches, in this process.

    A subclass may run it elsewhere: what a function does twice is as if done once, and batches and results
    are pickled.

    Attributes:
        shared: Whether what runs functions sees the files that this process sees.
    """

    shared = True

    def map(self, function: Callable[[In], Out], batches: Iterable[In]) -> Iterator[Out]:
        """Return the results, in any order; few batches are taken ahead."""
        return map(function, batches)


class DaskRunner(Runner):
    """Runs a function on a Dask cluster; what a worker that died had is done again by another.

    Args:
        client: The client of ``distributed``.
        shared: Whether its workers see the files that this process sees.
    """

    def __init__(self, client: Any, *, shared: bool = False) -> None:
        self.client = client
        self.shared = shared

    def map(self, function: Callable[[In], Out], batches: Iterable[In]) -> Iterator[Out]:
        """Return the results as they come: no worker waits for another."""
        from distributed import wait

        # the library is not annotated
        first_of: Any = wait
        workers = max(1, len(self.client.scheduler_info()["workers"]))
        waiting: set[Any] = set()
        for batch in batches:
            waiting.add(self.client.submit(function, batch, pure=False, retries=RETRIES))
            while len(waiting) >= AHEAD * workers:
                done, waiting = first_of(waiting, return_when="FIRST_COMPLETED")
                yield from (one.result() for one in done)
        while waiting:
            done, waiting = first_of(waiting, return_when="FIRST_COMPLETED")
            yield from (one.result() for one in done)


@contextmanager
def runner(scheduler: str | None = None, workers: int = 0) -> Iterator[Runner]:
    """Give a runner.

    Args:
        scheduler: Address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``.
        workers: Worker processes of a cluster on this machine; 0 for none.

    Raises:
        MissingExtraError: ``distributed`` is not installed and needed.
        CvmlabError: The scheduler does not answer.
    """
    if scheduler is None and not workers:
        yield Runner()
        return
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("A cluster", "fleet") from error
    # the library is not annotated
    make_client: Any = distributed.Client
    make_cluster: Any = distributed.LocalCluster
    if scheduler is not None:
        try:
            client = make_client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise CvmlabError(f"{scheduler}: no Dask scheduler answers: {error}") from error
        with client:
            yield DaskRunner(client)
        return
    with (
        make_cluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # a port that is free, on this machine alone: the default one may be taken, and warns then
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        make_client(cluster) as client,
    ):
        yield DaskRunner(client, shared=True)
