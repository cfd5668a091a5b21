"""One crowd of readers at one server, and the changes that they are told of, run after run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from benchmarks import hub, machine
from benchmarks.children import Child, module, running
from benchmarks.fanout_load import Kind, LoadPlan, LoadReport, LoadRun, interval_of
from benchmarks.fanout_readers import CrowdPlan, CrowdReport
from benchmarks.hub import START_DEADLINE_S, Cores, Hub
from benchmarks.nchan import Programs, nginx
from benchmarks.runs import LEAD_NS

OPEN_S = 300.0
"""For SKUs to be created and all readers to have their snapshots."""

RUN_S = 120.0

LOAD_REPORT = TypeAdapter(LoadReport)
CROWD_REPORT = TypeAdapter(CrowdReport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server of frames, its process, and where it is told of changes."""

    kind: Kind
    feed_url: str
    tell_url: str
    pid: int
    key: str = hub.ANY_KEY
    account: str = ""
    frame_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What one run showed; ``cpu_s`` is the serving process'."""

    load: LoadReport
    crowd: CrowdReport
    cpu_s: float

    @property
    def per_core_second(self) -> float:
        """Changes that readers were told for each second of processor time of the server."""
        return self.crowd.items / self.cpu_s if self.cpu_s else float("nan")

    @property
    def core(self) -> float:
        """The server's part of a core."""
        return self.cpu_s / self.load.elapsed_s

    @property
    def faults(self) -> float:
        """What must be 0."""
        crowd = self.crowd
        return float(crowd.missing + crowd.wrong + crowd.gaps + crowd.broken)


class Session:
    """A crowd that is connected; its changes go on being numbered from run to run."""

    def __init__(self, served: Served, load: Child, crowd: Child, first: int) -> None:
        self.served = served
        self.next = first
        self._load = load
        self._crowd = crowd

    async def at_rate(self, rate: float, seconds: float) -> Spread:
        """Make so many changes per second, each when it is due."""
        return await self._run(seconds, rate=rate)

    async def pressed(self, under_way: int, seconds: float) -> Spread:
        """Make changes as fast as all readers are told, so many at a time."""
        return await self._run(seconds, under_way=under_way)

    async def _run(self, seconds: float, *, rate: float = 0.0, under_way: int = 0) -> Spread:
        start_ns = time.monotonic_ns() + LEAD_NS
        interval_ns = interval_of(rate) if rate else 0
        await self._crowd.tell({"first": self.next, "start_ns": start_ns, "interval_ns": interval_ns})
        run = LoadRun(first=self.next, start_ns=start_ns, seconds=seconds, rate=rate, under_way=under_way)
        before = machine.cpu_s(self.served.pid)
        await self._load.tell(asdict(run))
        load = LOAD_REPORT.validate_python(await self._load.hear(within_s=RUN_S))
        cpu_s = machine.cpu_s(self.served.pid) - before
        await self._crowd.tell({"last": load.last})
        crowd = CROWD_REPORT.validate_python(await self._crowd.hear(within_s=RUN_S))
        self.next = load.last
        return Spread(load=load, crowd=crowd, cpu_s=cpu_s)


@contextlib.asynccontextmanager
async def session(
    served: Served, *, readers: int, skus: int, first: int = 0, watched: int = 0, core: int | None = None
) -> AsyncIterator[Session]:
    """Connect ``readers``; ``first`` is where the numbers of changes go on, 0 when SKUs are to be created."""
    load_plan = LoadPlan(
        kind=served.kind,
        url=served.tell_url,
        skus=skus,
        merchant=hub.MERCHANT,
        account=served.account,
        frame_bytes=served.frame_bytes,
        must_create=not first,
    )
    async with contextlib.AsyncExitStack() as stack:
        load = await stack.enter_async_context(
            running("changes", module("benchmarks.fanout_load"), core=core)
        )
        await load.tell(asdict(load_plan))
        port = (await load.hear(within_s=OPEN_S))["port"]
        crowd_plan = CrowdPlan(
            url=served.feed_url,
            key=served.key,
            readers=readers,
            skus=skus,
            watched=watched,
            has_snapshot=served.kind == "hub",
            progress_port=port,
        )
        crowd = await stack.enter_async_context(
            running("readers", module("benchmarks.fanout_readers"), core=core)
        )
        await crowd.tell(asdict(crowd_plan))
        await crowd.hear(within_s=OPEN_S)
        yield Session(served, load, crowd, first or skus)


@contextlib.asynccontextmanager
async def hub_served(cores: Cores) -> AsyncIterator[tuple[Served, Hub]]:
    """Run one api process on an empty store: changes are applied without a worker."""
    with hub.store(cores.others) as url:
        async with hub.hub(url, cores=cores, works=False) as started:
            served = Served(
                kind="hub",
                feed_url=f"{started.base_url}/v1/feed",
                tell_url=url,
                pid=started.pids["serve"],
                key=started.key,
                account=started.hook_url.rpartition("/")[2],
            )
            yield served, started


@contextlib.asynccontextmanager
async def bare_served(frame_bytes: int, cores: Cores) -> AsyncIterator[Served]:
    """Run the bare writer for frames of this size."""
    command = module("benchmarks.bare_writer", str(frame_bytes))
    async with running("bare writer", command, core=cores.serve) as child:
        ports = await child.hear(within_s=START_DEADLINE_S)
        yield Served(
            kind="bare",
            feed_url=f"http://127.0.0.1:{ports['port']}/feed",
            tell_url=f"http://127.0.0.1:{ports['frames_port']}",
            pid=child.pid,
            frame_bytes=frame_bytes,
        )


@contextlib.asynccontextmanager
async def nchan_served(
    found: Programs, frame_bytes: int, readers: int, cores: Cores
) -> AsyncIterator[Served]:
    """Run nginx with Nchan for messages that make frames of about this size."""
    async with nginx(found, connections=readers, core=cores.serve) as peer:
        yield Served(
            kind="nchan",
            feed_url=peer.feed_url,
            tell_url=peer.tell_url,
            pid=peer.pid,
            frame_bytes=frame_bytes,
        )
