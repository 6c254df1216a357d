"""The one error of the local stack."""

from neverstale.errors import Stop


class StackError(Stop):
    """Something of the local stack is missing, taken or dead: one sentence that ends with the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy
