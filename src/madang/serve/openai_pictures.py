"""Pictures within messages: what a caller names by address is fetched for it, by the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from madang.base.errors import InvalidInput, ServiceError
from madang.base.messages import Image, Message
from madang.serve.fetching import Fetcher
from madang.serve.work import Work
from madang.wire.openai_fields import Wrong

_MOST = 50       # pictures that one request may have fetched


class PicturesOf:
    """The pictures of messages."""

    def __init__(self, work: Work, fetcher: Fetcher) -> None:
        self._work, self._fetcher = work, fetcher

    async def fetched(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with the bytes of their pictures. Raises `Wrong` for one that is not to be had."""
        wanted = [image for message in messages for image in message.images if image.url]
        if not wanted:
            return list(messages)
        if len(wanted) > _MOST:
            raise Wrong(f"{len(wanted)} pictures are to be fetched; at most {_MOST} are.", param="messages",
                        code="invalid_value")
        found = await self._work.long(partial(self._fetch, wanted))
        return [replace(message, parts=tuple(found.get(part, part) for part in message.parts)) if message.images
                else message for message in messages]

    def _fetch(self, wanted: Sequence[Image]) -> dict[str | Image, str | Image]:
        found: dict[str | Image, str | Image] = {}
        for image in dict.fromkeys(wanted):
            try:
                came = self._fetcher.fetch(image.url, ("image/",))
            except (InvalidInput, ServiceError) as error:
                raise Wrong(f"the picture at {image.url!r:.80} could not be had: {error.message}", param="messages",
                            code="invalid_image_url",
                            remedy=error.remedy or "Send it as a data URL: data:image/png;base64,....") from None
            found[image] = Image(came.type, came.body, detail=image.detail)
        return found
