"""``streamll chat``: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from streamll.cli.asking import ask
from streamll.cli.command import FAILED, BaseURL, Pace, Problem, in_one_line
from streamll.cli.inputs import given_inputs, named_texts
from streamll.cli.models import AUTO, PACE_S, PRACTICE, chat_model
from streamll.cli.partners import Ask, ModelPartner, Partner, ProgramPartner
from streamll.cli.run import find_function, find_served, model_for
from streamll.core.errors import StreamllError
from streamll.core.events import Event, LMWaiting, Question, ToolStart
from streamll.terminal.output import Output
from streamll.terminal.text import amount, cells, clean, fold, head, one_line, seconds

if TYPE_CHECKING:
    from streamll.chat.session import Branch, Session

MAIN = "main"
INDENT = "  "
MIN_COLUMNS = 12
MAX_COLUMNS = 100
"""Longer lines are hard to read, however wide the window."""
FENCE = '"""'
COMMAND = re.compile(r"/[^\s/]*([^\S\n].*)?")  # a path, as /etc/hosts, is none
HELP = f"""\
{FENCE} begins and ends a message of several lines; \\ at the end of a line continues it.
Ctrl-C stops a reply and keeps the partial text; Ctrl-D quits.

/history        show this branch's messages
/fork [NAME]    continue from here on a new branch
/branch [NAME]  list the branches, or switch to one
/new [NAME]     start an empty branch
/save FILE      save the conversation (load it with --session FILE)
/quit           quit"""


