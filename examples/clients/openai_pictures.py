"""OpenAI's client with pictures: describe one, draw one. Both need a model that can; without one the server says so."""

import base64
import struct
import zlib

import openai
from openai import OpenAI

client = OpenAI()


def red_square(side: int = 32) -> str:
    """A PNG as a data URL."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xff\0\0" * side for _ in range(side))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


described = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": [
    {"type": "text", "text": "What is in this picture?"},
    {"type": "image_url", "image_url": {"url": red_square()}}]}]).choices[0].message.content
print(described)
assert described

try:
    drawn = client.images.generate(model="dall-e-3", prompt="a red circle at night", size="1024x1024",
                                   response_format="b64_json")
    picture = base64.b64decode(drawn.data[0].b64_json)
    print(f"a picture of {len(picture):,} bytes")
    assert picture
except openai.APIStatusError as error:          # no model that draws is configured
    print(error.message)
    if error.status_code >= 500 and error.status_code != 501:
        raise
