"""What the rules would have done on the history that somebody's own Prometheus remembers."""

from herdwatch.prometheus import Access
from herdwatch.proof.backtest.backtesting import Backtest, run
from herdwatch.proof.backtest.report import as_json, as_text
from herdwatch.proof.backtest.request import Request, of_config, of_rules
from herdwatch.proof.backtest.times import evaluation, period

__all__ = [
    "Access",
    "Backtest",
    "Request",
    "as_json",
    "as_text",
    "evaluation",
    "of_config",
    "of_rules",
    "period",
    "run",
]