def chat(
    program: Annotated[
        str | None,
        Argument(
            metavar="[MODULE:PROGRAM]",
            help="A program of yours to talk with, named as for run. Default: the model itself.",
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        Option("--input", metavar="KEY=VALUE", help="Another input of the program, as for run."),
    ] = None,
    from_messages: Annotated[
        str | None,
        Option(
            metavar="MODULE:FUNCTION",
            help="The function that makes the program's inputs of the conversation's messages.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="provider/model, e.g. openai/gpt-4o-mini, or practice. Default: the provider "
            "whose key is in the environment, else a practice model on this machine.",
        ),
    ] = None,
    base_url: BaseURL = None,
    system: Annotated[
        str | None, Option(metavar="TEXT", help="How the model is to behave.")
    ] = None,
    session: Annotated[
        Path | None,
        Option(metavar="FILE", dir_okay=False, help="Go on where this file ends, and keep it so."),
    ] = None,
    pace: Pace = PACE_S,
) -> None:
    """Talk with a model, or with a program of yours."""
    if program is None and (inputs or from_messages):
        raise Problem("--input and --from-messages are for a program: name it as module:Program")
    screen = ChatScreen()
    with ExitStack() as opened:
        if program is None:
            imodel = opened.enter_context(chat_model(model or AUTO, base_url, pace))
            opened.enter_context(imodel)
            imodel.backend.config.check_key(given=False)  # practice and local servers need none
            partner: Partner = ModelPartner(imodel)
        else:
            talked_with = program_partner(program, inputs or (), from_messages)
            opened.enter_context(model_for(talked_with.served.program, model, base_url))
            partner = talked_with
        conversed = _session(session, system)
        if partner.name == PRACTICE and model is None:
            why = "No key in the environment, so a practice model on this machine answers"
            screen.note(f"{why}; streamll chat --model openai/gpt-4o-mini asks a real one.", "dim")
        screen.note(f"{clean(partner.name)} · /help lists the commands, Ctrl-D quits", "dim")
        conversation = Conversation(partner, conversed, conversed.branch(MAIN), screen, session)
        conversation.run()
    if conversation.failed and not screen.interactive:
        raise Exit(FAILED)


def program_partner(target: str, pairs: Iterable[str], from_messages: str | None) -> ProgramPartner:
    """The program that ``target`` names, and its inputs besides the conversation."""
    import msgspec

    from streamll.serve.programs import reply_of

    served = find_served(target)
    changes = {"reply": served.reply or reply_of(served.program)}
    if from_messages is not None:
        changes["from_messages"] = find_function(from_messages)
    served = msgspec.structs.replace(served, **changes)
    texts = named_texts(pairs)
    beside = [] if served.from_messages else served.takes.beside(texts)
    return ProgramPartner(served, given_inputs(target, served.takes.inputs, texts, beside))


def _session(file: Path | None, system: str | None) -> Session:
    from streamll.chat.session import Session

    try:
        session = Session.load(file) if file is not None and file.exists() else Session()
        if MAIN not in session.branches:
            session.create_branch(MAIN, system=system)
        if file is not None:  # before anything is paid for that could not be kept
            session.save(file)
    except (OSError, StreamllError) as error:
        raise Problem(f"{file}: {reason(error)}") from error
    return session


def reason(error: Exception) -> str:
    """Why a session cannot be read or written; not the name of a temporary file."""
    return in_one_line(getattr(error, "strerror", None) or str(error))


class ChatScreen:
    """The terminal; plain text without colours and prompts if stdout is not one."""

    STYLES = {"dim": "2", "user": "1;36", "error": "31", "note": "33"}  # noqa: RUF012

    def __init__(self) -> None:
        if isinstance(sys.stdin, io.TextIOWrapper):  # a byte that is no text must not end a session
            sys.stdin.reconfigure(errors="replace")
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self.has_control = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.coloured = self.has_control and not os.environ.get("NO_COLOR")
        self._output = Output()
        if self.interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - line editing for input()

    def write(self, text: str) -> None:
        self._output.write(text)
        if self._output.is_broken:  # else the model would go on answering nobody
            raise BrokenPipeError

    def say(self, text: str, style: str | None = None) -> None:
        """Write lines of our own, wrapped. Text from models and files must be cleaned before."""
        width = self.width() or sys.maxsize
        for line in text.split("\n"):
            indent = INDENT if line.startswith(INDENT) else ""
            for part in fold(line[len(indent) :], max(MIN_COLUMNS, width - 1 - len(indent))):
                self.write(f"{indent}{self.styled(part, style)}\n")

    def note(self, text: str, style: str | None = None) -> None:
        """Write a line that is no part of the conversation: beside it, where nobody reads along."""
        if self.interactive:
            self.say(text, style)
        else:
            print(text, file=sys.stderr, flush=True)

    def styled(self, text: str, style: str | None) -> str:
        if style is None or not self.coloured:
            return text
        return f"\x1b[{self.STYLES[style]}m{text}\x1b[0m"

    def width(self) -> int | None:
        """Columns to wrap at; ``None``: do not wrap."""
        return get_terminal_size().columns if self.has_control else None

    def ask(self, sign: str) -> str:
        """One line from the user. Raises ``EOFError`` and ``KeyboardInterrupt``."""
        if not self.interactive:
            if not (line := sys.stdin.readline()):
                raise EOFError
            return line.removesuffix("\n")
        prompt = f"{sign} "
        if self.coloured:  # readline must not count what takes no room
            prompt = f"\x01\x1b[{self.STYLES['user']}m\x02{sign}\x01\x1b[0m\x02 "
        return input(prompt)


@dataclass(eq=False)
class TypingOut:
    """Writes the pieces of text that are added, each at once.

    A word that grows past the margin moves to the next line, for which the last line is rewritten.
    ``width`` is called for each piece; where it returns ``None``, nothing is wrapped or rewritten.
    Every line begins with ``indent``, which takes ``indent_width`` columns (default: its length;
    needed where it has escape sequences).
    """

    write: Callable[[str], None]
    width: Callable[[], int | None]
    indent: str
    indent_width: int | None = None
    _line: str | None = field(init=False, default=None)

    def add(self, text: str) -> None:
        for number, line in enumerate(clean(text).split("\n")):
            if number:
                self.write("\n")
                self._line = None
            self._extend(line)

    def end(self) -> None:
        if self._line is not None:
            self.write("\n")
            self._line = None

    def _extend(self, text: str) -> None:
        if not text:
            return
        before = self._line
        if before is None:
            before = self._line = ""
            self.write(self.indent)
        width = self.width()
        if width is None:
            self.write(text)
            return
        taken = cells(self.indent) if self.indent_width is None else self.indent_width
        room = max(MIN_COLUMNS, min(width - 1, MAX_COLUMNS) - taken)
        lines = fold(before + text, room)
        if lines[0].startswith(before):
            self.write(lines[0][len(before) :])
        else:
            self.write(f"\r\x1b[K{self.indent}{lines[0]}")
        for line in lines[1:]:
            self.write(f"\n{self.indent}{line}")
        self._line = lines[-1]


class WaitingLine:
    """A line that says a reply is on its way; ``end`` erases it before the first chunk.

    As a sink of the reply's run it shows retries, and the tools that a program calls. ``put`` is
    called on the run's thread.
    """

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._ended = not (screen.interactive and screen.has_control)

    def put(self, event: Event) -> None:
        if isinstance(event, ToolStart):
            self.show(f"… {one_line(event.name)}")
        elif isinstance(event, LMWaiting) and event.reason == "retry" and event.delay is not None:
            text = f"… retrying in {seconds(event.delay)}"
            if self._screen.interactive and self._screen.has_control:
                self.show(text)
            else:
                self._screen.note(text)

    def end(self) -> None:
        with self._lock:
            if not self._ended:
                self._screen.write("\r\x1b[K")
            self._ended = True

    def show(self, text: str) -> None:
        with self._lock:
            if not self._ended:
                line = head(f"{INDENT}{text}", max(MIN_COLUMNS, (self._screen.width() or 80) - 1))
                self._screen.write(f"\r\x1b[K{self._screen.styled(line, 'dim')}")


@dataclass
class Conversation:
    """One user, who answers, the branches of one session."""

    partner: Partner
    session: Session
    branch: Branch
    screen: ChatScreen
    file: Path | None
    failed: bool = False
    """A reply failed or could not be saved."""

    def run(self) -> None:
        """Read and answer until the user quits."""
        while True:
            try:
                text = self._read()
            except EOFError:
                if self.screen.interactive:
                    self.screen.write("\n")
                return
            except KeyboardInterrupt:  # at the prompt: discard the line
                if not self.screen.interactive:
                    raise
                self.screen.write("\n")
                continue
            if COMMAND.fullmatch(text):
                if not self._command(*text[1:].split(maxsplit=1)):
                    return
            elif text.strip():
                self._turn(text)

    def _read(self) -> str:
        """Read a message of one or several lines."""
        if self.screen.interactive:
            self.screen.write("\n")
        line = self.screen.ask("›")
        if line.lstrip().startswith(FENCE):
            lines = [line.lstrip().removeprefix(FENCE)]
            while not lines[-1].rstrip().endswith(FENCE):
                if (more := self._more()) is None:
                    break
                lines.append(more)
            lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
            return "\n".join(lines).strip("\n")
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            if (more := self._more()) is None:
                break
            lines.append(more)
        return "\n".join(lines)

    def _more(self) -> str | None:
        """The message's next line; ``None`` where a pipe ends first, and with it the message."""
        try:
            return self.screen.ask("·")
        except EOFError:
            if self.screen.interactive:
                raise
            return None

    def _turn(self, text: str) -> None:
        """Answer, and keep what came of it. An error is told; the conversation continues."""
        try:
            self._answer(text)
        finally:
            try:
                self._save()
            except (StreamllError, OSError) as error:
                self.screen.note(f"{INDENT}not saved: {reason(error)}", "error")
                self.failed = True

    def _answer(self, text: str) -> None:
        screen = self.screen
        waiting = WaitingLine(screen)
        written = TypingOut(screen.write, screen.width, INDENT if screen.interactive else "")
        asks = self._asking_between(waiting, written)
        turn = self.partner.turn(self.session, self.branch, text, waiting, asks)
        if screen.interactive:
            screen.write("\n")
        try:
            waiting.show("…")
            with turn:
                for chunk in turn:
                    waiting.end()
                    written.add(chunk)
        except KeyboardInterrupt:
            if not screen.interactive:
                raise
            ending, style = "stopped; the partial reply is kept", "note"
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - the conversation continues
            problem = one_line(str(error).partition("\n")[0])
            ending, style = f"{type(error).__name__}: {problem}", "error"
            self.failed = True
        else:
            ending, style = (self.partner.summary(turn), "dim") if screen.interactive else ("", "")
        finally:
            waiting.end()
            written.end()
        if style == "dim":
            screen.write("\n")
        if ending:
            screen.note(f"{INDENT}{ending}", style)

    def _asking_between(self, waiting: WaitingLine, written: TypingOut) -> Ask | None:
        """What asks the questions of a program, if somebody is there."""

        def asks(question: Question, run: Any) -> None:
            waiting.end()
            written.end()
            ask(self.screen, question, run)

        return asks if self.screen.interactive else None

    def _command(self, name: str = "", argument: str = "") -> bool:
        """Run a ``/`` command. False: quit."""
        commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: self.screen.say(HELP),
            "history": lambda _: self._history(),
            "fork": lambda name: self._switch_to(self.session.fork(self.branch, name or None)),
            "branch": self._branch,
            "new": lambda name: self._switch_to(self.session.create_branch(name or None)),
            "save": self._save_as,
        }
        try:
            if name in commands:
                commands[name](argument.strip())
            elif name in {"quit", "exit", "q"}:
                return False
            else:
                problem = f"unknown command /{one_line(name)}; /help lists the commands"
                self.screen.note(problem, "error")
        except (StreamllError, OSError) as error:
            self.screen.note(reason(error), "error")
        return True

    def _history(self) -> None:
        from streamll.chat.messages import Role

        for message in self.session.history(self.branch):
            sign = self.screen.styled("›", "user") + " " if message.role is Role.USER else INDENT
            ending = getattr(message.content, "ending", "complete")
            mark = "" if ending == "complete" else f" [{ending}]"
            written = TypingOut(self.screen.write, self.screen.width, sign, len(INDENT))
            written.add(message.text + mark)
            written.end()

    def _switch_to(self, branch: Branch) -> None:
        self.branch = branch
        self.screen.say(f"on branch {clean(branch.name)}", "dim")
        self._save()

    def _branch(self, name: str) -> None:
        if name:
            self.branch = self.session.branch(name)
        for each in self.session.branches:
            here = "*" if each == self.branch.name else " "
            count = amount(len(self.session.branches[each]), "message")
            self.screen.say(f"{here} {clean(each)}  {count}", None if here == "*" else "dim")

    def _save_as(self, path: str) -> None:
        file = Path(path) if path else self.file
        if file is None:
            raise StreamllError("/save needs a file name")
        self.session.save(file)
        self.file = file
        self.screen.say(f"saved in {file}", "dim")

    def _save(self) -> None:
        if self.file is not None:
            self.session.save(self.file)
