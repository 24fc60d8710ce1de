"""Dashboards: a description that people edit -> the JSON that Grafana reads, and the checks that do without Grafana."""
