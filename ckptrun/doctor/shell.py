"""PURE. A shell script as simple commands: words with their places, read one character after the other.

Known are quotes, comments, continued lines, here-documents, `$(...)`, `${...}`, `$((...))`, arrays, `[[ ]]`, functions, pipelines.
Nothing is expanded. What this reader does not understand it passes over: a linter that stops is of no use.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

_BLANK = " \t\r"
_BREAKS = frozenset(" \t\r\n;&|()<>")
_OPERATORS = ("&>>", ";;&", "<<<", "<<-", "&&", "||", ";;", ";&", "|&", "<<", ">>", ">&", "<&", "&>", ">|", "<>", *"\n;&|()<>")
_REDIRECTIONS = frozenset({"<", ">", ">>", ">&", "<&", "&>", "&>>", ">|", "<>", "<<<", "<<", "<<-"})
_ENDS = frozenset({"\n", ";", "&", "|", "|&", "||", "&&", ";;", ";&", ";;&"})
_OPENING = frozenset({"if", "then", "elif", "else", "do", "while", "until", "!", "time"})
_CLOSING = frozenset({"fi", "done", "esac"})
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^]]*\])?\+?=")
_CASE_PATTERN = re.compile(r"\w+\+?=$")


class Word(NamedTuple):
    """One word as it stands in the script, where it begins, and in which line."""

    raw: str
    start: int
    line: int

    @property
    def end(self) -> int:
        """Return where it ends."""
        return self.start + len(self.raw)

    @property
    def plain(self) -> str:
        """Return it without its quotes; nothing is expanded."""
        return unquote(self.raw)[0]


class Command(NamedTuple):
    """A simple command.

    `before` and `after` are the operators around it, `keyword` is what it follows (`if`, `then`, `until` ...), `function` the name
    of the function whose body it is in, `inner` whether it stands in `$(...)`; `depth` counts the groups and compounds around it.
    """

    words: tuple[Word, ...]
    assignments: tuple[Word, ...]
    redirections: tuple[tuple[str, Word], ...]
    start: int
    end: int
    line: int
    before: str
    after: str
    keyword: str
    function: str
    inner: bool
    depth: int

    @property
    def name(self) -> str:
        """Return the program's name without its folder, empty for an assignment alone."""
        return self.words[0].plain.rpartition("/")[2] if self.words else ""

    @property
    def piped(self) -> bool:
        """Return whether it is part of a pipeline."""
        return self.before in ("|", "|&") or self.after in ("|", "|&")


def unquote(raw: str) -> tuple[str, tuple[int, ...]]:
    """Return a word without quotes and backslashes, and for each character its place in the word."""
    text: list[str] = []
    places: list[int] = []
    place, quote = 0, ""
    while place < len(raw):
        letter = raw[place]
        if quote != "'" and letter == "\\" and place + 1 < len(raw):
            follows = raw[place + 1]
            if quote == '"' and follows not in '"\\$`\n':
                text.append(letter)
                places.append(place)
            if follows != "\n":
                text.append(follows)
                places.append(place + 1)
            place += 2
            continue
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        else:
            text.append(letter)
            places.append(place)
        place += 1
    return "".join(text), tuple(places)


def commands(text: str, *, offset: int = 0, line: int = 1, inner: bool = False) -> tuple[Command, ...]:
    """Return the simple commands of a script, those inside `$(...)` too, in the order in which they begin."""
    reader = _Reader(text, offset, line, inner)
    reader.read()
    return tuple(sorted(reader.found, key=lambda one: one.start))


# --- where things end


def _after_quote(text: str, place: int) -> int:
    """Return the place after a quoted part that begins here."""
    quote = text[place]
    place += 1
    while place < len(text):
        if text[place] == "\\" and quote == '"':
            place += 2
        elif text[place] == quote:
            return place + 1
        elif quote == '"' and (text[place] == "`" or text.startswith(("$(", "${"), place)):
            place = _after_expansion(text, place)
        else:
            place += 1
    return len(text)


def _after_expansion(text: str, place: int) -> int:
    """Return the place after `$(...)`, `${...}` or a part in backquotes that begins here."""
    if text[place] == "`":
        end = re.compile(r"(?:\\.|[^`\\])*`", re.DOTALL).match(text, place + 1)
        return end.end() if end else len(text)
    opening = text[place + 1]
    return _after_bracket(text, place + 1, opening, ")" if opening == "(" else "}")


