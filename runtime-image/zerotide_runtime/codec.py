"""A model's tokenizer, as the rest of the runtime uses it."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from zerotide_runtime.errors import InvalidModel, InvalidRequest


class Codec:
    """Turn text into tokens and back."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise InvalidModel(f"{path} cannot be read as a tokenizer: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = {
            number for number, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        }

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text, with the markers that the tokenizer itself adds around it or without.

        Raise InvalidRequest for what is not text.
        """
        return [token for token, _, _ in self.spans(text, add_special_tokens=add_special_tokens)]

    def spans(self, text: str, *, add_special_tokens: bool) -> list[tuple[int, int, int]]:
        """Return the tokens of a text, each with the places in it where it begins and ends, in characters."""
        try:
            encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            return [(token, *span) for token, span in zip(encoded.ids, encoded.offsets, strict=True)]
        except (TypeError, UnicodeEncodeError):  # the library checks the type by trying to encode it
            raise InvalidRequest("the text has half a surrogate pair, which is not a character") from None

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def is_special(self, token: int) -> bool:
        """Tell whether a token is markup rather than text."""
        return token in self._special

    def name(self, token: int) -> str:
        """Return a token as it stands in the vocabulary."""
        return self._tokenizer.id_to_token(token) or ""

    def piece(self, token: int) -> str:
        """Return the text of one token by itself, markup included."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def raw(self, token: int) -> bytes:
        """Return the bytes that a token stands for; it may hold a part of a character."""
        name = self.name(token)
        if token in self._special:
            return name.encode()
        if self._byte_alphabet is not None:
            return b"".join(self._byte_alphabet.get(char) or char.encode() for char in name)
        if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            return bytes([int(name[3:5], 16)])
        return name.replace("\u2581", " ").encode()

    @cached_property
    def _byte_alphabet(self) -> dict[str, bytes] | None:
        """Return which byte each character of a token's name stands for, in vocabularies that write bytes so."""
        if '"ByteLevel"' not in json.dumps(json.loads(self.to_json()).get("decoder")):
            return None
        # Printable bytes stand for themselves, the others follow from U+0100 on.
        plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in plain]
        alphabet = {chr(byte): bytes([byte]) for byte in plain}
        return alphabet | {chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)}

    def to_json(self) -> str:
        """Return the whole tokenizer in the form of its file."""
        return self._tokenizer.to_str()
