"""Which model a caller means by a name, and which names there are."""

from __future__ import annotations

from madang.base.errors import MadangError, NotFound, ServiceError
from madang.models import aliases
from madang.models.aliases import AliasRole
from madang.workspace import Workspace

ROLES: tuple[AliasRole, ...] = ("chat", "embed", "draw")     # those that OpenAI's protocol knows


class UnknownModel(NotFound):
    """There is no model of that name."""


def meant(workspace: Workspace, name: str, role: AliasRole) -> str:
    """"PROVIDER/MODEL"; "" where nothing is configured for the role. Raises `UnknownModel`, `InvalidInput`."""
    try:
        found = workspace.models.alias(name, role).name
    except NotFound as error:
        raise unknown(error) from None
    if found and not workspace.models.offers(found):
        raise UnknownModel(f"The model {found!r:.120} does not exist.",
                           remedy=f"Known: {', '.join(sorted(names(workspace)))}.")
    return found


def unknown(error: MadangError) -> MadangError:
    """The error of a model that was not found, as such; others as they are."""
    if isinstance(error, ServiceError) or not isinstance(error, NotFound):
        return error
    return UnknownModel(error.message, remedy=error.remedy)


def names(workspace: Workspace) -> dict[str, str]:
    """Every name that can be asked for, those of real models first, and the model that answers."""
    settings = workspace.settings
    real = [settings.models.chat, settings.models.embed, settings.models.draw, *settings.aliases.values()]
    found = {name: name for name in sorted({*real} - {""})}
    for role in ROLES:
        for name in aliases.names(settings, role):
            try:
                answers = workspace.models.alias(name, role).name
            except MadangError:
                continue       # a name of the settings that is known for another role
            if answers:
                found.setdefault(name, answers)
    return found
