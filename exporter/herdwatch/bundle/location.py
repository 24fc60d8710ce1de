"""The one answer to: where is the bundle?"""

from __future__ import annotations

from pathlib import Path

import herdwatch

CONTENT_ROOMS = ("alerts", "dashboards", "runbooks")


def bundle_root() -> Path:
    """The folder that holds alerts/, dashboards/, runbooks/ and herdwatch.yaml.

    That is `_bundle` beside the code in an installed wheel, and the top of the checkout otherwise.
    """
    package = Path(herdwatch.__file__).parent
    installed = package / "_bundle"
    return installed if installed.is_dir() else package.parent.parent
