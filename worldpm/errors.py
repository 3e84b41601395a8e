"""The mistakes a user can make, as exceptions whose text says what was found and what to do.

WorldPMError                    caught once, at the command line: one message, exit code 2
├── ConfigError                 a key, type or value in a YAML file or an override
├── InputError                  data that is missing, damaged or in another format than announced
│   └── CheckpointError         a model folder that cannot be loaded exactly
├── ArtifactError               an output that is incomplete, or does not match its manifest
├── FitError                    points from which the asked quantity cannot be estimated
├── MissingDependencyError      an optional package, with the line that installs it
└── ServerError                 an answer of a scoring server that carries no score

Everything else that is raised is a bug and keeps its traceback.
"""


class WorldPMError(Exception):
    """A user's mistake or an outside condition; the message names it and the remedy."""


class ConfigError(WorldPMError):
    """A configuration file or override is wrong; the message names file and key."""


class InputError(WorldPMError):
    """Input data is missing, damaged or of another format; the message names the place."""


class CheckpointError(InputError):
    """A checkpoint's tensors, head or template are not what its config announces."""


class ArtifactError(WorldPMError):
    """A file or directory of our own making is incomplete or does not match its manifest."""


class FitError(WorldPMError):
    """A statistical fit is refused: too few points, no variation, outside its range."""


class MissingDependencyError(WorldPMError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'worldpm[{extra}]'")


class ServerError(WorldPMError):
    """A scoring server refused a request or answered without scores."""
