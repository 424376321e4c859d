"""A model's tokenizer, as the rest of the runtime uses it."""

from __future__ import annotations

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
        try:
            return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
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
