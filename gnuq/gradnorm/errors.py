"""What cannot be exact is refused."""


class UnsupportedModuleError(NotImplementedError):
    """A module, or a use of a parameter, whose gradient cannot be accounted for exactly."""
