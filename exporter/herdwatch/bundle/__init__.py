"""templates -> rules, Prometheus and Alertmanager configuration, dashboards, runbook pages."""
