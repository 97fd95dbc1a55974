"""A simulated worker: claims, runs for a while, renews its leases and says how it ended, as the production one does.

In the process of an orchestrator it is also the `LocalWorker` that ticks hand tasks to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from dagmaster.contract.messages import Key, Report, Started, Task
from dagmaster.db.inbox import report_body, started_body
from simulation.garbage import nonsense
from simulation.loop import Actor, Bell, Process, pause
from simulation.tables import NUL, text_of
from simulation.watch import Attempt
from simulation.world import Connection, Rates, World, storable

if TYPE_CHECKING:
    from simulation.orchestrator import SimOrchestrator

POLL_SECONDS = 2.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 0.5
TOLD_AFTER_SECONDS = 0.2
WAITED_MAX_SECONDS = 2.0
HUNG_SECONDS = 100_000.0
"""A handler that hangs: only the engine ends its attempt."""
QUICK_SHARE = 0.4
"""What is not meant to be too slow takes at most so much of its timeout."""

Outcome = tuple[str, Any, dict[str, Any] | None, tuple[dict[str, Any], ...]]


@dataclass(slots=True)
class Run:
    """An attempt taken on here."""

    task: Task
    since: float
    told: bool
    actor: Actor | None = None
    working: bool = False
    cancelled: bool = False


class SimWorker:
    """One worker."""

    def __init__(
        self, world: World, process: Process, rates: Rates, slots: int, line: int, engine: SimOrchestrator | None = None
    ) -> None:
        self.world = world
        self.process = process
        self.worker_id = f"{process.name}-worker"
        self.table = rates.table()
        self.slots = slots
        self.line = line
        self.engine = engine
        self.free = slots
        self.busy = 0
        self.backlog = True
        self.stopping = False
        self.bell = Bell(world.loop)
        self.runs: dict[tuple[str, Key], Run] = {}
        self.untold: dict[Attempt, None] = {}
        self.strays: set[Attempt] = set()
        self.returned: set[Attempt] = set()
        self.handed: set[Attempt] = set()
        """Reported to the engine in this process, which keeps the report until it is written."""
        self.links: list[Connection] = []
        world.watch.workers[self.worker_id] = process

    # --- life ------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        while not self.stopping:
            await self.claim()
            if not await self.bell.wait(POLL_SECONDS):
                await self.poll()

    async def gone(self) -> None:
        """Give back what runs, and wait until everything has been said."""
        for run in list(self.runs.values()):
            self.cancel(run)
            self.process.spawn(self.say(run.task, ("RELEASED", None, None, ())))
        while self.untold:
            await pause(RETRY_SECONDS)

    def stop(self) -> None:
        self.stopping = True
        self.bell.ring()

    def link(self) -> Connection:
        """A connection out of the pool."""
        for connection in self.links:
            if not connection.broken:
                return connection
        connection = Connection(self.world, self.process, self.table)
        connection.on_stop = self.stop
        self.links = [connection]
        return connection

    # --- the local worker --------------------------------------------------------------------------------------

    def reserve(self, handler: str, queue: str) -> bool:
        if self.stopping or queue != "light" or self.backlog or self.free < 1 - self.line:
            return False
        self.free -= 1
        return True

    def unreserve(self, handler: str) -> None:
        self.free += 1

    def start(self, task: Task) -> None:
        self.world.watch.started_here(task, self.worker_id)
        self.begin(task, told=False)

    def revoke(self, job_id: str, key: Key) -> None:
        run = self.runs.get((job_id, key))
        if run is not None:
            self.cancel(run)

    def tasks_waiting(self) -> None:
        self.backlog = True
        self.bell.ring()

    # --- claiming ----------------------------------------------------------------------------------------------

    async def claim(self) -> None:
        wanted = self.free
        if wanted < 1 or not self.backlog or self.stopping:
            return
        self.free -= wanted
        self.backlog = False
        tasks: list[Task] = []
        try:
            tasks = await self.link().call(lambda: self.world.tables.claim(self.worker_id, wanted))
        except psycopg.Error:
            self.backlog = True
        finally:
            self.free += wanted - len(tasks)
        self.backlog |= len(tasks) == wanted
        if tasks:
            self.world.hint("inbox")
        for task in tasks:
            self.begin(task, told=True)

    async def poll(self) -> None:
        try:
            if await self.link().call(lambda: bool(self.world.tables.waiting), writes=False):
                self.backlog = True
        except psycopg.Error:
            pass

    # --- one attempt ---------------------------------------------------------------------------------------------

    def begin(self, task: Task, *, told: bool) -> None:
        self.revoke(task.job_id, task.key)  # a newer attempt: the older one is lost
        run = Run(task, self.process.clock(), told)
        self.runs[task.job_id, task.key] = run
        self.untold[task.job_id, task.key, task.attempt] = None
        self.world.running += 1
        done = False

        def over() -> None:
            nonlocal done
            if not done:
                done = True
                self.world.running -= 1
                self.untold.pop((task.job_id, task.key, task.attempt), None)

        async def work() -> None:
            try:
                await self.attempt(run)
            finally:
                over()

        self.process.on_killed.append(over)  # also of one that never got to its first step
        run.actor = self.process.spawn(work())

    async def attempt(self, run: Run) -> None:
        task = run.task
        outcome: Outcome | None = None
        began_at: float | None = None
        try:
            if await self.wait_for_thread(run):
                began_at = self.process.clock()
                outcome = await self.work(run, began_at)
        finally:
            if self.runs.get((task.job_id, task.key)) is run:
                del self.runs[task.job_id, task.key]
            self.free += 1
        if outcome is None:
            if not run.cancelled:
                await self.say(task, ("RELEASED", None, None, ()))
        elif not run.cancelled:
            await self.say(task, outcome, None if run.told else began_at)
        if self.backlog:
            self.bell.ring()

    async def wait_for_thread(self, run: Run) -> bool:
        """False when it was cancelled, or has waited too long and goes back into the queue."""
        while self.busy >= self.slots:
            if self.process.clock() - run.since > WAITED_MAX_SECONDS:
                return False
            await pause(0.1)
        return not run.cancelled

    async def work(self, run: Run, began_at: float) -> Outcome | None:
        """Take the time that the handler takes; a start that was not said at once is said after a moment."""
        task, world = run.task, self.world
        self.busy += 1
        run.working = True
        try:
            truth = world.watch.attempts[task.job_id, task.key, task.attempt]
            seconds, outcome = self.plan(task)
            truth.slow = truth.slow or seconds >= task.timeout_seconds
            nonsense(world, task)
            if run.told or seconds <= TOLD_AFTER_SECONDS:
                await pause(seconds)
            else:
                await pause(TOLD_AFTER_SECONDS)
                if run.cancelled:
                    return None
                run.told = True
                self.tell_started(task, began_at)
                await pause(seconds - TOLD_AFTER_SECONDS)
        finally:
            run.working = False
            self.busy -= 1
        return outcome

    def plan(self, task: Task) -> tuple[float, Outcome]:
        """How long the handler takes this time, and what comes of it."""
        world, swarm = self.world, self.world.swarm
        rng = world.rng
        seconds = min(swarm.work_seconds * (0.2 + 1.6 * rng.random()), QUICK_SHARE * task.timeout_seconds)
        if swarm.slow_work and rng.random() < swarm.slow_work:
            world.faults["slow_work"] += 1
            seconds = HUNG_SECONDS if rng.random() < 0.2 else task.timeout_seconds * (1.1 + rng.random())
        drawn = rng.random()
        if drawn < swarm.fails:
            world.faults["fails"] += 1
            error = {"code": "BROKEN", "message": "it broke", "retryable": rng.random() >= swarm.fatal}
            return seconds, ("FAILED", None, error, ())
        output: dict[str, Any] = {"value": task.token}
        if task.key.item < 0:
            output |= {"pick": rng.randrange(4), "items": [f"{task.attempt}.{n}" for n in range(rng.randrange(5))]}
        else:
            output["number"] = rng.randrange(100)
        if swarm.poison and world.faulty and rng.random() < swarm.poison:
            world.faults["poison"] += 1
            world.watch.poisoned.add(task.job_id)
            output["value"] = "\x00"
        effects: tuple[dict[str, Any], ...] = ()
        if swarm.effects and rng.random() < swarm.effects:
            effects = tuple({"kind": "artifact", "body": {"staged": task.token}} for _ in range(rng.choice((1, 1, 2))))
        return seconds, ("COMPLETED", output, None, effects)

    def tell_started(self, task: Task, began_at: float) -> None:
        if self.engine is None:
            return
        at = self.begun(began_at)
        started = Started(task.key, task.attempt, self.worker_id, at, task.timeout_seconds)
        if not self.engine.deliver(task.job_id, task.shard, started):
            self.process.spawn(self.post_started(task, started))

    async def post_started(self, task: Task, started: Started) -> None:
        """Until it is durable or the attempt has ended: its timeout hangs on it."""
        while (run := self.runs.get((task.job_id, task.key))) is not None and run.task.attempt == task.attempt:
            try:
                await self.link().call(lambda: self.world.tables.send(task.job_id, "started", started_body(started)))
                return
            except psycopg.Error:
                await pause(RETRY_SECONDS)

    def begun(self, began_at: float) -> Any:
        assert self.engine is not None
        return self.engine.now() - timedelta(seconds=self.process.clock() - began_at)

    # --- saying how it ended -----------------------------------------------------------------------------------------

    async def say(self, task: Task, outcome: Outcome, began_at: float | None = None) -> None:
        """To the engine in this process, or into the inbox, until it is durable."""
        word, output, error, effects = outcome
        begun = self.begun(began_at) if began_at is not None and self.engine is not None else None
        report = Report(task.key, task.attempt, self.worker_id, word, output, error, effects, begun)  # type: ignore[arg-type]
        self.world.watch.says(task, word, output)
        if NUL in text_of(output):
            self.world.watch.says(task, "FAILED", None)  # by whoever finds that it cannot be stored
        if self.engine is not None and self.engine.deliver(task.job_id, task.shard, report):
            self.handed.add((task.job_id, task.key, task.attempt))
        else:
            await self.post(task, report)

    async def post(self, task: Task, report: Report) -> None:
        world = self.world
        if NUL in text_of(report.output):
            error = {"code": "HANDLER_OUTPUT_INVALID", "message": "not JSON", "retryable": False}
            report = report._replace(outcome="FAILED", output=None, error=error, effects=())
        body = storable(report_body(report))
        number: int | None = None
        late = world.happens(world.swarm.late, "late")

        def write() -> None:
            world.tables.send(task.job_id, "report", body, number)

        while True:
            try:
                if late:  # its number is older than what is seen before it
                    number = world.tables.next_id()
                    await pause(world.fate.random())
                await self.link().call(write)
                break
            except psycopg.Error:
                await pause(RETRY_SECONDS)
        world.hint("inbox")
        if world.happens(world.swarm.duplicate, "duplicate"):
            number = None
            world.later(30 * world.fate.random() ** 3, write)

    # --- leases ------------------------------------------------------------------------------------------------------

    async def keep_leases(self) -> None:
        """Renew what the store says is ours; stop what is not, give back what we do not know."""
        while True:
            await pause(RENEW_SECONDS)
            asked_at = self.process.clock()
            try:
                held = await self.link().call(lambda: self.world.tables.renew_worker(self.worker_id), writes=False)
            except psycopg.Error:
                continue
            for run in list(self.runs.values()):
                task = run.task
                if run.since < asked_at and (task.job_id, task.key, task.attempt) not in held:
                    self.cancel(run)
            self.return_strays(held)

    def return_strays(self, held: set[Attempt]) -> None:
        self.handed &= held
        strays = held - self.untold.keys() - self.returned - self.handed
        for attempt in sorted(strays & self.strays):
            self.returned.add(attempt)
            job_id, key, number = attempt
            task = self.world.tables.jobs[job_id].tasks.get(key)
            if task is not None and task.task.attempt == number:
                self.untold[attempt] = None
                self.process.spawn(self.give_back(task.task))
        self.strays = strays
        self.returned &= held

    async def give_back(self, task: Task) -> None:
        self.world.watch.says(task, "RELEASED", None)
        await self.post(task, Report(task.key, task.attempt, self.worker_id, "RELEASED"))
        self.untold.pop((task.job_id, task.key, task.attempt), None)

    def cancel(self, run: Run) -> None:
        run.cancelled = True
        if run.working and run.actor is not None:
            self.world.loop.wake(run.actor)


def start_worker(world: World) -> None:
    """A new worker process; another one follows when it ends."""
    swarm = world.swarm
    process = world.process("worker")
    rates = Rates(
        swarm.worker_kill,
        swarm.worker_freeze,
        swarm.worker_cut,
        swarm.worker_unanswered,
        swarm.slow if swarm.mode == "all" else 0.0,
        stop=swarm.worker_stop,
    )
    worker = SimWorker(world, process, rates, swarm.slots, 0)

    def again() -> None:
        seconds = 0.05 * 400 ** world.fate.random() if world.faulty else 0.5
        world.loop.call_later(seconds, lambda: start_worker(world))

    async def live() -> None:
        await worker.live()
        await worker.gone()
        process.on_killed.remove(again)
        process.kill()
        again()

    process.on_killed.append(again)
    world.listen("tasks", process, worker.tasks_waiting)
    process.spawn(live())
    process.spawn(worker.keep_leases())
