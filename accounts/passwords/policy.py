"""What a new password must satisfy: NIST SP 800-63B-4 section 3.1.1.2, as validators of Django's kind.

Length counts in code points, after NFC; nothing is trimmed, cut, or asked for by kind of character. What is refused is
what others would guess: common words, words of the context, and whatever zxcvbn finds easy. docs/passwords.md says
which rule refuses what.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.contrib.auth import password_validation
from django.contrib.auth.password_validation import get_default_password_validators, validate_password
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

from .. import brands
from ..conf import MAX_PASSWORD_LENGTH, conf
from ..directory import directory
from ..exceptions import InvalidInput, PasswordRejected, Violation
from .pwned import PwnedPasswordValidator
from .slots import Slots

STRENGTH_INPUT = 72
"""Code points that zxcvbn is given: its work grows faster than its input."""
MIN_SCORE = 3
"""zxcvbn's "safely unguessable" against online and moderately against offline guessing."""
MAX_READINGS = 4
"""In how many ways l33t may be undone; zxcvbn reads it once for each. Digits alone have this many."""
MIN_WORD = 3
"""Code points of a context word. Shorter ones are inside most passwords and give nothing away."""

_turn = Slots(1, patience=2.0)
# Scoring is Python throughout: two at a time would be done no sooner, and take more turns from all other threads.
_zxcvbn = Lock()
# It writes to its dictionaries, a global, at each call, and Django's own forms come here without taking a turn.

_REPETITION = re.compile(r"(.{1,36}?)\1{2,}", re.DOTALL)
_ONE_UNIT = re.compile(r"(.+?)\1*", re.DOTALL)
_NO_LETTERS = re.compile(r"[\W\d_]+")
_NO_LETTERS_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_ONE_SYMBOL_A_LETTER = str.maketrans("@{[<!|$+", "4(((1157")
_SKELETON = str.maketrans("4@83690!|1l$57+", "aabeggoiiiisstt")


def clean(typed: str) -> str:
    """NFC, so that one keyboard's é is the other's; otherwise as typed.

    Raises InvalidInput for what is no text and PasswordRejected for more than 1,024 code points, before any work that
    grows with the length: NFC itself takes a second over 30,000 combining marks.
    """
    # A code point of NFC is made of four at the most (Unicode Standard Annex #15, section 14.3).
    if len(typed) > 4 * MAX_PASSWORD_LENGTH:
        raise _rejected([_too_long()])
    password = unicodedata.normalize("NFC", typed)
    if len(password) > MAX_PASSWORD_LENGTH:
        raise _rejected([_too_long()])
    if "\0" in password:
        raise InvalidInput("newPassword", _("A password cannot hold a NUL character."))
    if any("\ud800" <= letter <= "\udfff" for letter in password):
        raise InvalidInput("newPassword", _("A password cannot hold half a character."))
    return password


def check(password: str, user: Any = None) -> None:
    """Hold a clean password against every rule; with a user, the account's own words count too.

    A service elsewhere is asked last, and for a user only: no keystroke of a form and no stranger makes it busy. Raises
    PasswordRejected with every rule that is broken, and RateLimited if the process is too busy to tell.
    """
    validators = get_default_password_validators()
    elsewhere = [validator for validator in validators if isinstance(validator, PwnedPasswordValidator)]
    try:
        with _turn.one():
            validate_password(password, user, [each for each in validators if each not in elsewhere])
        if user is not None and elsewhere:
            validate_password(password, user, elsewhere)
    except ValidationError as error:
        raise _rejected(error.error_list) from None


def strength(password: str, user: Any = None) -> int:
    """zxcvbn's score, 0 to 4, of what the words of the context leave of a password. Raises RateLimited."""
    with _turn.one():
        rest, found = _without(password, context_words(user))
        return min(_score(password), _score(rest)) if found else _score(password)


class Rule(NamedTuple):
    """A validator in a sentence, and the codes of the violations that it finds; none where it does not tell them."""

    text: str
    codes: tuple[str, ...]


def rules() -> list[Rule]:
    """The policy in sentences, one for each validator."""
    validators = get_default_password_validators()
    return [Rule(str(each.get_help_text()), _codes_of(type(each))) for each in validators]


_DJANGOS: dict[type, tuple[str, ...]] = {
    password_validation.MinimumLengthValidator: ("password_too_short",),
    password_validation.UserAttributeSimilarityValidator: ("password_too_similar",),
    password_validation.CommonPasswordValidator: ("password_too_common",),
    password_validation.NumericPasswordValidator: ("password_entirely_numeric",),
}


def _codes_of(validator: type) -> tuple[str, ...]:
    """What a validator says in its `codes`, or what Django's own are known to find."""
    told = (getattr(each, "codes", None) or _DJANGOS.get(each) for each in validator.__mro__)
    return tuple(next(filter(None, told), ()))


def context_words(user: Any = None) -> frozenset[str]:
    """What anybody may connect with this service and, with a user, with the account (OWASP ASVS 5.0, 6.1.2, 6.2.11)."""
    texts = [urlsplit(conf.PUBLIC_URL).hostname or "", *conf.PASSWORD_CONTEXT_WORDS]
    texts += [text for brand in brands.every() for text in (brand.name, brand.host)]
    if user is not None:
        fields = (getattr(user, "USERNAME_FIELD", "username"), directory().email_field, "first_name", "last_name")
        texts += [str(getattr(user, field, None) or "") for field in fields]
    parts = [part for text in texts for part in (text, *re.split(r"[\W_]+", text))]
    return frozenset(part for part in parts if len(part) >= MIN_WORD)


