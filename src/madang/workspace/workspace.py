"""The workspace: one directory with its collections and settings; `madang.open` makes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from madang.base import settings, trace
from madang.base.errors import Conflict, InvalidInput, MadangError, NotFound
from madang.base.messages import Answer, IngestReport, Passage, Usage
from madang.base.records import Filter, MetadataValue, Source
from madang.models.protocol import Drawing, DrawOptions, Embedder, Picture
from madang.models.resolve import Models
from madang.multimodal.roundtrip import WAYS, Way
from madang.rag.answer import answer_by_chat, answer_by_reader
from madang.rag.ingest import ProgressListener, ingest, ingest_document
from madang.rag.load import load
from madang.rag.retrieve import Mode, Retrieved, retrieve
from madang.store import Collection, Database, Fusion, validate
from madang.store.copies import Progress
from madang.store.copying import Copied
from madang.store.salvage import Salvaged
from madang.workspace import moving
from madang.workspace import reembed as reembedding
from madang.workspace.compare import Comparison, Role, compare, items_of
from madang.workspace.pictures import DEFAULT_COLLECTION as DEFAULT_PICTURES
from madang.workspace.pictures import DESCRIBE, Asked, Pictures
from madang.workspace.questions import Question, questions_of
from madang.workspace.reembed import ReembedReport, TextOf, Turned
from madang.workspace.roundtrips import Kept, RoundTrips
from madang.workspace.through import SharedDatabase

if TYPE_CHECKING:
    from madang.multimodal.images import ImageReport, Listener
    from madang.multimodal.search import CutOff, ImageHit, ImageQuestion
    from madang.store.parquet_import import Loaded

DEFAULT_DIRECTORY = "./courtyard"
DEFAULT_COLLECTION = "docs"


def open(path: str | Path | None = None, *, create: bool = True) -> Workspace:  # noqa: A001
    """Open a workspace directory, creating it on first use.

    Args:
        path: the directory; default `MADANG_WORKSPACE` or `./courtyard`.
        create: False refuses a directory that is not there instead of creating it.

    Raises:
        InvalidInput: the path is a file, or `madang.toml` in it is not valid. NotFound: not there, create=False.
    """
    return Workspace(path, create=create)


class Workspace:
    """Collections, models and settings of one directory. Also a context manager; `close` lets others write."""

    def __init__(self, path: str | Path | None = None, *, create: bool = True) -> None:
        given = path or os.environ.get("MADANG_WORKSPACE") or DEFAULT_DIRECTORY
        try:
            self.path = Path(given).expanduser().absolute()
            if self.path.exists() and not self.path.is_dir():
                raise InvalidInput(f"workspace {self.path} is a file.", remedy="Name a directory.")
            if not create and not (self.path / "collections").is_dir():
                # Settings are checked first: a mistake in them is what the user should hear of.
                settings.load(self.path)
                raise NotFound(f"there is no workspace at {self.path}.",
                               remedy="Make one with: madang ingest PATH, or name another with --workspace DIR.")
            self.path.mkdir(parents=True, exist_ok=True)
            self.settings = settings.load(self.path)
            self._database: Database = SharedDatabase(self.path)
        except (OSError, RuntimeError) as error:
            if isinstance(error, MadangError):
                raise
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise InvalidInput(f"workspace {given} cannot be used: {reason}.",
                               remedy="Name a directory you may write to.") from error
        self.models = Models(self.settings, self.path)
        self.pictures = Pictures(self.path, self._database, self.models, self.settings)
        self.roundtrips = RoundTrips(self.path, self._database, self.models, self.settings, self.pictures)

    # Documents

    def ingest(self, paths: str | Path | Sequence[str | Path], collection: str = DEFAULT_COLLECTION, *,
               embedder: str | None = None, uris: Mapping[Path, str] | None = None,
               progress: ProgressListener | None = None) -> IngestReport:
        """Bring a collection up to date with files and folders; made on first use.

        Args:
            paths: files and folders; text, Markdown, HTML, PDF, DOCX, source code.
            embedder: which model embeds a new collection, e.g. "bundled/static"; default from the settings. An
                existing collection keeps its own.
            uris: what files are called in the collection, where that is not their path.
            progress: called with an `IngestProgress` after every step and commit.
        """
        if isinstance(paths, str | Path):
            paths = [paths]
        made = collection in self.collections()
        if made:
            self.pictures.refuse(collection, "documents do not go into it")
            target = self.collection(collection)
            model = self.embedder_of(target, embedder)
        else:
            model = self.models.embedder(embedder or self.settings.models.embed)
            target = self._database.create(collection, model.dim, "cosine", embedder=model.signature)
        try:
            return ingest(paths, target, model, chunk_chars=self.settings.ingest.chunk_chars,
                          max_file_bytes=int(self.settings.ingest.max_file_mb * 1_000_000), exclude=[self.path],
                          uris=uris, progress=progress)
        except (NotFound, InvalidInput):
            if not made and not target.stats().sources:  # nothing was read: leave no empty collection behind
                self._database.drop(collection)
            raise

    def add_document(self, path: Path, collection: str, *, uri: str, title: str = "", chunk_chars: int | None = None,
                     metadata: Mapping[str, MetadataValue] | None = None) -> int:
        """Put one file into a collection under a name of its own, in place of what was there under it.

        Args:
            uri: what it is called in the collection. title: what people call it; default what the document says.
            metadata: kept with each of its chunks, so that filters find it.

        Returns the number of chunks. Raises `Unreadable`, `NotFound`, `InvalidInput`.
        """
        target = self.collection(collection)
        document = load(path, max_bytes=int(self.settings.ingest.max_file_mb * 1_000_000))
        content = hashlib.blake2b(path.read_bytes(), digest_size=16)
        content.update(repr(sorted((metadata or {}).items())).encode())
        source = Source(uri, content.hexdigest(), document.text, document.media_type, title or document.title or uri,
                        path.stat().st_size, document.pages)
        return ingest_document(document, source, target, self.embedder_of(target), metadata=metadata,
                               chunk_chars=chunk_chars or self.settings.ingest.chunk_chars)

    def ask(self, question: str, collection: str = DEFAULT_COLLECTION, *, top_k: int | None = None,
            model: str | None = None, filter: Filter | None = None,  # noqa: A002
            on_text: Callable[[str], None] | None = None) -> Answer:
        """Answer a question from a collection's documents, with numbered citations that were read back.

        Args:
            model: who answers: "bundled/reader", or "SERVICE/MODEL" for a configured service.
            on_text: receives a chat model's answer as it streams.
        """
        name = model or self.settings.models.chat
        with trace.span("ask", model=name) as span:
            found, target = self._retrieve(question, collection,
                                           self.settings.retrieval.top_k if top_k is None else top_k, "hybrid", filter)
            if self.models.is_reader(name):
                answer = answer_by_reader(question, found, self.models.reader(name), target)
            else:
                answer = answer_by_chat(question, found, self.models.chat_model(name), target, on_text=on_text)
        return replace(answer, timings_ms=span.timings_ms(), trace_id=span.trace_id)

    def search(self, query: str, collection: str = DEFAULT_COLLECTION, *, top_k: int = 10, mode: Mode = "hybrid",
               filter: Filter | None = None) -> list[Passage]:  # noqa: A002
        """The passages that match a query best, by meaning and words ("hybrid"), or one of them ("dense", "bm25")."""
        with trace.span("search"):
            return self._retrieve(query, collection, top_k, mode, filter)[0].passages

    def _retrieve(self, question: str, collection: str, top_k: int, mode: Mode,
                  filter: Filter | None) -> tuple[Retrieved, Collection]:  # noqa: A002
        target = self.collection(collection)
        options = self.settings.retrieval
        fusion = Fusion(options.rrf_k, options.dense_weight, options.lexical_weight)
        for _ in range(3):
            signature = target.embedder
            embedder = None if mode == "bm25" else self.embedder_of(target)
            try:
                found = retrieve(question, target, embedder, top_k=top_k, fusion=fusion, mode=mode, filter=filter)
            except InvalidInput:
                if target.embedder == signature:
                    raise
                continue
            if embedder is None or target.embedder == signature:    # else it was made another model's meanwhile
                return found, target
        raise Conflict(f"collection {collection!r} goes from one model to another again and again.",
                       remedy="Try again.")

    def embedder_of(self, collection: Collection, wanted: str | None = None) -> Embedder:
        """The embedder a collection was made with; another one would compare apples with pears.

        Raises `InvalidInput` where it holds vectors of your own, `Conflict` where it is not `wanted`, or has changed.
        """
        signature = collection.embedder
        if signature is None:
            raise InvalidInput(f"collection {collection.name!r} holds vectors of your own; it has no embedder.",
                               remedy="Query it from Python with a vector, or ingest into another collection.")
        name = signature.partition("@")[0]
        if wanted is not None and wanted != name:
            raise Conflict(f"collection {collection.name!r} was made with {name}, not {wanted}.",
                           remedy="Leave the embedder out, or change it with: madang collection reembed "
                                  f"{collection.name} --embedder {wanted}")
        model = self.models.embedder(name, trusted=True)
        if model.signature != signature:
            raise Conflict(f"collection {collection.name!r} was made with {signature}, but this is {model.signature}.",
                           remedy="Vectors of two models cannot be compared. Change over with: madang collection "
                                  f"reembed {collection.name} --embedder {name}")
        return model

    # Pictures

    def ingest_images(self, paths: str | Path | Sequence[str | Path], collection: str = DEFAULT_PICTURES, *,
                      model: str | None = None, every_s: float = 2.0, uris: Mapping[Path, str] | None = None,
                      captions: Mapping[Path, str] | None = None, progress: Listener | None = None) -> ImageReport:
        """Bring a collection of pictures up to date with files, folders, Parquet and videos; made on first use.

        Args:
            model: which one sees, for a new collection, e.g. "bundled/clip"; default from the settings.
            every_s: seconds between the frames that are taken of a video. progress: called after every window of files.
            uris: what files are called in the collection, where that is not their path. captions: of files, in place
            of those beside them.
        """
        return self.pictures.ingest(paths, collection, model, every_s, uris, captions, progress)

    def search_images(self, query: Asked = None, collection: str = DEFAULT_PICTURES, *,
                      picture: Asked = None, weight: float = 0.5, top_k: int = 10,
                      filter: Filter | None = None, duplicates: bool = False) -> list[ImageHit]:  # noqa: A002
        """The pictures that fit words (a string), a picture (a `Path`, bytes, or uint8 (height, width, 3)), or both.

        Args:
            picture: beside words. weight: of the words then, from 0 to 1.
            duplicates: also those that are nearly the same as another one.
        """
        return self.pictures.search(query, collection, picture, weight, top_k, filter, duplicates)

    def calibrate_images(self, collection: str = DEFAULT_PICTURES,
                         questions: Sequence[ImageQuestion] | None = None) -> CutOff:
        """Find the score from which on pictures are relevant to words, and keep it: by questions whose pictures are
        known, else by the pictures' captions. `search_images` marks what reaches it."""
        return self.pictures.calibrate(collection, questions)

    def describe_image(self, picture: Path | bytes | Picture, question: str = DESCRIBE, *,
                       model: str | None = None) -> str:
        """What a model says of a picture: a file, its bytes, or uint8 (height, width, 3). `model` of chat, default
        `[models] describe` of madang.toml."""
        return self.pictures.describe(picture, question, model)

    def roundtrip_image(self, image: Path, *, prompt: str | None = None, collection: str | None = None,
                        describe: str | None = None, draw: str | None = None, seed: int = 0,
                        ways: Sequence[Way] = WAYS, question: str = DESCRIBE,
                        progress: Callable[[str], None] | None = None) -> Kept:
        """Describe a picture, draw it again from words, and compare (see `madang.multimodal.roundtrip`). It is kept.

        Args:
            prompt: what it was made from; default the caption that stands beside it, if any. collection: whose captions
                are the stored prompts, and among whose pictures it is looked for; default "images" where there is one,
                else painted scenes. describe, draw: models, default those of madang.toml. question: what to ask of it.
            progress: called with what is being done.
        """
        return self.roundtrips.run(image, prompt=prompt, collection=collection, describer=describe, painter=draw,
                                   seed=seed, ways=ways, question=question, told=progress or (lambda _: None))

    def draw_image(self, prompt: str, *, model: str | None = None,
                   options: DrawOptions | None = None) -> list[Drawing]:
        """Pictures of what a prompt says. `model` default `[models] draw` of madang.toml."""
        return self.pictures.draw(prompt, model, options)

    # Another model

    def reembed(self, collection: str, embedder: str | Embedder, *,
                queries: str | Path | Sequence[str | Mapping[str, Any]] | None = None, top_k: int = 10,
                mode: Mode = "hybrid", index: Any = None, batch: int = 512, text_of: TextOf | None = None,
                progress: Progress | None = None) -> ReembedReport:
        """Build the vectors and the index of another model beside those of a collection, and compare the two.

        The collection answers as before, and may be written to. `cut_over` makes the other model the one that is
        searched, `roll_back` leads back, `forget_shadow` gives one of them up. Called again, it goes on where it was.

        Args:
            embedder: a model's name, or the model itself. queries: texts, or dicts with `query` and `relevant` (ids of
                the right records), or a JSON Lines file of these; default the sample of questions that were asked.
            mode: how both are asked, as for `search`. index: as for `create_collection`; default the collection's own.
            batch: records embedded and committed at a time. text_of: what to embed of a record, for records without a
                document. progress: called with records done and records in all.

        Raises:
            InvalidInput: nothing to embed, or the model is the collection's own. Conflict: another job is at work, or
            the collection can still be rolled back. Locked: another process is writing.
        """
        target = self.collection(collection)
        self.pictures.refuse(collection, "another model needs their pixels, not their captions")
        model = self.models.embedder(embedder) if isinstance(embedder, str) else embedder
        asked = None if queries is None else questions_of(queries)
        wanted = validate.top_k(top_k)
        options, notes, old = self.settings.retrieval, list[str](), None
        with target.shadow.working():
            done = reembedding.build(target, model, text_of=text_of, index=index, batch=batch, progress=progress)
            try:
                old = self.embedder_of(target)
            except MadangError as error:        # vectors of your own, or a model that is not there any more
                notes.append(f"the old side could not be asked: {error.message}")
            questions = [Question(text) for text in target.questions()] if asked is None else asked
            return reembedding.compare(target, old, model, questions, top_k=wanted, mode=mode, done=done, notes=notes,
                                       fusion=Fusion(options.rrf_k, options.dense_weight, options.lexical_weight))

    def compare_models(self, questions: str | Path | Sequence[str | Mapping[str, Any]], models: Sequence[str], *,
                       role: Role = "chat", collection: str | None = None, max_tokens: int = 512,
                       progress: Progress | None = None) -> Comparison:
        """Ask several models your own questions: quality with intervals and paired tests, latency, tokens, cost.

        Args:
            questions: texts, dicts with `question` and `expected` (for embedders: `passage`), or a file with a line
                for each. role: "chat", or "embed" for known-item retrieval among the passages.
            collection: answer from it, as `ask` does; default: the models by themselves.
            max_tokens: of an answer of a model by itself. progress: called with questions done and questions in all.
        """
        def from_collection(question: str, model: str) -> tuple[str, Usage]:
            answer = self.ask(question, collection or "", model=model)
            return answer.text, answer.usage

        return compare(items_of(questions), models, self.models, self.settings, role=role, max_tokens=max_tokens,
                       ask=None if collection is None else from_collection, progress=progress)

    def cut_over(self, collection: str, *, embedder: Embedder | None = None, text_of: TextOf | None = None) -> Turned:
        """Search a collection with the model that `reembed` built, from one moment to the next. What was written since
        is embedded first. What was searched until now is kept, for `roll_back`.

        Args:
            embedder: the model itself, where `reembed` was given one and not a name. text_of: as for `reembed`.
        """
        return self._turn(collection, False, embedder, text_of)

    def roll_back(self, collection: str, *, embedder: Embedder | None = None, text_of: TextOf | None = None) -> Turned:
        """Search a collection with the model again that it had before `cut_over`; the arguments are those."""
        return self._turn(collection, True, embedder, text_of)

    def _turn(self, collection: str, back: bool, embedder: Embedder | None, text_of: TextOf | None) -> Turned:
        def model_of(name: str) -> Embedder:
            return embedder if embedder is not None else self.models.embedder(name, trusted=True)

        return reembedding.turn(self.collection(collection), model_of, back, text_of)

    def forget_shadow(self, collection: str) -> None:
        """Remove the vectors that are not searched: what `reembed` built, or what `roll_back` would need."""
        self.collection(collection).shadow.drop()

    # Collections

    def create_collection(self, name: str, dim: int, metric: str = "cosine", index: Any = None,
                          keep_queries: bool = True, attributes: Mapping[str, Any] | None = None,
                          embedder: str | None = None) -> Collection:
        """Create a collection for vectors of your own, or of the model that `embedder` names, e.g. "bundled/minilm",
        so that `search` and `ask` understand it. See `Database.create` for what is refused."""
        signature = None if embedder is None else self.models.embedder(embedder).signature
        return self._database.create(name, dim, metric, index, signature, keep_queries, attributes)

    def create_document_collection(self, name: str, *, embedder: str | None = None,
                                   attributes: Mapping[str, Any] | None = None) -> Collection:
        """Create an empty collection for documents, whose vectors a model makes; default that of the settings."""
        model = embedder or self.settings.models.embed
        return self.create_collection(name, self.models.embedder(model).dim, attributes=attributes, embedder=model)

    def collection(self, name: str) -> Collection:
        """Open a collection. Raises `NotFound` with the names there are."""
        return self._database.open(name)

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        return self._database.names()

    def opened(self) -> dict[str, Collection]:
        """The collections that are open, by name."""
        return self._database.opened()

    def recent(self, most: int) -> list[str]:
        """Names of the collections that were written to last, newest first."""
        return self._database.recent(most)

    def drop_collection(self, name: str) -> None:
        """Remove a collection and all it holds."""
        self._database.drop(name)
        self.pictures.forget(name)

    def restore_snapshot(self, name: str, snapshot: str, progress: Progress | None = None) -> Collection:
        """Replace what a collection holds by one of its snapshots, which is verified first."""
        return self._database.restore(name, snapshot, progress)

    def restore_backup(self, path: str | Path, name: str, *, replace: bool = False,
                       progress: Progress | None = None) -> Collection:
        """Make a collection from a backup file, verified first; in place of one of that name only where `replace`."""
        return self._database.restore_backup(path, name, replace, progress)

    def salvage_collection(self, name: str, into: str | None = None) -> Salvaged:
        """Copy what survives of a damaged collection into a new one, `NAME-salvaged` unless `into` names another."""
        return self._database.salvage(name, into)

    def copy_collection(self, source: str, target: str, *, batch: int = 500, resume: bool = True, lossy: bool = False,
                        sample: int | None = None, progress: Progress | None = None) -> Copied:
        """Copy a collection between any two engines and verify it. Names are those of this workspace; else URLs:
        `postgresql://`, `qdrant://`, `milvus://`, `pinecone://`, `madang:///DIRECTORY?collection=NAME`."""
        return moving.copy(self._database, source, target, batch=batch, resume=resume, lossy=lossy, sample=sample,
                           progress=progress)

    def import_parquet(self, path: str | Path, name: str, *, metric: str | None = None, index: Any = None,
                       skip: Sequence[str] = (), sources: bool = True, progress: Progress | None = None) -> Loaded:
        """Write the records of a Parquet file into a collection, made if it is not there; goes on where an interrupted
        import stopped."""
        return moving.import_parquet(self._database, Path(path), name, metric=metric, index=index, skip=skip,
                                     sources=sources, progress=progress)

    @property
    def store(self) -> Database:
        """What keeps the collections."""
        return self._database

    def close(self) -> None:
        """Close all collections and let another process write."""
        try:
            self.models.close()
        finally:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 where: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"
