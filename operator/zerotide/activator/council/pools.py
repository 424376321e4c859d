"""Limits that all members keep together, such as that of a consumer's requests: exact, and mostly without a word.

Each name has one keeper among the leaders, which lends parts of its limit to members that use it. What is lent and
free is fetched back where somebody else wants it, and only then anyone is refused. A keeper lends nothing before every
member told it, for the present leaders, what it uses. Where a member cannot be reached, both sides keep to its share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from zerotide.activator.admission.shares import share_of_limit
from zerotide.activator.council.membership import owner_of
from zerotide.activator.council.messages import Common, Deny, Fetch, Give, Message, Return, Told, Want

BATCH = 16
"""How many are lent at once, at most."""
Done = Callable[[bool], None]


class _Account:
    """What this member uses of one name, and has."""

    __slots__ = ("asked", "fetched", "keeper", "lent", "limit", "turn", "used", "waiting")

    def __init__(self, keeper: str, turn: int) -> None:
        self.keeper, self.turn = keeper, turn
        self.used = self.lent = self.limit = 0
        self.asked = self.fetched = False
        self.waiting: deque[Done] = deque()

    def begin(self, keeper: str, turn: int) -> None:
        """Have another keeper, or the same one anew."""
        self.keeper, self.turn = keeper, turn
        self.lent, self.asked, self.fetched = self.used, False, False


class _Loan:
    """What a member has of one name."""

    __slots__ = ("fetched", "lent", "turn")

    def __init__(self, turn: int, lent: int) -> None:
        self.turn, self.lent = turn, lent
        self.fetched = False


class _Book:
    """What a keeper knows of one name."""

    __slots__ = ("asks", "fetching", "loans")

    def __init__(self) -> None:
        self.loans: dict[str, _Loan] = {}
        self.asks: deque[tuple[str, int]] = deque()
        self.fetching: set[str] = set()


class Pools:
    """Count requests by name, each under a limit that comes with the request; `say` sends to a linked member."""

    def __init__(self, me: str, say: Callable[[str, Message], None]) -> None:
        self._me, self._say = me, say
        self._leaders: tuple[str, ...] = (me,)
        self._names: tuple[str, ...] = (me,)
        self._talks = False
        self._linked: set[str] = set()
        self._lost: set[str] = set()
        """Those that could not be reached for so long that they keep to their share."""
        self._told: dict[str, tuple[str, ...]] = {}
        self._accounts: dict[str, _Account] = {}
        self._books: dict[str, _Book] = {}
        self._turns = 0
        self._settled = True
        self._split: float | None = None
        """Since when members that can talk have disagreed about who leads."""
        self._apart = False
        """Whether they have for so long that everyone keeps to its share."""

    # Requests

    def take(self, name: str, limit: int) -> bool:
        """Count a request where that is certain at once."""
        account = self._open(name, limit)
        if not account.waiting and self._take(name, account):
            return True
        self._tidy(name)
        return False

    def enter(self, name: str, limit: int, done: Done) -> None:
        """Count a request and call `done` with True, or with False where the limit is reached; maybe later."""
        account = self._open(name, limit)
        if not account.waiting and self._take(name, account):
            done(True)
            return
        account.waiting.append(done)
        self._pursue(name, account)

    def leave(self, name: str) -> None:
        """Count a request no longer."""
        account = self._accounts[name]
        account.used -= 1
        if account.keeper == self._me or account.keeper not in self._linked:
            account.lent = account.used
            if account.waiting or name in self._books:
                self._pursue(name, account)
        elif account.waiting and account.used < account.lent:
            account.used += 1
            account.waiting.popleft()(True)
        elif account.fetched:
            account.lent -= 1
            self._say(account.keeper, Return(name, account.turn, 1, False))
        if not account.used:
            self._tidy(name)

    def count(self, name: str) -> int:
        """Return how many requests a name has here."""
        account = self._accounts.get(name)
        return account.used if account is not None else 0

    # Members

    def set_members(self, leaders: Iterable[str], names: Iterable[str], talks: bool) -> None:
        """Take in who leads, who is there, and whether members can talk at all."""
        before = self._leaders
        self._leaders, self._names, self._talks = tuple(leaders), tuple(names), talks
        gone = {name for book in self._books.values() for name in book.loans} - {*self._names} - self._linked
        for name in gone:
            self._forget(name)
        self._lost &= {*self._names}
        if before != self._leaders:
            changed = set()
            for name, account in self._accounts.items():
                keeper = owner_of(f"pool {name}", self._leaders)
                if keeper != account.keeper:
                    self._turns += 1
                    account.begin(keeper, self._turns)
                    changed.add(name)
            for member in self._linked:
                self._tell(member, changed)
            for member, leaders in self._told.items():
                if leaders == self._leaders:
                    self._release(member, self._leaders)
        self._look()

    def attach(self, member: str) -> None:
        """Tell a member that can be talked to what is used of its names."""
        self._linked.add(member)
        self._lost.discard(member)
        for account in self._accounts.values():
            if account.keeper == member:
                self._turns += 1
                account.begin(member, self._turns)
        self._tell(member, self._accounts)
        self._look()

    def detach(self, member: str, there: bool) -> None:
        """Take in that a member cannot be talked to; `there` where it may still use what it has."""
        self._linked.discard(member)
        self._told.pop(member, None)
        if not there:
            self._forget(member)
        for book in self._books.values():
            book.fetching.discard(member)
            book.asks = deque(ask for ask in book.asks if ask[0] != member)
        for account in self._accounts.values():
            if account.keeper == member:
                account.begin(member, account.turn)
        self._look()

    def give_up(self, member: str) -> None:
        """Keep to shares with a member that could not be reached for long."""
        if member not in self._lost and member not in self._linked:
            self._lost.add(member)
            self._look()

    def tick(self, now: float, patience: float) -> None:
        """Keep to shares where members have disagreed for `patience` seconds."""
        if self._settled:
            self._split = None
        elif self._split is None:
            self._split = now
        apart = self._split is not None and now - self._split >= patience
        if apart is not self._apart:
            self._apart = apart
            self._look()

    def give_back_idle(self) -> None:
        """Give back what is lent and not used."""
        for name, account in list(self._accounts.items()):
            if not account.used and not account.waiting and account.lent and account.keeper in self._linked:
                self._say(account.keeper, Return(name, account.turn, account.lent, False))
                account.lent = 0
            self._tidy(name)

    def receive(self, member: str, message: Common) -> None:
        """Take in what a member says."""
        match message:
            case Told():
                self._release(member, tuple(message.leaders) if member in self._told else ())
                self._told[member] = tuple(message.leaders)
                for name, (turn, used) in message.used.items():
                    self._book(name).loans[member] = _Loan(turn, used)
                self._look()
            case Want():
                self._wanted(member, message)
            case Return():
                self._returned(member, message)
            case _:
                account = self._accounts.get(message.name)
                if account is not None and account.turn == message.turn and account.keeper == member:
                    self._answered(message, account)
                elif isinstance(message, Fetch):
                    self._say(member, Return(message.name, message.turn, 0, True))

    # The member's side

    def _open(self, name: str, limit: int) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            self._turns += 1
            account = self._accounts[name] = _Account(owner_of(f"pool {name}", self._leaders), self._turns)
        account.limit = limit
        return account

    def _take(self, name: str, account: _Account) -> bool:
        if self._apart:
            most = share_of_limit(account.limit, self._me, self._names)
        elif account.keeper == self._me and self._settled:
            most = account.limit - (self._lent(name, account.limit) if self._books or self._lost else 0)
        elif account.keeper != self._me and account.keeper in self._linked:
            most = account.lent
        elif not self._talks or account.keeper in self._lost:
            most = share_of_limit(account.limit, self._me, self._names)
        else:
            return False
        if account.used >= most:
            return False
        account.used += 1
        return True

    def _pursue(self, name: str, account: _Account) -> None:
        """Go on for those who wait."""
        if self._apart:
            while account.waiting:
                account.waiting.popleft()(self._take(name, account))
        elif account.keeper == self._me:
            if self._settled:
                self._serve(name)
        elif account.keeper in self._linked:
            while account.waiting and account.used < account.lent:
                account.used += 1
                account.waiting.popleft()(True)
            if account.waiting and not account.asked:
                account.asked = True
                self._say(account.keeper, Want(name, account.turn, account.limit))
        elif not self._talks or account.keeper in self._lost:
            while account.waiting:
                account.waiting.popleft()(self._take(name, account))

    def _answered(self, message: Give | Deny | Fetch, account: _Account) -> None:
        match message:
            case Give():
                account.asked = account.fetched = False
                account.lent += message.number
                self._pursue(message.name, account)
            case Deny():
                account.asked = False
                waiting, account.waiting = account.waiting, deque()
                for done in waiting:
                    done(False)
            case Fetch():
                free, account.lent, account.fetched = account.lent - account.used, account.used, True
                self._say(account.keeper, Return(message.name, account.turn, free, True))
        self._tidy(message.name)

    def _tell(self, member: str, names: Iterable[str]) -> None:
        accounts = ((name, self._accounts[name]) for name in names)
        used = {name: [account.turn, account.used] for name, account in accounts if account.keeper == member}
        self._say(member, Told(list(self._leaders), used))

    def _tidy(self, name: str) -> None:
        account, book = self._accounts.get(name), self._books.get(name)
        if account is not None and not (account.used or account.waiting or account.asked):
            empty = account.keeper == self._me or not account.lent or account.keeper not in self._linked
            if empty:
                del self._accounts[name]
        if book is not None and not book.asks and not any(loan.lent for loan in book.loans.values()):
            del self._books[name]

    # The keeper's side

    def _agreed(self) -> bool:
        """Tell whether every member has told what it uses, or keeps to its share."""
        others = ({*self._names} | self._linked) - {self._me} - self._lost
        return all(self._told.get(name) == self._leaders for name in others)

    def _book(self, name: str) -> _Book:
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = _Book()
        return book

    def _lent(self, name: str, limit: int) -> int:
        book = self._books.get(name)
        loans = {member: loan.lent for member, loan in book.loans.items()} if book is not None else {}
        for member in self._lost:
            loans[member] = max(loans.get(member, 0), share_of_limit(limit, member, self._names))
        return sum(loans.values())

    def _wanted(self, member: str, want: Want) -> None:
        book = self._book(want.name)
        loan = book.loans.get(member)
        if loan is None or loan.turn != want.turn:
            loan = book.loans[member] = _Loan(want.turn, 0)
        if self._apart:
            # Whoever asks may see no disagreement, and would refuse where its own share has room.
            free = share_of_limit(want.limit, member, self._names) - loan.lent
            if free > 0:
                loan.lent += (number := min(free, BATCH))
                self._say(member, Give(want.name, want.turn, number))
            else:
                self._say(member, Deny(want.name, want.turn))
            return
        book.asks.append((member, want.limit))
        if owner_of(f"pool {want.name}", self._leaders) == self._me and self._settled:
            self._serve(want.name)

    def _returned(self, member: str, message: Return) -> None:
        book = self._books.get(message.name)
        loan = book.loans.get(member) if book is not None else None
        if book is not None and message.fetched:
            book.fetching.discard(member)
        if loan is not None and loan.turn == message.turn:
            loan.lent = max(loan.lent - message.number, 0)
        if self._settled:  # else nobody knows yet what there is, and who waits must not be refused for that
            self._serve(message.name)
        else:
            self._tidy(message.name)

    def _serve(self, name: str) -> None:
        """Give to those who wait, fetch what is free elsewhere, and refuse once there is nothing."""
        account = self._accounts.get(name)
        while account is not None and account.keeper == self._me and account.waiting:
            if self._take(name, account):
                account.waiting.popleft()(True)
            elif self._fetch(name, self._me):
                break
            else:
                account.waiting.popleft()(False)
        book = self._books.get(name)
        while book is not None and book.asks:
            member, limit = book.asks[0]
            used = account.used if account is not None else 0
            free = limit - used - self._lent(name, limit)
            loan = book.loans.get(member)
            if free > 0 and loan is not None:
                book.asks.popleft()
                number = max(1, min(free // (len(self._names) + 1), BATCH))
                loan.lent += number
                loan.fetched = False
                self._say(member, Give(name, loan.turn, number))
            elif self._fetch(name, member):
                break
            else:
                book.asks.popleft()
                self._say(member, Deny(name, loan.turn if loan is not None else 0))
        self._tidy(name)

    def _fetch(self, name: str, wanting: str) -> bool:
        """Fetch what members may have free; tell whether any may."""
        book = self._books.get(name)
        if book is None:
            return False
        for member, loan in book.loans.items():
            if member != wanting and loan.lent and not loan.fetched and member in self._linked:
                loan.fetched = True
                book.fetching.add(member)
                self._say(member, Fetch(name, loan.turn))
        return bool(book.fetching)

    def _release(self, member: str, leaders: tuple[str, ...]) -> None:
        """Forget what a member had of names that are not kept here with these leaders (none: of all)."""
        for name, book in self._books.items():
            if not leaders or owner_of(f"pool {name}", leaders) != self._me:
                book.loans.pop(member, None)
                book.fetching.discard(member)

    def _forget(self, member: str) -> None:
        for name in list(self._books):
            book = self._books[name]
            book.loans.pop(member, None)
            book.fetching.discard(member)
            self._tidy(name)

    def _look(self) -> None:
        """Go on with everything after somebody came, went, or told."""
        self._settled = self._agreed()
        for name, account in list(self._accounts.items()):
            if account.waiting:
                self._pursue(name, account)
        if self._settled:
            for name in list(self._books):
                if owner_of(f"pool {name}", self._leaders) == self._me:
                    self._serve(name)
