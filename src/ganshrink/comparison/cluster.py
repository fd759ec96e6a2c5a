"""Cells on a cluster: dask.distributed hands them to workers, which see the comparison's folder under the same path."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ganshrink.comparison.running import Command, Outcome, carry_out

RETRIES = 2  # of a cell that could not be started; one whose worker is lost the scheduler gives to another by itself


def carry_out_there(
    tasks: Sequence[Command],
    *,
    address: str,
    resources: Mapping[str, float],
    tell: Callable[[Command, Outcome], None],
) -> None:
    """Carry cells out on the workers of a dask scheduler; `tell` hears of each as it ends.

    A worker that is lost takes its cell's process with it, which saves its step; another goes on from there. What waits is
    taken back if this process is stopped; cells at work end by themselves.

    Args:
        address: of the scheduler, such as `tcp://HOST:8786`.
        resources: what a cell takes of those that workers were started with, such as {"GPU": 1}.

    Raises:
        ValueError: if the extra `cluster` is not installed, or there is no scheduler, or no worker has these resources.
    """
    distributed = load_distributed()
    try:
        client = distributed.Client(address, timeout=10, set_as_default=False)
    except OSError as error:
        raise ValueError(f"there is no dask scheduler at {address}: {error}") from None
    with client, client.as_current():
        _check_workers(client, address, resources)
        waiting = {}
        for task in tasks:
            future = client.submit(
                carry_out,
                task,
                key=f"{task.name}-{task.key}",
                retries=RETRIES,
                resources=dict(resources),
                pure=False,
            )
            waiting[future.key] = (future, task)
        try:
            for future in distributed.as_completed([future for future, _ in waiting.values()]):
                task = waiting[future.key][1]
                try:
                    done = future.result()
                except Exception as error:  # of the cluster: a cell's own failure is an outcome
                    done = Outcome(task.key, "failed", f"the cluster could not carry it out: {error}", 0.0)
                tell(task, done)
        except BaseException:
            client.cancel([future for future, _ in waiting.values()])
            raise


def load_distributed() -> Any:
    """The package.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise ValueError(
            f'--cluster needs dask.distributed ({error}): pip install "ganshrink[cluster]"'
        ) from None


def _check_workers(client: Any, address: str, resources: Mapping[str, float]) -> None:
    """Refuse what would wait for ever."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise ValueError(
            f"the scheduler at {address} has no workers: start some with `dask worker {address}`"
        )
    for name, amount in resources.items():
        most = max(worker.get("resources", {}).get(name, 0) for worker in workers)
        if most < amount:
            raise ValueError(
                f"no worker at {address} has {amount:g} {name}, the most is {most:g}: start workers with "
                f'--resources "{name}={amount:g}"'
            )
