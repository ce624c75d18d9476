"""Pictures within messages: what a caller may send, and what is fetched for it."""

from __future__ import annotations

from collections.abc import Sequence

from madang.base.messages import Message
from madang.wire.openai_fields import Wrong


def with_pictures(messages: Sequence[Message]) -> list[Message]:
    """The messages with the bytes of their pictures. Raises `Wrong` for one that is an address: none is read."""
    for message in messages:
        for image in message.images:
            if image.url:
                raise Wrong(f"the picture at {image.url!r:.80} is not fetched.", param="messages",
                            code="invalid_image_url",
                            remedy="Send it as a data URL: data:image/png;base64,....")
    return list(messages)