def _after_bracket(text: str, place: int, opening: str, closing: str) -> int:
    depth = 0
    while place < len(text):
        letter = text[place]
        if letter == "\\":
            place += 2
            continue
        if letter in "'\"":
            # In ${...} inside double quotes an apostrophe is a letter; it is taken for a quote only where it is closed.
            place = _after_quote(text, place) if letter == '"' or "'" in text[place + 1 :] else place + 1
            continue
        if letter == "#" and opening == "(" and text[place - 1] in " \t\n;(":
            place = _line_end(text, place)
            continue
        if letter == opening:
            depth += 1
        elif letter == closing:
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    return len(text)


def _line_end(text: str, place: int) -> int:
    found = text.find("\n", place)
    return len(text) if found < 0 else found


def _after_word(text: str, place: int) -> int:
    begun = place
    while place < len(text):
        letter = text[place]
        if letter == "\\":
            place += 2
        elif letter in "'\"":
            place = _after_quote(text, place)
        elif letter == "`" or text.startswith(("$(", "${"), place):
            place = _after_expansion(text, place)
        elif text.startswith(("<(", ">("), place) and place == begun:
            place = _after_bracket(text, place + 1, "(", ")")
        elif letter == "(" and _CASE_PATTERN.fullmatch(text[begun:place]):
            place = _after_bracket(text, place, "(", ")")
        elif letter in _BREAKS:
            break
        else:
            place += 1
    return min(place, len(text))


class _Token(NamedTuple):
    kind: str  # word, operator, or a redirection with the number before it
    text: str
    start: int


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    bodies: list[tuple[str, bool]] = []
    while place < len(text):
        if text[place] in _BLANK:
            place += 1
        elif text.startswith("\\\n", place):
            place += 2
        elif text[place] == "#":
            place = _line_end(text, place)
        elif text[place] in _BREAKS and not text.startswith(("<(", ">("), place):
            operator = next(one for one in _OPERATORS if text.startswith(one, place))
            yield _Token("operator", operator, place)
            place += len(operator)
            if operator in ("<<", "<<-"):
                while place < len(text) and text[place] in _BLANK:
                    place += 1
                end = _after_word(text, place)
                bodies.append((unquote(text[place:end])[0], operator == "<<-"))
            elif operator == "\n":
                for until, tabs in bodies:
                    place = _after_body(text, place, until, tabs)
                bodies = []
        else:
            end = _after_word(text, place)
            end = end if end > place else place + 1
            yield _Token("word", text[place:end], place)
            place = end


def _after_body(text: str, place: int, until: str, tabs: bool) -> int:
    while place < len(text):
        end = _line_end(text, place)
        line = text[place:end]
        place = end + 1
        if (line.lstrip("\t") if tabs else line) == until:
            break
    return min(place, len(text))


# --- words to commands


