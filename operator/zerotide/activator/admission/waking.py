"""When an endpoint must be asked to wake."""

from __future__ import annotations

from zerotide.activator.admission.profile import Profile


def must_ask(profile: Profile) -> bool:
    """Tell whether a request for a sleeping endpoint needs a new wake request.

    One that is not handled yet stands for every request; a blocked endpoint is not asked.
    """
    return profile.asleep and profile.wake_handled and profile.blocked is None