class MinimumLengthValidator(password_validation.MinimumLengthValidator):
    """Django's, which says what it wants in the words of the rule: those are translated where its refusal is not."""

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) < self.min_length:
            raise ValidationError(self.get_help_text(), code="password_too_short")


class MaximumLengthValidator:
    """Bounds the work of hashing; far above any length that a person or a password manager would choose."""

    codes = ("password_too_long",)

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > MAX_PASSWORD_LENGTH:
            raise _too_long()

    def get_help_text(self) -> str:
        return ngettext(
            "Your password can have %(max)d character at most.",
            "Your password can have %(max)d characters at most.",
            MAX_PASSWORD_LENGTH,
        ) % {"max": MAX_PASSWORD_LENGTH}


class CommonPasswordValidator(password_validation.CommonPasswordValidator):
    """Django's list of 20,000, and what is made of one of them: repeated, in l33t, or with digits and signs added."""

    def validate(self, password: str, user: Any = None) -> None:
        super().validate(password, user)
        rest = _without_one_common_word(password[:MAX_PASSWORD_LENGTH], self.passwords)
        if rest is not None and _score(rest) < MIN_SCORE:
            raise ValidationError(
                _("This password is little more than one that many people use."), code="password_too_common"
            )

    def get_help_text(self) -> str:
        return _("Your password should not be a common one, nor one with just something added.")


class ContextValidator:
    """Refuses what is little more than words that others connect with this service or this account.

    Such a word may well be part of a password: what it leaves must be strong by itself.
    """

    codes = ("password_contextual",)

    def validate(self, password: str, user: Any = None) -> None:
        rest, found = _without(password[:MAX_PASSWORD_LENGTH], context_words(user))
        if found and _score(rest) < MIN_SCORE:
            raise ValidationError(
                _("This password is little more than “%(word)s”, a word others connect with this service or with you."),
                code="password_contextual",
                params={"word": found},
            )

    def get_help_text(self) -> str:
        return _("Your password should not be made of the name of this service, or of your own name or address.")


class StrengthValidator:
    """Refuses what a guesser would try early: names, dates, keyboard rows, repetitions, and common words in a row."""

    codes = ("password_too_weak",)

    def validate(self, password: str, user: Any = None) -> None:
        if _score(password) < MIN_SCORE:
            raise ValidationError(
                _("This password is easy to guess. Several unrelated words make a better one."),
                code="password_too_weak",
            )

    def get_help_text(self) -> str:
        return _("Your password should be hard to guess: several unrelated words do well.")


def _score(password: str) -> int:
    """zxcvbn's score of the first STRENGTH_INPUT code points, once repetitions are collapsed.

    It finds repetitions itself, but not those that are longer than what it is given.
    """
    once = _REPETITION.sub(r"\1", password[:MAX_PASSWORD_LENGTH])[:STRENGTH_INPUT]
    with _zxcvbn:
        return int(zxcvbn(_readable(once))["score"]) if once else 0


def _readable(password: str) -> str:
    """The password with one symbol for each letter of l33t, where all of them together would cost seconds."""
    readings = math.prod(sum(symbol in password for symbol in symbols) or 1 for symbols in L33T_TABLE.values())
    return password.translate(_ONE_SYMBOL_A_LETTER) if readings > MAX_READINGS else password


def _skeleton(text: str) -> list[str]:
    """For each code point what is left of it when case, width, accents and l33t are disregarded."""
    return [_bare(letter) for letter in text]


@lru_cache(4096)
def _bare(letter: str) -> str:
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    return plain.casefold().translate(_SKELETON)


def _without(password: str, words: frozenset[str]) -> tuple[str, str]:
    """The password without these words, forwards or backwards, and the longest that was found in it, or ""."""
    skeletons = {"".join(_skeleton(word)): word for word in sorted(words)}
    both_ways = {**{bones[::-1]: word for bones, word in skeletons.items()}, **skeletons}
    letters = _skeleton(password)
    origins = [position for position, part in enumerate(letters) for _letter in part]
    pattern = "|".join(re.escape(bones) for bones in sorted(both_ways, key=len, reverse=True) if bones)
    matches = list(re.finditer(pattern, "".join(letters))) if pattern else []
    gone = {origins[position] for match in matches for position in range(*match.span())}
    longest = max((match[0] for match in matches), key=len, default="")
    return "".join(letter for at, letter in enumerate(password) if at not in gone), both_ways.get(longest, "")


def _without_one_common_word(password: str, common: set[str]) -> str | None:
    """What a password has besides the one word of the list that all its letters make up; None if they do not."""
    core = _NO_LETTERS_AROUND.sub("", password)  # what is added around a word is no l33t
    for text in (password.casefold(), "".join(_skeleton(password)), "".join(_skeleton(core))):
        unit = _ONE_UNIT.fullmatch(_NO_LETTERS.sub("", text))
        if unit and unit[1] in common:
            return _without(password, frozenset({unit[1]}))[0]
    return None


def _too_long() -> ValidationError:
    return ValidationError(MaximumLengthValidator().get_help_text(), code="password_too_long")


def _rejected(errors: list[ValidationError]) -> PasswordRejected:
    violations = [Violation(each.code or "invalid", " ".join(each.messages)) for each in errors]
    return PasswordRejected(violations, _("That password will not do."))