class _Reader:
    """Puts the words of a text together. What stands before a command is kept until its end is seen."""

    def __init__(self, text: str, offset: int, line: int, inner: bool) -> None:
        self.found: list[Command] = []
        self._text, self._offset, self._line, self._inner = text, offset, line, inner
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._tokens = list(_tokens(text))
        self._place = 0
        self._functions: list[tuple[str, int]] = []
        self._pending = ""
        self._depth = self._groups = 0
        self._before = ""
        self._clear()

    def _clear(self) -> None:
        self._words: list[Word] = []
        self._assignments: list[Word] = []
        self._redirections: list[tuple[str, Word]] = []
        self._keyword = ""
        self._start = self._end = -1

    def read(self) -> None:
        while self._place < len(self._tokens):
            token = self._tokens[self._place]
            self._place += 1
            if token.kind == "operator":
                self._operator(token)
            else:
                self._one_word(token)
        self._flush("")

    def _next(self, ahead: int = 0) -> _Token:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else _Token("", "", len(self._text))

    def _operator(self, token: _Token) -> None:
        if token.text in _REDIRECTIONS:
            if self._next().kind == "word":
                target = self._word(self._next())
                self._place += 1
                self._redirections.append((token.text, target))
                self._reach(token.start, target.end - self._offset)
                self._inner_commands(target)
        elif token.text in _ENDS:
            self._flush(token.text)
        elif token.text == "(":
            self._open(token)
        elif token.text == ")":
            self._close()

    def _open(self, token: _Token) -> None:
        if len(self._words) == 1 and not self._assignments and self._next().text == ")":
            self._pending = self._words[0].plain
            self._place += 1
            self._clear()
        elif self._next().text == "(" and not self._words:  # ((...)) calculates
            end = _after_bracket(self._text, token.start, "(", ")")
            while self._place < len(self._tokens) and self._next().start < end:
                self._place += 1
            self._take(_Token("word", self._text[token.start : end], token.start))
        else:
            self._flush("(")
            self._groups += 1
            self._depth += 1

    def _close(self) -> None:
        if self._groups:
            self._flush(")")
            self._groups -= 1
            self._depth -= 1
        else:  # the pattern of a `case`
            self._clear()
            while self.found and self.found[-1].after == "|":
                self.found.pop()
            self._before = ""

    def _one_word(self, token: _Token) -> None:
        text = token.text
        if text.isdigit() and self._next().text in _REDIRECTIONS and self._next().start == token.start + len(text):
            self._reach(token.start, token.start + len(text))
            return
        if not self._words and not self._assignments and self._structure(token):
            return
        if not self._words and _ASSIGNMENT.match(text):
            word = self._word(token)
            self._assignments.append(word)
            self._reach(token.start, token.start + len(text))
            self._inner_commands(word)
            return
        self._take(token)
        if text == "[[" and len(self._words) == 1:
            while self._place < len(self._tokens) and self._next().text not in ("]]", "\n"):
                self._take(self._next())
                self._place += 1

    def _structure(self, token: _Token) -> bool:
        """Take the words that only build: `then`, `{`, `done`."""
        text = token.text
        if text in _OPENING:
            self._keyword = text
            self._depth += text in ("if", "while", "until")
            # The body of a loop whose header is `for` is counted at its `do`.
        elif text == "{":
            self._depth += 1
            if self._pending:
                self._functions.append((self._pending, self._depth))
                self._pending = ""
        elif text == "}":
            if self._functions and self._functions[-1][1] == self._depth:
                self._functions.pop()
            self._depth -= 1
        elif text in _CLOSING:
            self._depth = max(self._depth - 1, 0)
        elif text in ("for", "select", "case"):
            self._depth += 1
            return False
        elif text == "function":
            self._pending = self._next().text
            self._place += 1
            if self._next().text == "(" and self._next(1).text == ")":
                self._place += 2
        else:
            return False
        return True

    def _take(self, token: _Token) -> None:
        word = self._word(token)
        self._words.append(word)
        self._reach(token.start, token.start + len(token.text))
        self._inner_commands(word)

    def _word(self, token: _Token) -> Word:
        return Word(token.text, token.start + self._offset, self._line + bisect_left(self._line_ends, token.start))

    def _reach(self, start: int, end: int) -> None:
        self._start = start if self._start < 0 else self._start
        self._end = max(self._end, end)

    def _inner_commands(self, word: Word) -> None:
        for start, end in _substitutions(word.raw):
            line = word.line + word.raw.count("\n", 0, start)
            self.found += commands(word.raw[start:end], offset=word.start + start, line=line, inner=True)

    def _flush(self, after: str) -> None:
        if self._words or self._assignments or self._redirections:
            first = min((self._words + self._assignments)[:1] or [self._redirections[0][1]], key=lambda word: word.start)
            self.found.append(
                Command(
                    *(tuple(self._words), tuple(self._assignments), tuple(self._redirections)),
                    *(self._start + self._offset, self._end + self._offset, first.line),
                    *(self._before, after, self._keyword),
                    *(self._functions[-1][0] if self._functions else "", self._inner, self._depth),
                )
            )
            self._clear()
            self._before = after
        elif after != "\n" or self._before not in ("|", "|&", "||", "&&"):
            self._before = after
        self._keyword = ""


def _substitutions(raw: str) -> Iterator[tuple[int, int]]:
    """Return where the texts of `$(...)`, of backquotes and of `<(...)` stand in a word, the outermost ones."""
    place = 0
    quote = ""
    while place < len(raw):
        letter = raw[place]
        if letter == "\\" and quote != "'":
            place += 2
            continue
        if letter == "'" and quote != '"':
            quote = "" if quote else "'"
        elif letter == '"' and quote != "'":
            quote = "" if quote else '"'
        elif quote != "'" and letter == "`":
            end = _after_expansion(raw, place)
            yield place + 1, end - 1
            place = end
            continue
        elif quote != "'" and raw.startswith(("$(", "<(", ">("), place):
            end = _after_bracket(raw, place + 1, "(", ")")
            if not raw.startswith("$((", place):
                yield place + 2, end - 1
            place = end
            continue
        place += 1
