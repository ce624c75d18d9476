"""Ingests that callers started: one after another, watched, cancelled, and cut short when the server stops."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from madang.base.errors import MadangError, NotFound
from madang.base.messages import IngestReport
from madang.multimodal.images import ImageProgress, ImageReport
from madang.rag.ingest import IngestProgress
from madang.serve.access import Identity
from madang.serve.errors import told
from madang.serve.limits import Busy
from madang.workspace import Workspace

_DIRECTORY = ".uploads"            # in the workspace; hidden, so that no ingest walks into it
_MOST_WAITING, _MOST_KEPT = 8, 100
_log = logging.getLogger("madang.serve")
Status = Literal["waiting", "running", "done", "failed", "cancelled"]


class Cancelled(MadangError, RuntimeError):
    """Somebody asked for an end. What was committed stays."""

    code = "cancelled"


@dataclass(slots=True)
class Job:
    """One ingest. `version` grows with every change, so that a watcher sees whether there is something new."""

    id: str
    collection: str
    owner: str                                 # the name of the key that started it
    files: Mapping[str, Path]
    embedder: str | None
    captions: Mapping[Path, str] | None = None     # of pictures; None for documents
    status: Status = "waiting"
    progress: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    version: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def shown(self) -> dict[str, Any]:
        """As a caller sees it."""
        return {"id": self.id, "collection": self.collection, "status": self.status, "files": len(self.files),
                "progress": self.progress, "report": self.report, "error": self.error}

    @property
    def over(self) -> bool:
        return self.status in ("done", "failed", "cancelled")


class Jobs:
    """The ingests of one server."""

    def __init__(self, workspace: Workspace, cleaned: Callable[[MadangError], MadangError]) -> None:
        self._workspace, self._cleaned = workspace, cleaned
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="madang-ingest")
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._guard = threading.Lock()
        self._root = workspace.path / _DIRECTORY
        shutil.rmtree(self._root, ignore_errors=True)      # of a server that was killed

    def check_room(self) -> None:
        """Before files are taken. Raises `Busy`."""
        with self._guard:
            waiting = sum(not job.over for job in self._jobs.values())
        if waiting >= _MOST_WAITING:
            raise Busy(f"{waiting} ingests are under way or in line already.", 5, remedy="Try again later.")

    def directory(self) -> Path:
        """A new one for the files of a job."""
        made = self._root / secrets.token_hex(8)
        made.mkdir(parents=True, mode=0o700)
        return made

    def start(self, collection: str, owner: str, directory: Path, files: Mapping[str, Path],
              embedder: str | None, captions: Mapping[Path, str] | None = None) -> Job:
        """Ingest documents, or where there are `captions`, of none perhaps, pictures. The files are removed
        afterwards."""
        job = Job(secrets.token_hex(8), collection, owner, files, embedder, captions)
        with self._guard:
            self._jobs[job.id] = job
            for old in [each for each in self._jobs.values() if each.over][:-_MOST_KEPT]:
                del self._jobs[old.id]
        self._thread.submit(self._run, job, directory)
        return job

    def of(self, identity: str, who: Identity) -> Job:
        """A job by its id. Raises `NotFound` also for those of other keys, unless `who` may do everything."""
        with self._guard:
            job = self._jobs.get(identity)
        if job is None or (job.owner != who.name and who.scope != "admin") or not who.reaches(job.collection):
            raise NotFound(f"there is no ingest {identity!r:.40}.", remedy="The last hundred are remembered.")
        return job

    def _run(self, job: Job, directory: Path) -> None:
        try:
            if job.cancelled.is_set():
                raise Cancelled("cancelled before it began.")
            self._set(job, status="running")
            uris = {path: f"upload:{name}" for name, path in job.files.items()}
            report = self._ingested(job, uris)
            shown = report.to_dict()
            shown["problems"] = [{"path": problem.path, "message": _named(problem.message, uris)}
                                 for problem in report.problems]
            self._set(job, status="done", report=shown)
        except Cancelled as error:
            self._set(job, status="cancelled", error=told(error))
        except MadangError as error:
            self._set(job, status="failed", error=told(self._cleaned(error)))
        except Exception as error:   # a defect: written down, and told without what it may reveal
            _log.exception("an ingest failed")
            self._set(job, status="failed", error={"code": "error", "message": f"the server failed "
                                                   f"({type(error).__name__}); its log says more.", "remedy": None})
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _ingested(self, job: Job, uris: Mapping[Path, str]) -> IngestReport | ImageReport:
        def tell(state: IngestProgress | ImageProgress) -> None:
            self._tell(job, state)

        if job.captions is None:
            return self._workspace.ingest(list(uris), job.collection, embedder=job.embedder, uris=uris, progress=tell)
        return self._workspace.ingest_images(list(uris), job.collection, model=job.embedder, uris=uris,
                                             captions=job.captions, progress=tell)

    def _tell(self, job: Job, state: IngestProgress | ImageProgress) -> None:
        if job.cancelled.is_set():
            raise Cancelled("cancelled; what was committed before stays.")
        told = asdict(state)
        told.pop("committed", None)
        self._set(job, progress=told | {"seconds": round(state.seconds, 2)})

    def _set(self, job: Job, **changes: Any) -> None:
        with self._guard:
            for name, value in changes.items():
                setattr(job, name, value)
            job.version += 1

    def stop(self) -> None:
        """Cancel them all; each ends at its next step."""
        with self._guard:
            for job in self._jobs.values():
                job.cancelled.set()

    def close(self) -> None:
        """Wait for them."""
        self.stop()
        self._thread.shutdown(wait=True)
        shutil.rmtree(self._root, ignore_errors=True)


def _named(message: str, uris: Mapping[Path, str]) -> str:
    for path, uri in uris.items():
        message = message.replace(str(path), uri)
    return message
